//! Prints descriptions: a paragraph per partition for people, or one JSON document for programs.

use super::partition::Description;
use schemas::{owners::Entry, topics::TopicPartition};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

/// The report of all partitions.
#[derive(Serialize)]
pub struct Report {
    alarms: usize,
    partitions: Vec<Partition>,
}

/// One partition; `daybook journal describe --help` documents the fields.
#[derive(Debug, Serialize)]
struct Partition {
    topic: &'static str,
    partition: i32,
    log_id: Option<String>,
    owner_url: Option<String>,
    epoch: i64,
    term: Option<String>,
    since: Option<String>,
    rule_version: Option<i32>,
    partitions: Option<i32>,
    log_end: i64,
    read_to: i64,
    last_offset: Option<i64>,
    last_seq: Option<i64>,
    last_hash: String,
    behind: u64,
    records: u64,
    announcements: u64,
    no_ops: u64,
    decisions: u64,
    void: BTreeMap<&'static str, u64>,
    log_time: Option<String>,
    directory: Option<Entry>,
    directory_lag: Option<i64>,
    alarm: Option<Alarm>,
}

#[derive(Debug, Serialize)]
struct Alarm {
    name: &'static str,
    text: String,
}

impl Report {
    /// Reports descriptions together with the entries of `journal.owners`.
    pub fn new(descriptions: Vec<Description>, entries: &HashMap<TopicPartition, Entry>) -> Self {
        let partitions: Vec<Partition> = descriptions
            .into_iter()
            .map(|description| {
                let entry = entries.get(&description.topic_partition).cloned();
                Partition::new(description, entry)
            })
            .collect();
        let alarms = partitions.iter().filter(|one| one.alarm.is_some()).count();
        Self { alarms, partitions }
    }

    /// Number of partitions that can't be read to their end.
    pub fn alarms(&self) -> usize {
        self.alarms
    }

    /// Writes one JSON document.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes text for people; its last line is a summary.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for partition in &self.partitions {
            partition.write_text(out)?;
        }
        let (count, alarms) = (self.partitions.len(), self.alarms);
        writeln!(out, "described {count} partitions, {alarms} alarms")
    }
}

impl Partition {
    fn new(description: Description, directory: Option<Entry>) -> Self {
        let TopicPartition { topic, partition } = description.topic_partition;
        let state = description.rule.checkpoint();
        let has_valid_records = state.log_id.is_some();
        let term = description.term;
        let directory_lag = directory.as_ref().map(|entry| state.epoch - entry.epoch);
        Self {
            topic,
            partition,
            log_id: state.log_id.map(hex::encode),
            epoch: state.epoch,
            term: has_valid_records.then(|| hex::encode(state.term)),
            since: term.as_ref().map(|term| term.since.to_string()),
            rule_version: term.as_ref().map(|term| term.rule_version),
            partitions: term.as_ref().map(|term| term.partitions),
            owner_url: term.map(|term| term.owner_url),
            log_end: description.end,
            read_to: state.next_offset,
            last_offset: state.probe_offset,
            last_seq: has_valid_records.then_some(state.seq),
            last_hash: hex::encode(state.hash),
            behind: description.behind,
            records: description.records,
            announcements: description.announcements,
            no_ops: description.no_ops,
            decisions: description.decisions,
            log_time: (state.log_time.0 > 0).then(|| state.log_time.to_string()),
            void: description.void,
            directory,
            directory_lag,
            alarm: description.alarm.map(|alarm| Alarm {
                name: alarm.name,
                text: alarm.text,
            }),
        }
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}/{}", self.topic, self.partition)?;
        let mut line = |name: &str, text: String| writeln!(out, "  {name:<11} {text}");
        let none = || "none".to_owned();
        line("log id", self.log_id.clone().unwrap_or_else(none))?;
        let owner = match (&self.owner_url, &self.term, &self.since) {
            (Some(url), Some(term), Some(since)) => {
                format!("{url}, epoch {} (term {term}) since {since}", self.epoch)
            }
            _ => none(),
        };
        line("owner", owner)?;
        line("directory", self.directory_text())?;
        line("log", self.log_text())?;
        if let (Some(offset), Some(seq)) = (self.last_offset, self.last_seq) {
            let hash = &self.last_hash;
            line(
                "last valid",
                format!("offset {offset}, seq {seq}, hash {hash}"),
            )?;
        }
        line("log time", self.log_time.clone().unwrap_or_else(none))?;
        if let (Some(version), Some(partitions)) = (self.rule_version, self.partitions) {
            line(
                "rule",
                format!("version {version}, for {partitions} partitions"),
            )?;
        }
        if let Some(alarm) = &self.alarm {
            line("ALARM", format!("{}: {}", alarm.name, alarm.text))?;
        }
        writeln!(out)
    }

    /// The length of the log, and the numbers of valid and void records.
    fn log_text(&self) -> String {
        let valid = self.announcements + self.no_ops + self.decisions;
        let reasons = self.void.iter();
        let reasons: Vec<String> = reasons
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let void = match reasons.is_empty() {
            true => "none void".to_owned(),
            false => format!(
                "{} void ({}), {} of them after the last valid record",
                self.void.values().sum::<u64>(),
                reasons.join(", "),
                self.behind
            ),
        };
        format!(
            "ends at {}, read to {}: {valid} valid ({} announcements, {} no-ops, {} decisions), {void}",
            self.log_end, self.read_to, self.announcements, self.no_ops, self.decisions
        )
    }

    /// The entry of `journal.owners`, compared with the owner.
    fn directory_text(&self) -> String {
        match (&self.directory, self.directory_lag) {
            (Some(entry), Some(0)) if Some(&entry.url) == self.owner_url.as_ref() => {
                "names this owner".to_owned()
            }
            (Some(entry), Some(lag)) => {
                let (epoch, url) = (entry.epoch, &entry.url);
                format!("names {url}, epoch {epoch}: {lag} behind")
            }
            (Some(_), None) | (None, _) => "has no entry".to_owned(),
        }
    }
}
