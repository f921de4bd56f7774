//! The list of builds, in Postgres. All versions of a view share its list: see [`version`].

use super::{
    Build, BuildId, State,
    entry::{Entry, answering, is_same_view},
    version,
};
use crate::shared_tables::begin_with_tables;
use schemas::Timestamp;
use sqlx::{FromRow, PgConnection, PgPool};

/// Maximum number of builds of a view that exist at once, so that a forgotten build is noticed.
pub const BUILDS_MAX: usize = 4;

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

/// Creates the shared tables if they are missing, and a first build of the newest version of each view, unless the
/// version has had a build. The first build of a view serves; that of a later version is projected beside the version
/// that answers, until an operator switches. An earlier version without a build gets none.
///
/// # Errors
/// [`RegistryError::Postgres`].
pub async fn create_first_builds(pool: &PgPool, views: &[&str]) -> Result<(), RegistryError> {
    let number = |name: &str| version::split(name).1;
    let is_newest = |name: &&&str| {
        let mut others = views.iter().filter(|other| is_same_view(other, name));
        others.all(|other| number(other) <= number(name))
    };
    let newest: Vec<&str> = views.iter().filter(is_newest).copied().collect();
    let mut transaction = begin_with_tables(pool).await?;
    sqlx::query(
        "INSERT INTO view_builds (view_name, build, state) \
         SELECT name, 1, CASE WHEN EXISTS ( \
             SELECT FROM view_builds WHERE state = 'SERVING' \
             AND regexp_replace(view_name, '_v[0-9]+$', '') = regexp_replace(name, '_v[0-9]+$', '') \
         ) THEN 'BUILDING' ELSE 'SERVING' END \
         FROM UNNEST($1::text[]) AS name \
         WHERE NOT EXISTS (SELECT FROM view_builds WHERE view_name = name) ON CONFLICT DO NOTHING",
    )
    .bind(newest)
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
    let number = insert(view, &entries, State::Building, &mut transaction).await?;
    transaction.commit().await?;
    Ok(number)
}

/// Makes a build the serving build of its view. The build that served before, perhaps one of another version, stays
/// projected. In the same transaction, the caller locks the builds of all versions, and checks that this build has read
/// everything that the serving build has read.
///
/// # Errors
/// [`RegistryError::NoBuild`], [`RegistryError::WrongState`], or Postgres's error.
pub async fn switch(
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<(), RegistryError> {
    let entries = locked_versions(view, connection).await?;
    let target = find(&entries, view, build)?;
    match target.state {
        State::Building | State::Previous => {}
        State::Serving => return Err(target.wrong_state("it already answers queries")),
        State::Dropped => return Err(target.wrong_state("rebuild the view")),
    }
    let mut serving: Vec<&Entry> = entries.iter().collect();
    serving.retain(|one| one.state == State::Serving);
    let has_caught_up = serving.iter().any(|one| one.has_caught_up);
    // The build that answers changes its state last, so that an undo finds it.
    serving.sort_by_key(|one| version::split(&one.view).1);
    // The order matters: a unique index allows at most one serving build of a version.
    for former in serving {
        set_state(&former.view, &[former.build], State::Previous, connection).await?;
    }
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

/// The build that served before the current one, of any version of the view. `view` is named with or without a version.
///
/// # Errors
/// [`RegistryError::NothingToUndo`].
pub fn previous<'e>(entries: &'e [Entry], view: &str) -> Result<&'e Entry, RegistryError> {
    let previous = entries
        .iter()
        .filter(|one| is_same_view(&one.view, view) && one.state == State::Previous);
    let last = previous.max_by_key(|one| (one.changed_at, one.build));
    last.ok_or_else(|| RegistryError::NothingToUndo { view: view.into() })
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

/// Marks all builds of a version as dropped, and deletes their checkpoints and parked commits. The caller then drops
/// their tables. Returns the numbers of the builds, including those that were dropped earlier: an earlier attempt may
/// have ended before their tables were dropped.
///
/// # Errors
/// [`RegistryError::WrongState`] if the version answers queries, or Postgres's error.
pub async fn drop_version(
    view: &str,
    connection: &mut PgConnection,
) -> Result<Vec<i32>, RegistryError> {
    let entries = locked_versions(view, connection).await?;
    if let Some(answering) = answering(&entries, view)
        && answering.view == view
    {
        return Err(answering.wrong_state("let another version answer queries first"));
    }
    let of_version = entries.iter().filter(|one| one.view == view);
    let live = of_version.clone().filter(|one| one.state != State::Dropped);
    let live: Vec<i32> = live.map(|one| one.build).collect();
    set_state(view, &live, State::Dropped, connection).await?;
    let all: Vec<i32> = of_version.map(|one| one.build).collect();
    for build in &all {
        forget(view, *build, connection).await?;
    }
    Ok(all)
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
    // The order matters: a unique index allows at most one serving build.
    set_state(view, &[build], State::Dropped, connection).await?;
    let number = insert(view, &entries, target.state, connection).await?;
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

/// The builds of all versions of a view, including the dropped ones. Locks them against changes until the end of the
/// transaction. The builds of one version are locked in the same order as by [`locked`].
///
/// # Errors
/// [`RegistryError`].
pub(crate) async fn locked_versions(
    view: &str,
    connection: &mut PgConnection,
) -> Result<Vec<Entry>, RegistryError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM view_builds WHERE regexp_replace(view_name, '_v[0-9]+$', '') = $1 \
         ORDER BY view_name, build FOR UPDATE"
    );
    let stored: Vec<Stored> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(version::view_of(view))
        .fetch_all(connection)
        .await?;
    stored.into_iter().map(Stored::entry).collect()
}

fn find<'e>(entries: &'e [Entry], view: &str, build: i32) -> Result<&'e Entry, RegistryError> {
    let mut entries = entries.iter();
    let found = entries.find(|one| one.view == view && one.build == build);
    found.ok_or_else(|| RegistryError::NoBuild {
        view: view.to_owned(),
        build,
    })
}

/// Adds a build to the list, after all builds that the view has had. Returns its number.
async fn insert(
    view: &str,
    entries: &[Entry],
    state: State,
    connection: &mut PgConnection,
) -> Result<i32, sqlx::Error> {
    let number = entries.iter().map(|one| one.build).max().unwrap_or(0) + 1;
    sqlx::query("INSERT INTO view_builds (view_name, build, state) VALUES ($1, $2, $3)")
        .bind(view)
        .bind(number)
        .bind(state.as_str())
        .execute(connection)
        .await?;
    Ok(number)
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
