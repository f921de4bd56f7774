//! Tests of assignments by the group's hints, the owners' statuses and the directory.

use super::*;
use crate::routing::{
    Directory,
    directory::Entries,
    node_statuses::{Answers, NodeStatuses},
};
use journal::owner::Reason;
use schemas::{CONTEXTS, topics::PartitionCounts};

#[test]
fn an_owner_serves_until_its_successor_does() {
    let entry = |epoch| Entry::new(epoch, "05".repeat(16), "http://b:1");
    assert!(keeps_serving(&serving(4), None));
    assert!(keeps_serving(&serving(4), Some(&entry(3))));
    assert!(!keeps_serving(&serving(4), Some(&entry(5))));
    // A node that only declined has not ended the term; a node that announced itself before it declined has.
    assert!(keeps_serving(
        &serving(4),
        Some(&entry(4).declining("newer software"))
    ));
    assert!(!keeps_serving(
        &serving(4),
        Some(&entry(5).declining("the clock"))
    ));
    assert!(!keeps_serving(&taking_over(), None));
    assert!(!keeps_serving(&Status::Standby, None));
}

/// The assignments of a node at `http://a:1`, and their sources.
struct Node {
    assignments: PartitionAssignments,
    senders: Vec<watch::Sender<Status>>,
    view: OwnersView,
    entries: Entries,
    answers: watch::Sender<Answers>,
}

/// The number of partitions of each journal.
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
        let (answers, nodes) = NodeStatuses::empty();
        Self {
            assignments,
            senders,
            view: OwnersView {
                statuses: OwnerStatuses::new(statuses),
                directory,
                nodes,
                own_url: "http://a:1".into(),
                hash_key: "0011".into(),
            },
            entries,
            answers,
        }
    }

    /// Lets the node at `http://b:1` answer that it serves every partition in an epoch.
    fn serves_elsewhere(&self, epoch: i64) {
        let served = every_partition().into_iter().map(|one| (one, epoch));
        let answer = ("http://b:1".to_owned(), served.collect());
        self.answers.send_replace([answer].into());
    }

    fn set_statuses(&self, status: &Status) {
        for sender in &self.senders {
            sender.send_replace(status.clone());
        }
    }

    /// The partitions that are assigned to this node after the hint.
    fn owned_after(&mut self, hint: &Hint) -> BTreeSet<TopicPartition> {
        self.assignments.apply(hint, &self.view);
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
    // An owner that only waits for its successor steps down, too.
    assert_eq!(node.owned_after(&Hint::default()), others);
    misconfigured.send_replace(MisconfiguredTopics::new());
    assert_eq!(node.owned_after(&everything(true)), every_partition());
}

#[tokio::test(start_paused = true)]
async fn a_stale_hint_fences_no_successor() {
    let mut node = Node::new(&serving(4), none_misconfigured());
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    // After a suspension the owners serve until they find that they were fenced.
    assert_eq!(node.owned_after(&everything(false)), every_partition());
    node.set_statuses(&taking_over());
    // The directory's entries from before the suspension prove nothing.
    assert_eq!(node.owned_after(&everything(false)), [].into());
    node.entries.put_all(5, "http://b:1");
    tokio::time::advance(STALE_HINT_TIME).await;
    assert_eq!(node.owned_after(&everything(false)), [].into());
    node.set_statuses(&Status::Standby);
    assert_eq!(node.owned_after(&everything(false)), [].into());
    // A current hint gives the partitions back.
    assert_eq!(node.owned_after(&everything(true)), every_partition());
}

#[tokio::test(start_paused = true)]
async fn a_stale_hint_brings_back_owners_without_a_successor() {
    for entries in [&[][..], &[(3, "http://b:1"), (4, "http://a:1")]] {
        let mut node = Node::new(&serving(4), none_misconfigured());
        for (epoch, url) in entries {
            node.entries.put_all(*epoch, url);
        }
        assert_eq!(node.owned_after(&everything(true)), every_partition());
        node.set_statuses(&taking_over());
        assert_eq!(node.owned_after(&everything(false)), [].into());
        let end_of_wait = timeout_at(
            Instant::now() + STALE_HINT_TIME * 2,
            node.assignments.end_of_wait(),
        );
        end_of_wait.await.expect("the wait would never end");
        assert_eq!(node.owned_after(&everything(false)), every_partition());
    }
}

fn declined(reason: Reason, epoch: i64) -> Status {
    Status::Declined { reason, epoch }
}

#[test]
fn a_node_evicts_itself_if_another_node_serves_a_partition_that_it_declined() {
    let node = Node::new(&serving(4), none_misconfigured());
    let evicts = |hint: &Hint| must_evict_itself(hint, &node.view).is_some();
    let (share, clock) = (everything(true), "this machine's clock is wrong");
    assert!(!evicts(&share));
    node.set_statuses(&declined(Reason::suspecting_this_node(clock.into()), 5));
    assert!(!evicts(&share), "no node serves the partition");
    // The entry of a dead node proves nothing.
    node.entries.put_all(4, "http://b:1");
    assert!(!evicts(&share), "the other node does not answer");
    // The other node was fenced by this node's announcement, and has not noticed.
    node.serves_elsewhere(4);
    assert!(
        !evicts(&share),
        "the other node served only before the announcement"
    );
    node.entries.put_all(6, "http://b:1");
    assert!(
        !evicts(&share),
        "the other node answers for an earlier epoch"
    );
    node.serves_elsewhere(6);
    assert!(evicts(&share));
    assert!(
        !evicts(&Hint::default()),
        "the partition is not this node's"
    );
    assert!(
        !evicts(&everything(false)),
        "the group may have decided otherwise"
    );
    // If the log lost records, the other node can't serve it either.
    node.set_statuses(&declined("the log ends before a proved record".into(), 5));
    assert!(!evicts(&share));
    node.set_statuses(&Status::Ended("chain broken: journal.orders/1@7".into()));
    assert!(!evicts(&share));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_another_node_declines_is_adopted_until_the_attempt_fails() {
    let mut node = Node::new(&Status::Standby, none_misconfigured());
    let nothing = Hint {
        is_current: true,
        ..Hint::default()
    };
    node.entries.put_all(4, "http://b:1");
    assert_eq!(node.owned_after(&nothing), [].into());
    node.entries
        .put(&Entry::new(4, "", "http://b:1").declining("newer software"));
    assert_eq!(node.owned_after(&nothing), [].into());
    // The pauses differ by partition.
    while node.owned_after(&nothing) != every_partition() {
        node.assignments.end_of_wait().await;
    }
    node.set_statuses(&taking_over());
    assert_eq!(node.owned_after(&nothing), every_partition());
    let failed = declined(Reason::suspecting_this_node("newer software".into()), 4);
    node.set_statuses(&failed);
    assert_eq!(node.owned_after(&nothing), [].into());
    node.set_statuses(&Status::Standby);
    assert_eq!(node.owned_after(&nothing), [].into());
    // A node that has lost the group adopts nothing.
    let lost = Hint {
        error: Some("member a was fenced".into()),
        ..nothing
    };
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(node.owned_after(&lost), [].into());
}

#[test]
fn nothing_is_owned_before_the_directory_was_read() {
    let mut node = Node::new(&Status::Standby, none_misconfigured());
    node.view.directory = Directory::empty().1;
    assert_eq!(node.owned_after(&everything(true)), [].into());
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
    tokio::join!(wait_until_stepped_down(&mut node.view.statuses), step_down);
    assert_eq!(begun.elapsed(), soon);
    wait_until_stepped_down(&mut node.view.statuses).await;
    assert_eq!(begun.elapsed(), soon);
    // The wait is bounded.
    node.set_statuses(&Status::SteppingDown);
    wait_until_stepped_down(&mut node.view.statuses).await;
    assert_eq!(begun.elapsed(), soon + DRAIN_TIMEOUT);
}

#[test]
fn the_group_assigns_the_partitions_of_every_journal() {
    let node = Node::new(&Status::Standby, none_misconfigured());
    let journals = CONTEXTS.map(|context| context.topic);
    assert_eq!(node.assignments.topics(), journals.into());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_takes_its_partition_again_once_the_later_term_has_no_owner() {
    let mut node = Node::new(&serving(9), none_misconfigured());
    node.entries.put_all(10, "http://b:1");
    // The other node serves.
    node.serves_elsewhere(10);
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    // It has ended.
    node.answers.send_replace(Answers::new());
    assert_eq!(node.owned_after(&everything(true)), every_partition());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(node.owned_after(&everything(true)), BTreeSet::new());
    node.set_statuses(&Status::Standby);
    assert_eq!(node.owned_after(&everything(true)), every_partition());
}
