//! The command: chooses the partitions, describes them, and returns the exit code.

use super::{
    directory::entries,
    partition::Description,
    reading::{ReadError, read},
    report::Report,
};
use kafka::{Admin, KafkaSettings, Span, admin::AdminError};
use schemas::{CONTEXTS, owners::parse_key, topics::TopicPartition};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// A partition can't be read to its end.
const EXIT_ALARM: u8 = 1;
/// Kafka is unreachable, or the partition does not exist.
const EXIT_UNREADABLE: u8 = 2;

/// Documentation of the output of `--json`.
const FIELDS: &str = "\
With --json, one document: {\"alarms\": N, \"partitions\": [..]}, with an object per partition:
  topic, partition  name of the partition
  log_id            identifies the log: the chain's hash of its first valid record, hex; null: no valid record
  owner_url         URL at which the owner of the current term accepts commands; null: no term
  epoch, term       the current term's number and its random id, hex
  since             time at which the broker appended the term's announcement, RFC 3339
  rule_version      version of the rule, according to the announcement
  partitions        number of partitions of the topic, according to the announcement
  log_end           offset of the next record at the time when reading began
  read_to           offset before which every record was judged
  last_offset       offset of the last valid record
  last_seq          the last valid record's number within its term
  last_hash         the chain's hash after the last valid record, hex
  behind            number of records after the last valid record, all void
  records           number of records that were read
  announcements, no_ops, decisions
                    numbers of valid records by kind
  void              numbers of void records by reason
  log_time          latest time of a valid commit, RFC 3339
  directory         entry of journal.owners: {epoch, term, url}; null: no entry
  directory_lag     number of epochs by which the entry is behind the log; negative: ahead
  alarm             {name, text}: the reason why the partition cannot be read further; null: no alarm";

/// Describe journal partitions: owner, length, void records
///
/// Exit codes: 0: every partition can be read to its end; 1: at least one partition cannot; 2: Kafka is unreachable, or
/// the partition does not exist.
#[derive(Debug, clap::Args)]
#[command(after_long_help = FIELDS)]
pub struct Args {
    /// Describe only this partition, such as journal.orders/0 [default: every partition of every journal]
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_name)]
    partition: Option<TopicPartition>,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// Reasons why partitions can't be described.
#[derive(Debug, thiserror::Error)]
enum DescribeError {
    /// Kafka can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The broker does not have the partition.
    #[error("no such partition: {topic}/{partition}; {topic} has partitions 0 to {last}")]
    NoSuchPartition {
        topic: &'static str,
        partition: i32,
        /// The topic's last partition.
        last: i32,
    },
}

impl From<AdminError> for DescribeError {
    fn from(error: AdminError) -> Self {
        Self::Read(error.into())
    }
}

fn parse_name(name: &str) -> Result<TopicPartition, String> {
    parse_key(name.as_bytes()).ok_or_else(|| {
        let topics = CONTEXTS.map(|context| context.topic).join(", ");
        format!("name a partition as TOPIC/PARTITION; topics: {topics}")
    })
}

/// Describes partitions. Errors of reading are printed on standard error and decide the exit code; they are
/// not returned.
pub async fn run(args: Args, kafka: &KafkaSettings) -> anyhow::Result<ExitCode> {
    let report = match describe(args.partition, kafka).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(EXIT_UNREADABLE));
        }
    };
    match print(&report, args.json) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) if report.alarms() == 0 => Ok(ExitCode::SUCCESS),
        Ok(()) | Err(_) => Ok(ExitCode::from(EXIT_ALARM)),
    }
}

fn print(report: &Report, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match as_json {
        true => report.write_json(&mut out)?,
        false => report.write_text(&mut out)?,
    }
    out.flush()
}

async fn describe(
    named: Option<TopicPartition>,
    kafka: &KafkaSettings,
) -> Result<Report, DescribeError> {
    let admin = Admin::new(kafka)?;
    let topic_partitions = match named {
        Some(named) => {
            check_exists(named, admin.partitions(named.topic).await?)?;
            vec![named]
        }
        None => all_partitions(&admin).await?,
    };
    let mut descriptions = Vec::with_capacity(topic_partitions.len());
    for topic_partition in topic_partitions {
        let TopicPartition { topic, partition } = topic_partition;
        let span = Span::measure(&admin, topic, partition).await?;
        let mut description = Description::begin(topic_partition, span.low, span.end);
        if description.is_readable() {
            let read_to = read(kafka, topic, span, |record| description.take(record)).await?;
            description.rule.pass_over(read_to);
        }
        descriptions.push(description);
    }
    // The directory is read last, so that the owners found in the log have had time to publish their entries.
    Ok(Report::new(descriptions, &entries(&admin, kafka).await?))
}

fn check_exists(named: TopicPartition, partitions: i32) -> Result<(), DescribeError> {
    let TopicPartition { topic, partition } = named;
    if partition < partitions {
        return Ok(());
    }
    let last = partitions - 1;
    Err(DescribeError::NoSuchPartition {
        topic,
        partition,
        last,
    })
}

/// Every partition of every journal, according to the broker.
async fn all_partitions(admin: &Admin) -> Result<Vec<TopicPartition>, AdminError> {
    let mut found = Vec::new();
    for context in CONTEXTS {
        let topic = context.topic;
        let partitions = admin.partitions(topic).await?;
        found.extend((0..partitions).map(|partition| TopicPartition { topic, partition }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &'static str, partition: i32) -> TopicPartition {
        TopicPartition { topic, partition }
    }

    #[test]
    fn the_error_of_an_unknown_topic_lists_the_journals() {
        assert_eq!(
            parse_name("journal.catalog/3"),
            Ok(partition("journal.catalog", 3))
        );
        for bad in ["journal.catalog", "catalog/0", ""] {
            let error = parse_name(bad).unwrap_err();
            for context in schemas::CONTEXTS {
                let topic = context.topic;
                assert!(error.contains(topic), "no {topic} in: {error}");
            }
        }
    }

    #[test]
    fn the_error_of_a_missing_partition_names_the_existing_ones() {
        check_exists(partition("journal.orders", 5), 6).unwrap();
        let error = check_exists(partition("journal.orders", 6), 6).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no such partition: journal.orders/6; journal.orders has partitions 0 to 5"
        );
    }
}
