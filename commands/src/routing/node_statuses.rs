//! Polls the nodes in the directory for the partitions that they serve. An entry alone proves nothing: its
//! node may be dead, or may have stepped down since.

use super::{
    Directory,
    node_client::NodeClients,
    node_protocol::{OWNERS_PATH, ServedPartitions},
};
use futures_util::future::join_all;
use schemas::{owners::Entry, topics::TopicPartition};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Time between two rounds of polling.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which an answer is valid without a newer one, because a busy node may be slow once.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(3);

/// Watches the partitions that each other node serves.
#[derive(Debug, Clone)]
pub struct NodeStatuses {
    answers: watch::Receiver<Answers>,
}

/// By address: each partition that the node serves, and the epoch.
pub type Answers = HashMap<String, BTreeMap<TopicPartition, i64>>;

impl NodeStatuses {
    /// No answers yet, and the sender that fills them in.
    pub fn empty() -> (watch::Sender<Answers>, Self) {
        let (sender, answers) = watch::channel(Answers::new());
        (sender, Self { answers })
    }

    /// The epoch in which the node of an entry serves the partition now; `None` if it does not answer, or
    /// answers that it does not serve it.
    pub fn served_epoch(&self, entry: &Entry, partition: TopicPartition) -> Option<i64> {
        self.answers
            .borrow()
            .get(&entry.url)?
            .get(&partition)
            .copied()
    }

    /// Whether the node answers.
    pub fn is_live(&self, url: &str) -> bool {
        self.answers.borrow().contains_key(url)
    }

    /// Returns once an answer has changed since the last call. If polling has ended, it never returns.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if self.answers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Polls until `stop`.
pub async fn poll(
    node_clients: NodeClients,
    mut directory: Directory,
    own_url: String,
    answers: watch::Sender<Answers>,
    stop: CancellationToken,
) {
    let mut latest: HashMap<String, (Instant, BTreeMap<TopicPartition, i64>)> = HashMap::new();
    while !stop.is_cancelled() {
        directory.mark_seen();
        let urls = urls_of_others(&directory, &own_url);
        let requests = urls.iter().map(|url| async {
            let answer = timeout(TIMEOUT, node_clients.get(url, OWNERS_PATH)).await;
            let answer: ServedPartitions = serde_json::from_slice(&answer.ok()??).ok()?;
            Some((url.clone(), (Instant::now(), answer.into_partitions())))
        });
        latest.extend(join_all(requests).await.into_iter().flatten());
        latest.retain(|url, (at, _)| urls.contains(url) && at.elapsed() < ANSWER_AGE_MAX);
        let known = latest.iter();
        let known: Answers = known
            .map(|(url, (_, partitions))| (url.clone(), partitions.clone()))
            .collect();
        answers.send_if_modified(|answers| {
            let is_new = *answers != known;
            *answers = known;
            is_new
        });
        tokio::select! {
            () = sleep(INTERVAL) => {}
            () = directory.changed() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The addresses of other nodes in the directory.
fn urls_of_others(directory: &Directory, own_url: &str) -> BTreeSet<String> {
    let known = directory.known();
    let urls = known.owners().map(|(_, entry)| entry.url.clone());
    urls.filter(|url| url != own_url).collect()
}
