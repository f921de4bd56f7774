//! Many buyers of one product. At the end the number of sales must equal the number of pieces, both by the
//! buyers' answers and by the log.

use crate::{
    fresh_log,
    owners::{self, Owners},
    requests::Client,
    servers::Servers,
    usage,
    workload::{Command, SOLD_OUT},
};
use anyhow::{Context, Result, bail, ensure};
use journal::{Checkpoint, Reader};
use schemas::{
    ContextEvent,
    catalog::{Event, ProductEvent},
};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// The product.
const SKU: &str = "STOCK-HOT";
/// Longest wait for the next record before the end offset.
const STALL_MAX: Duration = Duration::from_secs(20);

/// The buyers and the pieces.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the owners' state stores. It is emptied.
    #[arg(long)]
    store: PathBuf,
    /// Number of buyers; each waits for an answer before its next command.
    #[arg(long, default_value_t = 512)]
    buyers: u64,
    /// Pieces to sell.
    #[arg(long, default_value_t = 200_000)]
    pieces: u32,
}

/// Runs the benchmark; returns its figures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let encoder = fresh_log::create(servers, &arguments.store).await?;
    let owners = Arc::new(Owners::start(servers, &encoder, &arguments.store).await?);
    let pieces = i64::from(arguments.pieces);
    // Its number follows the buyers' numbers.
    let mut restocker = Client::new(arguments.buyers);
    let answer = owners
        .execute(restocker.request_for(SKU, Command::Stock { pieces }))
        .await?;
    ensure!(answer.outcome.is_none(), "stocking got {answer:?}");
    let started = Instant::now();
    let mut buyers = JoinSet::new();
    for number in 0..arguments.buyers {
        buyers.spawn(buy_all(owners.clone(), Client::new(number)));
    }
    let mut sold = 0;
    while let Some(bought) = buyers.join_next().await {
        sold += bought??;
    }
    let time = started.elapsed();
    ensure!(sold == pieces, "{sold} sold of {pieces}, by the answers");
    let in_log = sold_in_log(servers, answer.partition).await?;
    ensure!(in_log == pieces, "{in_log} sold of {pieces}, by the log");
    if let Some(owners) = Arc::into_inner(owners) {
        owners.stop().await;
    }
    Ok(json!({
        "journal.hot_rate": f64::from(arguments.pieces) / time.as_secs_f64(),
        "journal.rss_mb": usage::peak_mb("self")?,
    }))
}

/// Buys until no piece is left; returns the number of pieces bought.
async fn buy_all(owners: Arc<Owners>, mut buyer: Client) -> Result<i64> {
    let mut bought = 0;
    loop {
        let answer = owners
            .execute(buyer.request_for(SKU, Command::Sell))
            .await?;
        match answer.outcome {
            None => bought += 1,
            Some(rejection) if rejection.code == SOLD_OUT => return Ok(bought),
            Some(rejection) => bail!("a sale got {rejection:?}"),
        }
    }
}

/// Counts the sales in the log. Each must reduce the number of pieces by one.
async fn sold_in_log(servers: &Servers, partition: i32) -> Result<i64> {
    let source = owners::source(servers)?;
    let topic = Event::CONTEXT.topic;
    let end = source.admin.watermarks(topic, partition).await?.high;
    let start = Checkpoint::start(topic, partition);
    let mut reader = Reader::<Event>::open(&source, "bench-hot", vec![start]).await?;
    let (mut next_offset, mut sold, mut left) = (0, 0, 0);
    while next_offset < end {
        let batch = tokio::time::timeout(STALL_MAX, reader.next()).await;
        let batch =
            batch.with_context(|| format!("no record arrives at offset {next_offset}"))??;
        let decisions = batch.commits.iter().filter_map(journal::Valid::decision);
        for event in decisions.flat_map(|decision| &decision.events) {
            let Event::Product(ProductEvent::ProductPriceChanged(changed)) = event else {
                bail!("an unexpected event: {event:?}");
            };
            let old = changed.old.map_or(0, |old| old.amount);
            ensure!(
                old == left,
                "an event says {old} pieces were left, not {left}"
            );
            if changed.new.amount < old {
                ensure!(changed.new.amount == old - 1, "{:?}", changed);
                sold += 1;
            }
            left = changed.new.amount;
        }
        next_offset = batch.checkpoint.next_offset;
    }
    ensure!(left == 0, "{left} pieces left");
    Ok(sold)
}
