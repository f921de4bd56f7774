//! The read models after an import, cell by cell.

use crate::{
    cells::{Cells, Views},
    import::{Imported, imported},
};
use anyhow::Result;
use system_tests::environment::online_retail;
use tokio::sync::OnceCell;

/// The expected cells, computed once.
async fn cells() -> Result<&'static Cells> {
    static CELLS: OnceCell<Cells> = OnceCell::const_new();
    CELLS
        .get_or_try_init(async || Cells::of(&online_retail()).await)
        .await
}

fn views(imported: &Imported) -> Views<'_> {
    Views {
        deployment: &imported.deployment,
        node: &imported.node,
    }
}

pub async fn the_view_of_orders_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_orders(cells().await?).await
}

pub async fn the_history_of_orders_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_history(cells().await?).await
}

pub async fn the_view_of_customers_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_customers(cells().await?).await
}

pub async fn the_view_of_countries_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_countries(cells().await?).await
}

pub async fn the_catalog_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_catalog(cells().await?).await
}

pub async fn the_timelines_have_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    views(&imported).check_timelines(cells().await?).await
}
