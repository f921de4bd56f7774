//! The list of builds, in Postgres.

use super::{Build, BuildId, State};
use crate::shared_tables::begin_with_tables;
use schemas::Timestamp;
use sqlx::{FromRow, PgConnection, PgPool};

/// Maximum number of builds of a view that exist at once, so that a forgotten build is noticed.
pub const BUILDS_MAX: usize = 4;

/// A build in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The view's name. The list may contain views that this program does not know.
    pub view: String,
    /// The build's number.
    pub build: i32,
    /// Its state.
    pub state: State,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Time of the last change of its state.
    pub changed_at: Timestamp,
    /// Whether its tables were created. The checkpoints of a build without tables may be those of an earlier build with
    /// its number.
    pub has_tables: bool,
    /// Whether the build has ever read the journals to their ends. Before that, a serving build answers no queries.
    pub has_caught_up: bool,
}

/// The list of builds can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Postgres refused the request, or did not answer.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// A state that this program does not know.
    #[error("build {build} of view {view} has the unknown state {state:?}: use a newer program")]
    UnknownState {
        /// The view.
        view: String,
        /// The build.
        build: i32,
        /// The stored state.
        state: String,
    },
    /// The view does not have a build with this number.
    #[error("view {view} has no build {build}: `daybook views describe {view}` lists its builds")]
    NoBuild {
        /// The view.
        view: String,
        /// The requested number.
        build: i32,
    },
    /// The view does not have a build that served before the current one.
    #[error("view {view} has no previous build: there is nothing to undo")]
    NothingToUndo {
        /// The view.
        view: String,
    },
    /// The operation is not possible in the build's state.
    #[error("build {build} of view {view} is {}: {advice}", state.as_str())]
    WrongState {
        /// The view.
        view: String,
        /// The build.
        build: i32,
        /// Its state.
        state: State,
        /// The next step.
        advice: &'static str,
    },
    /// The view has [`BUILDS_MAX`] builds.
    #[error("view {view} has {BUILDS_MAX} builds: drop one with `daybook views drop` first")]
    TooManyBuilds {
        /// The view.
        view: String,
    },
}

#[derive(FromRow)]
struct Stored {
    view_name: String,
    build: i32,
    state: String,
    created_us: i64,
    changed_us: i64,
    has_tables: bool,
    caught_up: bool,
}

const COLUMNS: &str = "view_name, build, state, has_tables, caught_up, \
    (extract(epoch FROM created_at) * 1000000)::bigint AS created_us, \
    (extract(epoch FROM changed_at) * 1000000)::bigint AS changed_us";

impl Stored {
    fn entry(self) -> Result<Entry, RegistryError> {
        let Some(state) = State::stored(&self.state) else {
            return Err(RegistryError::UnknownState {
                view: self.view_name,
                build: self.build,
                state: self.state,
            });
        };
        Ok(Entry {
            view: self.view_name,
            build: self.build,
            state,
            created_at: Timestamp(self.created_us),
            changed_at: Timestamp(self.changed_us),
            has_tables: self.has_tables,
            has_caught_up: self.caught_up,
        })
    }
}

/// All builds that are not dropped, in the order of their views and numbers.
///
/// # Errors
/// [`RegistryError`]. Postgres reports a missing table or database if no projector has run yet.
pub async fn all(pool: &PgPool) -> Result<Vec<Entry>, RegistryError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM view_builds WHERE state <> 'DROPPED' ORDER BY view_name, build"
    );
    let stored: Vec<Stored> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .fetch_all(pool)
        .await?;
    stored.into_iter().map(Stored::entry).collect()
}

/// Creates the shared tables if they are missing, and a first build for each view without a build.
///
/// # Errors
/// [`RegistryError::Postgres`].
pub async fn create_first_builds(pool: &PgPool, views: &[&str]) -> Result<(), RegistryError> {
    let mut transaction = begin_with_tables(pool).await?;
    sqlx::query(
        "INSERT INTO view_builds (view_name, build, state) \
         SELECT name, 1, 'SERVING' FROM UNNEST($1::text[]) AS name \
         WHERE NOT EXISTS (SELECT FROM view_builds WHERE view_name = name) ON CONFLICT DO NOTHING",
    )
    .bind(views)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Adds a build; the projectors begin to project it. Returns its number.
///
/// # Errors
/// [`RegistryError::TooManyBuilds`], or Postgres's error.
pub async fn create(pool: &PgPool, view: &str) -> Result<i32, RegistryError> {
    let mut transaction = begin_with_tables(pool).await?;
    let entries = locked(view, &mut transaction).await?;
    let live = entries.iter().filter(|one| one.state != State::Dropped);
    if live.count() >= BUILDS_MAX {
        return Err(RegistryError::TooManyBuilds { view: view.into() });
    }
    let number = entries.iter().map(|one| one.build).max().unwrap_or(0) + 1;
    sqlx::query("INSERT INTO view_builds (view_name, build, state) VALUES ($1, $2, 'BUILDING')")
        .bind(view)
        .bind(number)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(number)
}

/// Makes a build the serving build of its view. The build that served before stays projected. In the same transaction,
/// the caller locks the builds, and checks that this build has read everything that the serving build has read.
///
/// # Errors
/// [`RegistryError::NoBuild`], [`RegistryError::WrongState`], or Postgres's error.
pub async fn switch(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<(), RegistryError> {
    let entries = locked(view, connection).await?;
    let target = find(&entries, view, build)?;
    match target.state {
        State::Building | State::Previous => {}
        State::Serving => return Err(target.wrong_state("it already answers queries")),
        State::Dropped => return Err(target.wrong_state("rebuild the view")),
    }
    let serving = entries.iter().filter(|one| one.state == State::Serving);
    let has_caught_up = serving.clone().any(|one| one.has_caught_up);
    let serving: Vec<i32> = serving.map(|one| one.build).collect();
    // The order matters: a unique index allows at most one serving build.
    set_state(view, &serving, State::Previous, connection).await?;
    set_state(view, &[build], State::Serving, connection).await?;
    if has_caught_up {
        // The new build has read everything that the former one has read.
        record_caught_up(view, build, connection).await?;
    }
    Ok(())
}

/// Records that a build has read the journals to their ends. Returns `false` if the build is dropped, has no tables, or
/// is not in the list any more, because the list was lost.
///
/// # Errors
/// Postgres's error.
pub async fn set_caught_up(build: BuildId, pool: &PgPool) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE view_builds SET caught_up = true WHERE view_name = $1 AND build = $2 \
         AND (extract(epoch FROM created_at) * 1000000)::bigint = $3 AND has_tables AND state <> 'DROPPED'",
    )
    .bind(build.build.view)
    .bind(build.build.number)
    .bind(build.created_at.0)
    .execute(pool)
    .await?;
    Ok(updated.rows_affected() > 0)
}

async fn record_caught_up(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE view_builds SET caught_up = true WHERE view_name = $1 AND build = $2")
        .bind(view)
        .bind(build)
        .execute(connection)
        .await?;
    Ok(())
}

/// The number of the build that served before the current one.
///
/// # Errors
/// [`RegistryError::NothingToUndo`], or Postgres's error.
pub async fn previous(pool: &PgPool, view: &str) -> Result<i32, RegistryError> {
    let entries = all(pool).await?;
    let previous = entries
        .iter()
        .filter(|one| one.view == view && one.state == State::Previous);
    let last = previous.max_by_key(|one| (one.changed_at, one.build));
    last.map(|one| one.build)
        .ok_or_else(|| RegistryError::NothingToUndo { view: view.into() })
}

/// Marks a build as dropped, and deletes its checkpoints and parked commits. The caller then drops the build's tables.
/// A dropped build may be dropped again, because an earlier attempt may have ended before its tables were dropped.
///
/// # Errors
/// [`RegistryError::NoBuild`], [`RegistryError::WrongState`], or Postgres's error.
pub async fn drop(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<(), RegistryError> {
    let entries = locked(view, connection).await?;
    let target = find(&entries, view, build)?;
    match target.state {
        State::Building | State::Previous => {
            set_state(view, &[build], State::Dropped, connection).await?;
        }
        State::Dropped => {}
        State::Serving => return Err(target.wrong_state("switch to another build first")),
    }
    forget(view, build, connection).await?;
    Ok(())
}

/// Deletes a build's checkpoints and parked commits.
///
/// # Errors
/// Postgres's error.
pub(crate) async fn forget(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    for table in [
        "view_parked_commits",
        "view_parked_keys",
        "view_build_checkpoints",
    ] {
        let statement = format!("DELETE FROM {table} WHERE view_name = $1 AND build = $2");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(view)
            .bind(build)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Replaces a build with a new build in the same state, which is projected from the start. Marks the old build as
/// dropped, so that no projector writes to it. A projector may not have noticed yet that the tables are gone. Returns
/// the new build's number. The caller drops the old tables.
///
/// # Errors
/// [`RegistryError::NoBuild`], [`RegistryError::WrongState`], or Postgres's error.
pub async fn replace(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<i32, RegistryError> {
    let entries = locked(view, connection).await?;
    let target = find(&entries, view, build)?;
    if target.state == State::Dropped {
        return Err(target.wrong_state("it is already replaced or dropped"));
    }
    let number = entries.iter().map(|one| one.build).max().unwrap_or(0) + 1;
    // The order matters: a unique index allows at most one serving build.
    set_state(view, &[build], State::Dropped, connection).await?;
    sqlx::query("INSERT INTO view_builds (view_name, build, state) VALUES ($1, $2, $3)")
        .bind(view)
        .bind(number)
        .bind(target.state.as_str())
        .execute(&mut *connection)
        .await?;
    forget(view, build, connection).await?;
    Ok(number)
}

/// Locks a build against being dropped, until the end of the transaction. Returns whether its tables were created;
/// `None` for a build that is not projected. The lock is exclusive: with shared locks, two nodes that both record that
/// the tables exist would deadlock.
///
/// # Errors
/// Postgres's error.
pub(crate) async fn has_tables(
    build: Build,
    connection: &mut PgConnection,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT has_tables FROM view_builds \
         WHERE view_name = $1 AND build = $2 AND state <> 'DROPPED' FOR UPDATE",
    )
    .bind(build.view)
    .bind(build.number)
    .fetch_optional(connection)
    .await
}

/// Whether the list says that a build has tables; `false` for a build that is not projected. Unlike [`has_tables`], it
/// locks nothing.
///
/// # Errors
/// Postgres's error.
pub(crate) async fn are_tables_recorded(
    build: Build,
    connection: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM view_builds \
         WHERE view_name = $1 AND build = $2 AND has_tables AND state <> 'DROPPED')",
    )
    .bind(build.view)
    .bind(build.number)
    .fetch_one(connection)
    .await
}

/// Records that the tables of a build exist.
///
/// # Errors
/// Postgres's error.
pub(crate) async fn set_has_tables(
    build: Build,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE view_builds SET has_tables = true WHERE view_name = $1 AND build = $2")
        .bind(build.view)
        .bind(build.number)
        .execute(connection)
        .await?;
    Ok(())
}

/// The builds of a view, including the dropped ones. Locks them against changes until the end of the transaction.
///
/// # Errors
/// [`RegistryError`].
pub(crate) async fn locked(
    view: &str,
    connection: &mut PgConnection,
) -> Result<Vec<Entry>, RegistryError> {
    let statement =
        format!("SELECT {COLUMNS} FROM view_builds WHERE view_name = $1 ORDER BY build FOR UPDATE");
    let stored: Vec<Stored> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(view)
        .fetch_all(connection)
        .await?;
    stored.into_iter().map(Stored::entry).collect()
}

fn find<'e>(entries: &'e [Entry], view: &str, build: i32) -> Result<&'e Entry, RegistryError> {
    let found = entries.iter().find(|one| one.build == build);
    found.ok_or_else(|| RegistryError::NoBuild {
        view: view.to_owned(),
        build,
    })
}

async fn set_state(
    view: &str,
    builds: &[i32],
    state: State,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE view_builds SET state = $3, changed_at = clock_timestamp() \
         WHERE view_name = $1 AND build = ANY($2)",
    )
    .bind(view)
    .bind(builds)
    .bind(state.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

impl Entry {
    fn wrong_state(&self, advice: &'static str) -> RegistryError {
        RegistryError::WrongState {
            view: self.view.clone(),
            build: self.build,
            state: self.state,
            advice,
        }
    }
}
