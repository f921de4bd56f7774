//! The CQL store (Scylla or Cassandra): its connection, and which of its errors another try may
//! mend.
//!
//! Only what both speak is used: no tablets, no materialized views, no `USING TIMEOUT`.

mod errors;
pub mod store;

pub use errors::CqlError;
pub use store::{CqlStore, CqlView};

use crate::settings::{CqlSettings, SettingsError};
use scylla::{
    client::{
        caching_session::{CachingSession, CachingSessionBuilder},
        execution_profile::ExecutionProfile,
        session::Session,
        session_builder::SessionBuilder,
    },
    errors::ExecutionError,
    response::query_result::QueryResult,
    serialize::row::SerializeRow,
    statement::{Consistency, Statement},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Longest wait for a connection to one node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one request, its retries included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept; we have fewer than this.
const STATEMENTS_MAX: usize = 64;
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
    Connected(Arc<CachingSession>),
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
    pub fn session(&self) -> Result<Arc<CachingSession>, CqlError> {
        match &*self.state.borrow() {
            State::Connected(session) => Ok(session.clone()),
            State::Connecting { reason } => Err(CqlError::NotConnected {
                nodes: self.nodes.to_string(),
                reason: reason.clone(),
            }),
        }
    }

    /// The session, waited for at most so long.
    pub async fn session_within(
        &self,
        patience: Duration,
    ) -> Result<Arc<CachingSession>, CqlError> {
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

async fn try_to_connect(settings: &CqlSettings) -> Result<CachingSession, CqlError> {
    let profile = ExecutionProfile::builder()
        .consistency(CONSISTENCY)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .build();
    let session = SessionBuilder::new()
        .known_nodes(settings.known_nodes())
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await?;
    create_keyspace(&session, settings).await?;
    session
        .use_keyspace(&settings.keyspace, false)
        .await
        .map_err(ExecutionError::from)?;
    Ok(CachingSessionBuilder::new(session)
        .max_capacity(STATEMENTS_MAX)
        .use_cached_result_metadata(false)
        .build())
}

/// Asks first, for whoever may only read and write may not create.
async fn create_keyspace(session: &Session, settings: &CqlSettings) -> Result<(), CqlError> {
    const FIND: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found = session.query_unpaged(FIND, (&settings.keyspace,)).await?;
    if rows_of::<(String,)>(&found.into_rows_result()?)?.is_empty() {
        tracing::info!(keyspace = settings.keyspace, "creating the keyspace");
        // The name was checked to be a plain one.
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {}}}",
            settings.keyspace, settings.replication_factor
        );
        session.query_unpaged(create, ()).await?;
    }
    Ok(())
}

/// Runs a file of statements with a semicolon after each, and `--` before comments.
async fn run_all(session: &CachingSession, statements: &str) -> Result<(), CqlError> {
    let without_comments: Vec<&str> = statements
        .lines()
        .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
        .collect();
    let session = session.get_session();
    for statement in without_comments.join("\n").split(';') {
        if !statement.trim().is_empty() {
            session.query_unpaged(statement, ()).await?;
        }
    }
    Ok(())
}

/// A statement that may safely be sent twice, as all of ours: upserts of absolute values, and reads.
fn idempotent(text: &str) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_is_idempotent(true);
    statement
}

/// Runs a prepared statement whose answer is short.
pub(crate) async fn execute(
    session: &CachingSession,
    statement: &str,
    values: impl SerializeRow,
) -> Result<QueryResult, CqlError> {
    Ok(session
        .execute_unpaged(idempotent(statement), values)
        .await?)
}

/// The same, and reads its rows.
pub(crate) async fn fetch<Row>(
    session: &CachingSession,
    statement: &str,
    values: impl SerializeRow,
) -> Result<Vec<Row>, CqlError>
where
    Row: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    rows_of(
        &execute(session, statement, values)
            .await?
            .into_rows_result()?,
    )
}

fn rows_of<Row>(
    result: &scylla::response::query_result::QueryRowsResult,
) -> Result<Vec<Row>, CqlError>
where
    Row: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let rows = result.rows::<Row>().map_err(CqlError::shape)?;
    rows.collect::<Result<_, _>>().map_err(CqlError::shape)
}
