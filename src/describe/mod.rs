//! `daybook journal describe`: what an operator asks of a journal's partition, read from the log itself
//! by the void rule. It needs Kafka and nothing else; it writes nothing.
//!
//! Exit codes: 0 all can be read by the rule, 1 a partition can't be read to its end, 2 the log could not
//! be reached.

mod directory;
mod partition;
mod reading;
mod report;

use directory::entries;
use kafka::{Admin, KafkaSettings};
use partition::Description;
use reading::{ReadError, Span, read};
use report::Report;
use schemas::{
    CONTEXTS,
    owners::{Place, parse_key},
};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// A partition can't be read to its end.
const EXIT_ALARM: u8 = 1;
/// The log could not be reached.
const EXIT_UNREADABLE: u8 = 2;

/// What `--json` prints.
const FIELDS: &str = "\
With --json, one document: {\"alarms\": N, \"partitions\": [..]}, for each partition an object of:
  topic, partition  which one
  log_id            names the log: the chain's hash of its first valid record, hex; null: nothing is valid
  owner_url         where the owner of the term in force takes commands; null: there is no term
  epoch, term       that term's number and its random id, hex
  since             when the broker took its announcement, RFC 3339
  rule_version      the version of the rule that the announcement names
  partitions        how many partitions the topic has, as the announcement names it
  log_end           the offset that the next record gets, when reading began
  read_to           the offset before which everything was judged
  last_offset       the last valid record's offset
  last_seq          its number within its term
  last_hash         the chain's hash behind it, hex
  behind            records that stand behind it, all void
  records           how many were read
  announcements, no_ops, decisions
                    how many of them are valid and what they are
  void              how many of them are void, by reason
  log_time          the greatest time of a valid commit, RFC 3339
  directory         the entry of journal.owners: {epoch, term, url}; null: there is none
  directory_lag     by how many epochs that is behind the log; negative: ahead
  alarm             {name, text}: why it can't be read on; null: it can";

/// Which partition, and how to say it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = FIELDS)]
pub struct Args {
    /// Only this partition, such as journal.orders/0 [default: all of every journal]
    #[arg(value_name = "TOPIC/PARTITION", value_parser = place)]
    place: Option<Place>,
    /// Print one JSON document, instead of text
    #[arg(long)]
    json: bool,
}

fn place(text: &str) -> Result<Place, String> {
    parse_key(text.as_bytes()).ok_or_else(|| {
        let topics = CONTEXTS.map(|context| context.topic).join(", ");
        let last = schemas::topics::PARTITIONS - 1;
        format!("no such partition; there are {topics}, each with partitions 0 to {last}")
    })
}

/// Describes. What can't be read is said on standard error and is an exit code, not an error.
pub async fn run(args: Args, kafka: &KafkaSettings) -> anyhow::Result<ExitCode> {
    let report = match describe(args.place, kafka).await {
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

async fn describe(place: Option<Place>, kafka: &KafkaSettings) -> Result<Report, ReadError> {
    let admin = Admin::new(kafka)?;
    let places = match place {
        Some(place) => {
            // Says so, if there is no such topic.
            admin.partitions(place.0).await?;
            vec![place]
        }
        None => all_places(&admin).await?,
    };
    let mut descriptions = Vec::with_capacity(places.len());
    for place in places {
        let span = Span::measure(&admin, place).await?;
        let mut description = Description::begin(place, span.low, span.end);
        if description.is_readable() {
            read(kafka, &span, |record| description.take(record)).await?;
        }
        descriptions.push(description);
    }
    // Read last: what the log tells by then, its owner has had time to write here.
    Ok(Report::new(descriptions, &entries(&admin, kafka).await?))
}

/// Every partition that the journals have at the brokers.
async fn all_places(admin: &Admin) -> Result<Vec<Place>, ReadError> {
    let mut places = Vec::new();
    for context in CONTEXTS {
        let partitions = admin.partitions(context.topic).await?;
        places.extend((0..partitions).map(|partition| (context.topic, partition)));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_not_there_is_refused_with_those_that_are() {
        assert_eq!(place("journal.catalog/3"), Ok(("journal.catalog", 3)));
        for bad in ["journal.catalog/4", "journal.catalog", "catalog/0", ""] {
            let refused = place(bad).unwrap_err();
            assert!(
                refused.contains("journal.orders, journal.catalog"),
                "{refused}"
            );
            assert!(refused.contains("0 to 3"), "{refused}");
        }
    }
}
