//! The positions that are stored with a view's rows.

use crate::{
    cql, databases::Databases, postgres, problems::QueryError, registration::Registration,
};
use schemas::Position;
use service::consistency::ReadStored;
use std::sync::Arc;

/// The database of a view's rows and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Postgres,
    Cql,
}

impl Database {
    fn of(view: &Registration) -> Option<Self> {
        match view.database {
            "Postgres" => Some(Self::Postgres),
            "CQL" => Some(Self::Cql),
            _ => None,
        }
    }
}

/// Reads the stored positions of a view; `None` for a database that is not known here.
pub(super) fn reader(view: &Registration, databases: &Databases) -> Option<ReadStored> {
    let (database, name) = (Database::of(view)?, view.name);
    let databases = databases.clone();
    Some(Arc::new(move |topics| {
        let databases = databases.clone();
        Box::pin(async move {
            let mut all = Vec::new();
            for topic in topics {
                let position = read(database, name, &topic, &databases).await;
                let position = position.map_err(|error| error.to_string())?;
                let position = position.into_iter();
                all.extend(position.map(|(partition, next)| (topic.clone(), partition, next)));
            }
            Ok(all)
        })
    }))
}

async fn read(
    database: Database,
    view: &str,
    topic: &str,
    databases: &Databases,
) -> Result<Position, QueryError> {
    match database {
        Database::Postgres => {
            let mut connection = databases.postgres.acquire().await?;
            Ok(postgres::read_position(view, topic, &mut connection).await?)
        }
        Database::Cql => {
            let session = databases.cql.session()?;
            Ok(cql::read_position(&session, view, topic).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::VIEWS;

    #[test]
    fn the_stored_position_of_every_view_can_be_read() {
        for view in VIEWS {
            assert!(
                Database::of(view).is_some(),
                "{}: {}",
                view.name,
                view.database
            );
        }
    }
}
