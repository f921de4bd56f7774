//! Many buyers of one product. In the end exactly as many pieces are sold as there were: the buyers'
//! answers say so, and so does the log.

use crate::{
    fresh_log,
    office::{self, Office},
    requests::Client,
    servers::Servers,
    shelf::{Command, SOLD_OUT},
    usage,
};
use anyhow::{Context, Result, bail, ensure};
use journal::{Checkpoint, Reader};
use schemas::{ContextEvent, catalog::Event, topics::PARTITIONS};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// What everybody wants.
const SKU: &str = "SHELF-HOT";
/// How long the log may be silent where it is known to go on.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The rush.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where owners keep what outlives their process. It is emptied.
    #[arg(long)]
    store: PathBuf,
    /// Buyers, each of whom waits for an answer before the next try.
    #[arg(long, default_value_t = 512)]
    buyers: u64,
    /// Pieces to sell.
    #[arg(long, default_value_t = 200_000)]
    pieces: u32,
}

/// Measures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let encoder = fresh_log::make(servers, &arguments.store).await?;
    let office = Arc::new(Office::open(servers, &encoder, &arguments.store).await?);
    let pieces = i64::from(arguments.pieces);
    // Numbered behind all buyers.
    let mut stocker = Client::new(arguments.buyers);
    let answer = office
        .ask(stocker.about(SKU, Command::Stock { pieces }))
        .await?;
    ensure!(answer.outcome.is_none(), "stocking got {answer:?}");
    let started = Instant::now();
    let mut buyers = JoinSet::new();
    for number in 0..arguments.buyers {
        buyers.spawn(buy_all(office.clone(), Client::new(number)));
    }
    let mut sold = 0;
    while let Some(bought) = buyers.join_next().await {
        sold += bought??;
    }
    let time = started.elapsed();
    ensure!(sold == pieces, "{sold} sold of {pieces}, by the answers");
    let in_log = sold_in_log(servers, answer.partition).await?;
    ensure!(in_log == pieces, "{in_log} sold of {pieces}, by the log");
    if let Some(office) = Arc::into_inner(office) {
        office.close().await;
    }
    Ok(json!({
        "journal.hot_rate": f64::from(arguments.pieces) / time.as_secs_f64(),
        "journal.rss_mb": usage::peak_mb("self")?,
    }))
}

/// Buys until nothing is left; gives how many pieces that were.
async fn buy_all(office: Arc<Office>, mut buyer: Client) -> Result<i64> {
    let mut bought = 0;
    loop {
        let answer = office.ask(buyer.about(SKU, Command::Sell)).await?;
        match answer.outcome {
            None => bought += 1,
            Some(refusal) if refusal.code == SOLD_OUT.1 => return Ok(bought),
            Some(refusal) => bail!("a sale got {refusal:?}"),
        }
    }
}

/// Counts sales in the log, which must each take one piece from what was left.
async fn sold_in_log(servers: &Servers, partition: i32) -> Result<i64> {
    let source = office::source(servers)?;
    let topic = Event::CONTEXT.topic;
    ensure!(
        (0..PARTITIONS).contains(&partition),
        "partition {partition}"
    );
    let end = source.admin.watermarks(topic, partition).await?.high;
    let start = Checkpoint::start(topic, partition);
    let mut reader = Reader::<Event>::open(&source, "bench-hot", vec![start]).await?;
    let (mut next_offset, mut sold, mut left) = (0, 0, 0);
    while next_offset < end {
        let batch = tokio::time::timeout(READ_TIMEOUT, reader.next()).await;
        let batch = batch.with_context(|| format!("the log is silent at {next_offset}"))??;
        let decisions = batch.commits.iter().filter_map(journal::Valid::decision);
        for event in decisions.flat_map(|decision| &decision.events) {
            let Event::ProductPriceChanged(changed) = event else {
                bail!("an event that nobody asked for: {event:?}");
            };
            let old = changed.old.map_or(0, |old| old.amount);
            ensure!(old == left, "{old} pieces left where {left} were");
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
