//! The report of `daybook audit verify`: a table for people, or one JSON document.

use crate::{
    check::PartitionReport,
    finding::{Finding, Problem},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// The outcome of a verification.
#[derive(Debug, Default)]
pub struct Report {
    /// Ordered by topic and partition.
    pub partitions: Vec<PartitionReport>,
    /// The first findings that do not concern a single partition.
    pub findings: Vec<Finding>,
    /// Number of all those findings.
    pub findings_total: u64,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    commits: u64,
    findings_total: u64,
    partitions: Vec<JsonPartition<'a>>,
    findings: Vec<&'a Finding>,
}

#[derive(Serialize)]
struct JsonPartition<'a> {
    topic: &'a str,
    partition: i32,
    records: u64,
    valid: u64,
    epochs: u64,
    no_ops: u64,
    decisions: u64,
    events: u64,
    aggregates: usize,
    void: &'a BTreeMap<&'static str, u64>,
    not_judged: u64,
    log_id: Option<String>,
    last_valid_offset: Option<i64>,
    last_hash: String,
    next_offset: i64,
    notes: Vec<String>,
}

impl Report {
    /// Number of valid commits in all partitions.
    pub fn commits(&self) -> u64 {
        let commits = self
            .partitions
            .iter()
            .map(|partition| partition.counts.commits());
        commits.sum()
    }

    /// Number of findings.
    pub fn findings_total(&self) -> u64 {
        let partitions = self
            .partitions
            .iter()
            .map(|partition| partition.findings_total);
        partitions.sum::<u64>() + self.findings_total
    }

    /// The findings that were kept.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let partitions = self.partitions.iter();
        partitions
            .flat_map(|partition| &partition.findings)
            .chain(&self.findings)
    }

    /// Whether the only finding is that the registry lost schemas. Then no fault was found in the log, but not all
    /// decisions were verified.
    pub fn lacks_schemas_only(&self) -> bool {
        let mut findings = self.findings();
        self.findings_total() == 1
            && findings.all(|one| matches!(one.problem, Problem::RegistryLostData { .. }))
    }

    /// `verified N commits in P partitions, F findings`.
    pub fn summary(&self) -> String {
        format!(
            "verified {} commits in {} partitions, {} findings",
            self.commits(),
            self.partitions.len(),
            self.findings_total()
        )
    }

    /// Writes the report for people; the summary is the last line.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_counts(out)?;
        for partition in &self.partitions {
            write_chain(partition, out)?;
        }
        for partition in &self.partitions {
            for note in &partition.notes {
                writeln!(out, "note: {} {note}", partition.name)?;
            }
        }
        for finding in self.findings() {
            writeln!(out, "FINDING {}: {finding}", finding.problem.name())?;
        }
        let hidden = self.findings_total() - self.findings().count() as u64;
        if hidden > 0 {
            writeln!(out, "{hidden} more findings are not shown")?;
        }
        writeln!(out, "{}", self.summary())
    }

    fn write_counts(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<24} {:>10} {:>10} {:>8} {:>7} {:>10} {:>10} {:>9}",
            "partition", "records", "valid", "void", "epochs", "aggregates", "events", "findings"
        )?;
        for partition in &self.partitions {
            let counts = &partition.counts;
            writeln!(
                out,
                "{:<24} {:>10} {:>10} {:>8} {:>7} {:>10} {:>10} {:>9}",
                partition.name.to_string(),
                counts.records,
                counts.valid(),
                counts.void_total(),
                counts.announcements,
                partition.aggregates,
                counts.events,
                partition.findings_total
            )?;
        }
        writeln!(out)
    }

    /// Writes the report as one JSON document.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let report = JsonReport {
            commits: self.commits(),
            findings_total: self.findings_total(),
            partitions: self.partitions.iter().map(json_partition).collect(),
            findings: self.findings().collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)
    }
}

/// Writes the hashes, for comparison with a later verification, and the counts that are not in the table.
fn write_chain(partition: &PartitionReport, out: &mut impl Write) -> io::Result<()> {
    let name = partition.name.to_string();
    match (partition.log_id, partition.last_valid) {
        (Some(log_id), Some(offset)) => {
            writeln!(out, "{name:<24} log id    {}", hex::encode(log_id))?;
            writeln!(
                out,
                "{:<24} last hash {} at offset {offset}",
                "",
                hex::encode(partition.last_hash)
            )?;
        }
        _ => writeln!(out, "{name:<24} no valid record")?,
    }
    let counts = &partition.counts;
    if !counts.void.is_empty() {
        let reasons: Vec<String> = counts
            .void
            .iter()
            .map(|(reason, records)| format!("{reason} {records}"))
            .collect();
        writeln!(out, "{:<24} void      {}", "", reasons.join(", "))?;
    }
    if counts.not_judged > 0 {
        writeln!(out, "{:<24} not judged {}", "", counts.not_judged)?;
    }
    Ok(())
}

fn json_partition(partition: &PartitionReport) -> JsonPartition<'_> {
    let counts = &partition.counts;
    JsonPartition {
        topic: &partition.name.topic,
        partition: partition.name.partition,
        records: counts.records,
        valid: counts.valid(),
        epochs: counts.announcements,
        no_ops: counts.no_ops,
        decisions: counts.decisions,
        events: counts.events,
        aggregates: partition.aggregates,
        void: &counts.void,
        not_judged: counts.not_judged,
        log_id: partition.log_id.map(hex::encode),
        last_valid_offset: partition.last_valid,
        last_hash: hex::encode(partition.last_hash),
        next_offset: partition.next_offset,
        notes: partition.notes.iter().map(ToString::to_string).collect(),
    }
}
