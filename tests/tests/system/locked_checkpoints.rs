//! Stalls a view in Postgres: its projectors wait for the lock of a stored checkpoint before they apply a batch.

use anyhow::{Result, ensure};
use sqlx::{PgPool, Postgres, Transaction};

/// Locks every checkpoint of a view, until the transaction ends.
pub async fn lock_view(view: &str, pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    let lock = "SELECT partition FROM view_build_checkpoints WHERE view_name = $1 FOR UPDATE";
    let lock = sqlx::query_scalar(lock).bind(view);
    let locked: Vec<i32> = lock.fetch_all(&mut *transaction).await?;
    ensure!(!locked.is_empty(), "{view} has no checkpoint");
    Ok(transaction)
}

/// Locks the checkpoint of one partition of a view that reads one journal and has one build, until the transaction
/// ends.
pub async fn lock_partition(
    view: &str,
    partition: i32,
    pool: &PgPool,
) -> Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    let lock = "SELECT partition FROM view_build_checkpoints \
        WHERE view_name = $1 AND partition = $2 FOR UPDATE";
    let lock = sqlx::query_scalar(lock).bind(view).bind(partition);
    let locked: Vec<i32> = lock.fetch_all(&mut *transaction).await?;
    ensure!(
        locked == [partition],
        "the checkpoints of partitions {locked:?} of {view} are locked instead of {partition}"
    );
    Ok(transaction)
}
