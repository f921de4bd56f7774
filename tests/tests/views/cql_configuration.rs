//! The settings of the CQL store: the number of replicas, and the replicas that acknowledge a request.

use crate::{
    backends::{CqlBackend, run_on},
    stores::a_batch_stores_its_rows_and_its_checkpoint,
};
use projections::{cql::CqlError, settings::CqlConsistency};
use scylla::{
    errors::{DbError, ExecutionError, RequestAttemptError},
    statement::Consistency,
};
use std::collections::{BTreeMap, BTreeSet};

/// More replicas than the store of a test has nodes for a quorum.
const REPLICAS: u16 = 9;

async fn with_replicas() -> CqlBackend {
    CqlBackend::with_settings(|settings| settings.replication_factor = REPLICAS).await
}

/// The consistency that a request needed, if too few replicas were alive.
fn unavailable(error: &CqlError) -> Option<Consistency> {
    let CqlError::Execution(error) = error else {
        return None;
    };
    match &**error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Unavailable { consistency, .. },
            _,
        )) => Some(*consistency),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_keyspace_has_the_replication_factor_of_the_settings() {
    run_on(with_replicas().await, async |backend: &CqlBackend| {
        const FIND: &str =
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let session = backend.session();
        let found = session.fetch::<(BTreeMap<String, String>,)>(FIND, (backend.keyspace(),));
        let (mut replication,) = found.await.unwrap().remove(0);
        let class = replication.remove("class").unwrap();
        assert!(class.ends_with("NetworkTopologyStrategy"), "{class}");
        // Each of the others is the number of a data centre.
        let numbers: BTreeSet<String> = replication.into_values().collect();
        assert_eq!(numbers, BTreeSet::from([REPLICAS.to_string()]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_the_replicas_of_the_settings() {
    run_on(with_replicas().await, async |backend: &CqlBackend| {
        backend
            .change("CREATE TABLE {keyspace}.numbers (number int PRIMARY KEY)")
            .await;
        for (setting, expected) in [
            (CqlConsistency::LocalQuorum, Consistency::LocalQuorum),
            (CqlConsistency::Quorum, Consistency::Quorum),
            (CqlConsistency::All, Consistency::All),
        ] {
            let session = backend.session_with(setting).await;
            let select = "SELECT number FROM {keyspace}.numbers WHERE number = ?";
            let found = session.fetch::<(i32,)>(select, (1,)).await;
            let error = found.expect_err("enough replicas are alive");
            assert_eq!(unavailable(&error), Some(expected), "{error}");
        }
    })
    .await;
}

/// The default needs a quorum of one data centre.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_at_a_quorum_of_all_data_centres() {
    let set = |settings: &mut projections::CqlSettings| {
        settings.consistency = CqlConsistency::Quorum;
    };
    let backend = CqlBackend::with_settings(set).await;
    run_on(
        backend,
        a_batch_stores_its_rows_and_its_checkpoint::<CqlBackend>,
    )
    .await;
}
