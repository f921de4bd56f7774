//! A broker that checks rights: each program works with exactly the rights in its own table of `deploy/RIGHTS.md`,
//! which are fewer than those of `daybook serve`. All programs have one principal, so each test grants rights to topics
//! of its own.

use crate::rights::{as_principal, change, rights_under};
use anyhow::{Result, ensure};
use system_tests::{
    Deployment, Node,
    deployment::COMMAND_TIMEOUT,
    expect_eq,
    free_address::free_address,
    node::output_of,
    product::create_product,
    sale::{SALES, node_with_sales, sell},
    totals_by_source,
};

pub async fn a_node_of_the_write_side_serves_with_its_documented_rights(
    deployment: &Deployment,
) -> Result<()> {
    for create in [["topics", "create"], ["schemas", "register"]] {
        deployment.run_successfully(&create).await?;
    }
    grant(deployment, "A node of the write side alone").await?;
    let (command, log) = (as_principal(deployment)?, deployment.log("commands"));
    let mut node = Node::start(command, "commands", deployment.listen(), &log).await?;
    node.ready().await?;
    sell(&node, "with rights").await?;
    create_product(node.client(), "P-1").await?;
    node.ready().await
}

pub async fn a_projector_projects_every_view_with_its_documented_rights(
    deployment: &Deployment,
) -> Result<()> {
    // The node is another principal, which has every right.
    let mut node = deployment.serve_without_projectors().await?;
    grant(deployment, "A projector").await?;
    let (listen, log) = (free_address()?, deployment.log("projector"));
    let mut command = as_principal(deployment)?;
    command.env("DAYBOOK_HTTP_LISTEN", listen.to_string());
    let mut projector = Node::start(command, "projector", listen, &log).await?;
    projector.ready().await?;
    node.ready().await?;
    sell(&node, "projected").await?;
    create_product(node.client(), "P-1").await?;
    node.caught_up().await?;
    let found = totals_by_source::of_postgres(deployment).await?.sales;
    expect_eq("sales in Postgres", &found, &i64::try_from(SALES)?)?;
    projector.ready().await
}

pub async fn tools_that_read_the_journals_work_with_their_documented_rights(
    deployment: &Deployment,
) -> Result<()> {
    let _node = node_with_sales(deployment, "sold").await?;
    grant(deployment, "Tools that read the journals").await?;
    works(deployment, &["audit", "verify"]).await?;
    works(deployment, &["journal", "describe"]).await
}

pub async fn reconcile_works_with_its_documented_rights(deployment: &Deployment) -> Result<()> {
    let _node = node_with_sales(deployment, "sold").await?;
    grant(deployment, "The comparison of totals").await?;
    let url = format!("http://{}", deployment.listen());
    works(deployment, &["reconcile", "--url", &url]).await
}

/// Grants the principal the rights under a heading, and no others.
async fn grant(deployment: &Deployment, heading: &str) -> Result<()> {
    let rights = rights_under(deployment, heading)?;
    change(deployment, "allow", &rights).await
}

/// Runs a subcommand as the principal; it must end with exit code 0.
async fn works(deployment: &Deployment, arguments: &[&str]) -> Result<()> {
    let mut command = as_principal(deployment)?;
    command.args(arguments);
    let ended = output_of(command, COMMAND_TIMEOUT).await?;
    ensure!(
        ended.code == 0,
        "daybook {arguments:?} ended with {} instead of 0: {}{}",
        ended.code,
        ended.stdout,
        ended.stderr
    );
    Ok(())
}
