//! The position of a client: the events that were sent to it. Its text form is the id of an event, from which clients
//! resume.

use axum::http::StatusCode;
use service::problem::Problem;
use std::collections::BTreeMap;

/// For each partition that a client reads, the last event that was sent to it or that does not concern it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<i32, Sent>);

/// A position in a partition up to which everything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The offset of the last record that is sent; -1 if no record is sent.
    pub offset: i64,
    /// The index of the record's last event that is sent; `None` if all of its events are sent.
    pub index: Option<usize>,
}

impl Sent {
    /// Everything before an offset.
    pub fn before(offset: i64) -> Self {
        Self {
            offset: offset - 1,
            index: None,
        }
    }

    /// The first offset whose record may have an event that is not sent.
    pub fn from(self) -> i64 {
        match self.index {
            Some(_) => self.offset,
            None => self.offset + 1,
        }
    }

    fn includes(self, offset: i64, index: usize) -> bool {
        let is_included = |last: Option<usize>| last.is_none_or(|last| index <= last);
        offset < self.offset || (offset == self.offset && is_included(self.index))
    }
}

impl Cursor {
    /// A cursor of these partitions.
    pub fn new(sent: impl IntoIterator<Item = (i32, Sent)>) -> Self {
        Self(sent.into_iter().collect())
    }

    /// Each partition with the position up to which it is sent.
    pub fn iter(&self) -> impl Iterator<Item = (i32, Sent)> {
        self.0.iter().map(|(partition, sent)| (*partition, *sent))
    }

    /// Whether an event is sent. Events of a partition that the cursor lacks count as sent.
    pub fn includes(&self, partition: i32, offset: i64, index: usize) -> bool {
        let sent = self.0.get(&partition);
        sent.is_none_or(|sent| sent.includes(offset, index))
    }

    /// Records that an event is sent.
    pub fn advance(&mut self, partition: i32, offset: i64, index: usize) {
        let sent = Sent {
            offset,
            index: Some(index),
        };
        self.0.insert(partition, sent);
    }

    /// Records that everything before an offset is sent, unless more is sent already.
    pub fn pass(&mut self, partition: i32, next_offset: i64) {
        if let Some(sent) = self.0.get_mut(&partition)
            && sent.from() < next_offset
        {
            *sent = Sent::before(next_offset);
        }
    }

    /// The text of the cursor: `<topic>/<partition>@<offset>` for each partition, separated by commas. `#<index>` after
    /// an offset is the index of the record's last event that is sent.
    pub fn id(&self, topic: &str) -> String {
        let parts = self.iter().map(|(partition, Sent { offset, index })| {
            let index = index.map(|index| format!("#{index}"));
            format!("{topic}/{partition}@{offset}{}", index.unwrap_or_default())
        });
        parts.collect::<Vec<_>>().join(",")
    }

    /// Parses the text of a cursor with exactly these partitions.
    ///
    /// # Errors
    /// 400: the text is not the id of an event of this stream.
    pub fn parse(text: &str, topic: &str, partitions: &[i32]) -> Result<Self, Problem> {
        let parts = text.split(',').map(|part| parse_part(part.trim(), topic));
        let sent: Option<BTreeMap<i32, Sent>> = parts.collect();
        let sent = sent.filter(|sent| sent.keys().eq(partitions));
        sent.map(Self).ok_or_else(|| {
            let example = match partitions {
                [partition] => format!("such as {topic}/{partition}@1234#0"),
                _ => "which names every partition of the journal".to_owned(),
            };
            let detail = format!(
                "Last-Event-ID: send the id of the last event of this stream unchanged, {example}"
            );
            Problem::new(StatusCode::BAD_REQUEST, "LAST_EVENT_ID_INVALID", detail)
        })
    }
}

fn parse_part(text: &str, topic: &str) -> Option<(i32, Sent)> {
    let (partition, position) = text
        .strip_prefix(topic)?
        .strip_prefix('/')?
        .split_once('@')?;
    let (offset, index) = match position.split_once('#') {
        Some((offset, index)) => (offset, Some(index.parse().ok()?)),
        None => (position, None),
    };
    let offset: i64 = offset.parse().ok()?;
    let is_offset = (-1..i64::MAX).contains(&offset);
    is_offset.then_some((partition.parse().ok()?, Sent { offset, index }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "journal.orders";

    #[test]
    fn the_text_of_a_cursor_is_parsed_again() {
        let whole = Sent::before(9);
        let nothing = Sent::before(0);
        let part = Sent {
            offset: 1_234,
            index: Some(2),
        };
        let cursor = Cursor::new([(0, whole), (1, nothing), (3, part)]);
        let text = cursor.id(TOPIC);
        // Clients hold ids, so a change of their form needs the folder of the next version.
        crate::golden::check_file("event_ids/v1/all_forms.txt", &text);
        assert_eq!(Cursor::parse(&text, TOPIC, &[0, 1, 3]), Ok(cursor));
    }

    #[test]
    fn the_position_of_a_command_is_a_cursor_behind_all_its_events() {
        let cursor = Cursor::parse("journal.orders/3@7", TOPIC, &[3]).unwrap();
        assert!(cursor.includes(3, 7, 99));
        assert!(!cursor.includes(3, 8, 0));
    }

    #[test]
    fn a_text_that_is_not_an_id_of_the_stream_is_refused() {
        for text in [
            "",
            "7",
            "journal.orders/3",
            "journal.orders/3@",
            "journal.orders/3@-2",
            "journal.orders/3@9223372036854775807",
            "journal.orders/3@1#",
            "journal.orders/3@1#-1",
            "journal.catalog/3@1",
            "journal.orders/2@1",
            "journal.orders/2@1,journal.orders/3@1",
        ] {
            let problem = Cursor::parse(text, TOPIC, &[3]).unwrap_err();
            assert_eq!(problem.code, "LAST_EVENT_ID_INVALID", "{text}");
        }
    }

    #[test]
    fn a_cursor_includes_the_events_up_to_its_index() {
        let mut cursor = Cursor::new([(3, Sent::before(5))]);
        let not_sent = [(5, 0), (5, 1), (6, 0)];
        let found =
            |cursor: &Cursor| not_sent.map(|(offset, index)| cursor.includes(3, offset, index));
        assert_eq!(found(&cursor), [false, false, false]);
        cursor.advance(3, 5, 0);
        assert_eq!(found(&cursor), [true, false, false]);
        cursor.pass(3, 6);
        assert_eq!(found(&cursor), [true, true, false]);
        cursor.pass(3, 2);
        assert_eq!(found(&cursor), [true, true, false]);
        assert!(
            cursor.includes(4, 5, 0),
            "the cursor does not have this partition"
        );
    }
}
