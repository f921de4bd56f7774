//! Assignments of partitions by hints of the group, the owners' statuses and the directory.

use super::*;
use crate::routing::directory::Entries;
use journal::owner::Reason;
use schemas::{CONTEXTS, topics::PartitionCounts};

#[test]
fn an_owner_serves_until_its_successor_does() {
    let entry = |epoch| Entry {
        epoch,
        term: "05".repeat(16),
        url: "http://b:1".into(),
    };
    assert!(serves_on(&serving(4), None));
    assert!(serves_on(&serving(4), Some(&entry(3))));
    assert!(!serves_on(&serving(4), Some(&entry(5))));
    assert!(!serves_on(&taking_over(), None));
    assert!(!serves_on(&Status::Standby, None));
}

/// The assignments of a node at `http://a:1`, and their sources.
struct Node {
    assignments: PartitionAssignments,
    senders: Vec<watch::Sender<Status>>,
    statuses: OwnerStatuses,
    entries: Entries,
    directory: Directory,
}

/// The journals have this many partitions each.
fn partitions() -> PartitionCounts {
    PartitionCounts::uniform(3)
}

impl Node {
    /// A node whose owners all have the same status.
    fn new(status: &Status, misconfigured: watch::Receiver<MisconfiguredTopics>) -> Self {
        let assignments = PartitionAssignments::none(
            partitions().journal_partitions(),
            "http://a:1".into(),
            misconfigured,
            SelfEviction::default(),
        );
        let channel = |partition| {
            let (sender, receiver) = watch::channel(status.clone());
            (sender, (partition, receiver))
        };
        let channels = partitions().journal_partitions().map(channel).unzip();
        let (senders, statuses): (_, Vec<_>) = channels;
        let (entries, directory) = Directory::of_entries(partitions());
        Self {
            assignments,
            senders,
            statuses: OwnerStatuses::new(statuses),
            entries,
            directory,
        }
    }

    fn set_statuses(&self, status: &Status) {
        for sender in &self.senders {
            sender.send_replace(status.clone());
        }
    }

    /// The partitions that are assigned to this node after the hint.
    fn owned_after(&mut self, hint: &Hint) -> BTreeSet<TopicPartition> {
        self.assignments
            .apply(hint, &self.statuses, &self.directory);
        let is_owned = |one: &TopicPartition| *self.assignments.watch(*one).borrow();
        every_partition().into_iter().filter(is_owned).collect()
    }
}

fn every_partition() -> BTreeSet<TopicPartition> {
    partitions().journal_partitions().collect()
}

fn serving(epoch: i64) -> Status {
    let term = [u8::try_from(epoch).unwrap(); 16];
    Status::Serving { epoch, term }
}

fn taking_over() -> Status {
    Status::TakingOver("barrier".into())
}

/// A hint with every partition.
fn everything(is_current: bool) -> Hint {
    let every = every_partition().into_iter();
    Hint {
        assignment: every
            .map(|one| (one.topic.to_owned(), one.partition))
            .collect(),
        is_current,
        error: None,
    }
}

fn none_misconfigured() -> watch::Receiver<MisconfiguredTopics> {
    watch::channel(MisconfiguredTopics::new()).1
}

#[test]
fn no_partition_of_a_misconfigured_topic_is_owned() {
    let (misconfigured, watched) = watch::channel(MisconfiguredTopics::new());
    let mut node = Node::new(&serving(1), watched);
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    misconfigured.send_replace(["journal.catalog"].into());
    let mut others = every_partition();
    others.retain(|one| one.topic != "journal.catalog");
    assert_eq!(node.owned_after(&everything(true)), others);
    // An owner that only waits for its successor steps down too.
    assert_eq!(node.owned_after(&Hint::default()), others);
    misconfigured.send_replace(MisconfiguredTopics::new());
    assert_eq!(node.owned_after(&everything(true)), every_partition());
}

#[tokio::test(start_paused = true)]
async fn a_hint_in_doubt_fences_no_successor() {
    let mut node = Node::new(&serving(4), none_misconfigured());
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    // After a suspension its owners serve until they find that they were fenced.
    assert_eq!(node.owned_after(&everything(false)), every_partition());
    node.set_statuses(&taking_over());
    // Entries that the directory read before prove nothing.
    assert_eq!(node.owned_after(&everything(false)), [].into());
    node.entries.put_all(5, "http://b:1");
    tokio::time::advance(DOUBT_TIME).await;
    assert_eq!(node.owned_after(&everything(false)), [].into());
    node.set_statuses(&Status::Standby);
    assert_eq!(node.owned_after(&everything(false)), [].into());
    // A current hint gives the partitions back.
    assert_eq!(node.owned_after(&everything(true)), every_partition());
}

#[tokio::test(start_paused = true)]
async fn a_hint_in_doubt_brings_back_owners_without_a_successor() {
    for entries in [&[][..], &[(3, "http://b:1"), (4, "http://a:1")]] {
        let mut node = Node::new(&serving(4), none_misconfigured());
        for (epoch, url) in entries {
            node.entries.put_all(*epoch, url);
        }
        assert_eq!(node.owned_after(&everything(true)), every_partition());
        node.set_statuses(&taking_over());
        assert_eq!(node.owned_after(&everything(false)), [].into());
        let end_of_doubt = timeout_at(
            Instant::now() + DOUBT_TIME * 2,
            node.assignments.end_of_doubt(),
        );
        end_of_doubt.await.expect("the doubt would never end");
        assert_eq!(node.owned_after(&everything(false)), every_partition());
    }
}

#[test]
fn a_node_that_cannot_serve_evicts_itself_if_there_are_others() {
    let clock = "this machine's clock is 9000 ms off the broker's, which is more than 5000";
    let mut share = everything(true);
    share.assignment.pop_first();
    let node = Node::new(&serving(1), none_misconfigured());
    assert_eq!(must_evict_itself(&share, &node.statuses), None);
    for status in [
        Status::TakingOver(Reason::of_this_node(clock.into())),
        Status::Ended(Reason::of_this_node("the store is of another log".into())),
    ] {
        node.set_statuses(&status);
        let reason = must_evict_itself(&share, &node.statuses);
        assert!(reason.is_some(), "{status:?}");
        let alone = must_evict_itself(&everything(true), &node.statuses);
        assert_eq!(alone, None, "there is no other member");
        assert_eq!(must_evict_itself(&Hint::default(), &node.statuses), None);
    }
    node.set_statuses(&Status::Ended("chain broken: journal.orders/1@7".into()));
    let altered_log = must_evict_itself(&share, &node.statuses);
    assert_eq!(altered_log, None, "no other node could serve either");
}

#[tokio::test(start_paused = true)]
async fn a_node_closes_once_its_owners_have_stepped_down() {
    let mut node = Node::new(&Status::SteppingDown, none_misconfigured());
    let soon = Duration::from_millis(300);
    let step_down = async {
        tokio::time::sleep(soon).await;
        for sender in &node.senders {
            sender.send_replace(Status::Standby);
        }
    };
    let begun = Instant::now();
    tokio::join!(wait_until_stepped_down(&mut node.statuses), step_down);
    assert_eq!(begun.elapsed(), soon);
    wait_until_stepped_down(&mut node.statuses).await;
    assert_eq!(begun.elapsed(), soon);
    // The wait is bounded.
    node.set_statuses(&Status::SteppingDown);
    wait_until_stepped_down(&mut node.statuses).await;
    assert_eq!(begun.elapsed(), soon + DRAIN_TIMEOUT);
}

#[test]
fn the_group_assigns_the_partitions_of_every_journal() {
    let node = Node::new(&Status::Standby, none_misconfigured());
    let journals = CONTEXTS.map(|context| context.topic);
    assert_eq!(node.assignments.topics(), journals.into());
}
