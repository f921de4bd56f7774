//! The connection to the CQL store: made in the background, once.

use super::{CqlError, Session};
use crate::settings::{CqlSettings, SettingsError};
use scylla::{
    client::{execution_profile::ExecutionProfile, session_builder::SessionBuilder},
    statement::Consistency,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Longest wait for a connection to one node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one request, its retries included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Of every read and write: what was acknowledged is read again, even if a replica is gone.
const CONSISTENCY: Consistency = Consistency::LocalQuorum;

/// The store's session, once there is one. Cheap to clone.
///
/// The driver wants a node to begin with, and connects again by itself from then on. Until it has
/// found one, a task in the background tries.
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
    /// Begins to connect, and creates the keyspace if it is not there. The task ends once it has
    /// succeeded, or when the last handle is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazily(settings: &CqlSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let reason = "not tried yet".to_owned();
        let (sender, state) = watch::channel(State::Connecting { reason });
        tokio::spawn(connect(settings.clone(), sender));
        Ok(Self {
            nodes: settings.nodes.as_str().into(),
            state,
        })
    }

    /// The session, if there is one by now.
    pub fn session(&self) -> Result<Arc<Session>, CqlError> {
        match &*self.state.borrow() {
            State::Connected(session) => Ok(session.clone()),
            State::Connecting { reason } => Err(CqlError::NotConnected {
                nodes: self.nodes.to_string(),
                reason: reason.clone(),
            }),
        }
    }

    /// The session, waited for at most so long.
    pub async fn session_within(&self, patience: Duration) -> Result<Arc<Session>, CqlError> {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| matches!(state, State::Connected(_)));
        // Whatever came of the wait, the state now says it best.
        let _ = tokio::time::timeout(patience, connected).await;
        self.session()
    }
}

async fn connect(settings: CqlSettings, sender: watch::Sender<State>) {
    for wait in service::backoff() {
        let state = tokio::select! {
            () = sender.closed() => return,
            session = try_to_connect(&settings) => match session {
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

async fn try_to_connect(settings: &CqlSettings) -> Result<Session, CqlError> {
    let profile = ExecutionProfile::builder()
        .consistency(CONSISTENCY)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .build();
    let driver = SessionBuilder::new()
        .known_nodes(settings.known_nodes())
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await?;
    let session = Session::new(driver, &settings.keyspace);
    create_keyspace(&session, settings).await?;
    Ok(session)
}

/// Asks first, for whoever may only read and write may not create.
async fn create_keyspace(session: &Session, settings: &CqlSettings) -> Result<(), CqlError> {
    const FIND: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found = session
        .fetch::<(String,)>(FIND, (&settings.keyspace,))
        .await?;
    if found.is_empty() {
        tracing::info!(keyspace = settings.keyspace, "creating the keyspace");
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {}}}",
            settings.replication_factor
        );
        session.run_all(&create).await?;
    }
    Ok(())
}
