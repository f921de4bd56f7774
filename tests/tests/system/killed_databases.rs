//! Databases that are killed and started again during an import: every view then has the cells of the file. This stops
//! the databases of all other tests, so `./dev test --full` runs it alone.

use crate::{
    importer::{Importer, shortened},
    projector_faults::{check_views, commands, end_import, with_seed},
};
use anyhow::{Context, Result};
use fastrand::Rng;
use std::time::Duration;
use system_tests::{Deployment, Expectation, Server};

/// Longest time from one point of the import to the next one.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn databases_killed_at_random_points_of_an_import_leave_every_view_right(
    deployment: &Deployment,
) -> Result<()> {
    with_seed(|random| kill_during_import(deployment, random)).await
}

async fn kill_during_import(deployment: &Deployment, mut random: Rng) -> Result<()> {
    let file = shortened(deployment)?;
    let expectation = Expectation::of(&file).await?;
    let mut node = deployment.serve().await?;
    let importer = Importer::begin(deployment, &file)?;
    let half = commands(&expectation) / 2;
    for (index, server) in [Server::Postgres, Server::Cassandra]
        .into_iter()
        .enumerate()
    {
        let point = random.i64(1..half) + half * i64::try_from(index)?;
        let killed = async {
            node.answered(point as f64, ANSWERS_TIMEOUT).await?;
            server.kill(&deployment.environment).await?;
            // Otherwise the import would end while the server starts.
            importer.suspend().await?;
            server.start(&deployment.environment).await?;
            importer.resume().await
        };
        let context = || format!("{server:?} killed after {point} commands");
        killed.await.with_context(context)?;
    }
    end_import(importer).await?;
    node.ready().await?;
    check_views(deployment, &mut node, &file, &expectation).await
}
