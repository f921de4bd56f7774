//! The connection to the CQL store: opened in the background, once.

use super::{CqlError, Session};
use crate::settings::{CqlConsistency, CqlSettings, SettingsError};
use scylla::{
    client::{execution_profile::ExecutionProfile, session_builder::SessionBuilder},
    policies::{load_balancing::DefaultPolicy, retry::DefaultRetryPolicy},
    statement::{Consistency, SerialConsistency},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Longest wait for a connection to one node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one request, including its retries.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The store's session, once it is connected. Cheap to clone.
///
/// The driver needs one reachable node to start, and reconnects by itself afterwards. A background task
/// retries the first connection until it succeeds.
#[derive(Clone)]
pub struct Cql {
    nodes: Arc<str>,
    state: watch::Receiver<State>,
}

enum State {
    Connecting { reason: String },
    Connected(Arc<Session>),
}

impl Cql {
    /// Starts a task that connects and creates a missing keyspace. The task ends when it has succeeded, or when
    /// the last handle is dropped.
    ///
    /// # Errors
    /// [`SettingsError`] for invalid settings.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn connect_lazily(settings: &CqlSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let reason = "no attempt yet".to_owned();
        let (sender, state) = watch::channel(State::Connecting { reason });
        tokio::spawn(connect(settings.clone(), sender));
        Ok(Self {
            nodes: settings.nodes.as_str().into(),
            state,
        })
    }

    /// The session, if it is connected.
    ///
    /// # Errors
    /// [`CqlError::NotConnected`] with the reason of the last attempt.
    pub fn session(&self) -> Result<Arc<Session>, CqlError> {
        match &*self.state.borrow() {
            State::Connected(session) => Ok(session.clone()),
            State::Connecting { reason } => Err(CqlError::NotConnected {
                nodes: self.nodes.to_string(),
                reason: reason.clone(),
            }),
        }
    }

    /// Waits at most `timeout` for the session.
    ///
    /// # Errors
    /// [`CqlError::NotConnected`] with the reason of the last attempt.
    pub async fn session_within(&self, timeout: Duration) -> Result<Arc<Session>, CqlError> {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| matches!(state, State::Connected(_)));
        // The state shows whether the wait succeeded.
        let _ = tokio::time::timeout(timeout, connected).await;
        self.session()
    }
}

async fn connect(settings: CqlSettings, sender: watch::Sender<State>) {
    for wait in service::Backoff::for_server() {
        let state = tokio::select! {
            () = sender.closed() => return,
            session = open_session(&settings) => match session {
                Ok(session) => State::Connected(Arc::new(session)),
                Err(error) => State::Connecting { reason: error.to_string() },
            },
        };
        let connected = matches!(state, State::Connected(_));
        sender.send_replace(state);
        if connected {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

async fn open_session(settings: &CqlSettings) -> Result<Session, CqlError> {
    // Lightweight transactions agree among the replicas of one data centre, or of all of them.
    let (consistency, serial) = match settings.consistency {
        CqlConsistency::LocalQuorum => (Consistency::LocalQuorum, SerialConsistency::LocalSerial),
        CqlConsistency::Quorum => (Consistency::Quorum, SerialConsistency::Serial),
        CqlConsistency::All => (Consistency::All, SerialConsistency::Serial),
    };
    let nodes = DefaultPolicy::builder()
        // A request is sent to a replica of its row, because any other node would have to pass it on, and not always to
        // the same replica.
        .token_aware(true)
        .enable_shuffling_replicas(true)
        // No setting names a data centre: see `CqlConsistency::LocalQuorum`.
        .prefer_no_datacenter()
        .build();
    let profile = ExecutionProfile::builder()
        .consistency(consistency)
        .serial_consistency(Some(serial))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .load_balancing_policy(nodes)
        // After a broken connection, and for an overloaded node, a request is repeated at another node: all our
        // statements are idempotent. The consistency of the repetition is never lower.
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        // A copy of a slow request would only add load to a store that is slow already.
        .speculative_execution_policy(None)
        .build();
    let driver = SessionBuilder::new()
        .known_nodes(settings.known_nodes())
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle())
        // A change of the schema ends when all reachable nodes know it: the next statement may be sent to any of them.
        .auto_await_schema_agreement(true)
        .build()
        .await?;
    let session = Session::new(driver, settings);
    create_keyspace(&session).await?;
    Ok(session)
}

/// Creates the keyspace if it is missing. Checks for it first, because a role that may read and write may lack the
/// right to create a keyspace.
///
/// # Errors
/// The store's error.
pub(super) async fn create_keyspace(session: &Session) -> Result<(), CqlError> {
    const FIND: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let keyspace = session.keyspace();
    let found = session.fetch::<(String,)>(FIND, (keyspace,)).await?;
    if found.is_empty() {
        tracing::info!(keyspace, "creating keyspace");
        // Scylla has tablets by default, and many of its versions refuse lightweight transactions on them.
        let without_tablets = match is_scylla(session).await? {
            true => " AND tablets = {'enabled': false}",
            false => "",
        };
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {}}}{without_tablets}",
            session.replication_factor()
        );
        session.run_all(&create).await?;
    }
    Ok(())
}

/// Whether the server is Scylla, which has system tables that Cassandra lacks.
async fn is_scylla(session: &Session) -> Result<bool, CqlError> {
    const FIND: &str = "SELECT keyspace_name FROM system_schema.tables \
        WHERE keyspace_name = 'system_schema' AND table_name = 'scylla_tables'";
    let found = session.fetch::<(String,)>(FIND, ()).await?;
    Ok(!found.is_empty())
}
