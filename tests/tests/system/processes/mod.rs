//! Several command processes: any of them takes any command; one joins, one leaves, one is killed.

mod load;
mod traces;
mod troubles;

use anyhow::{Context, Result, ensure};
use kafka::BatchConsumer;
use load::{Load, Pause};
use schemas::{owners::Entry, topics::OWNERS};
use serde_json::{Value, json};
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use system_tests::{Daybook, Look, World, audit_log, until, world::free_addresses};
use tokio::time::{Instant, timeout};

/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until a change of the group has taken effect.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(90);
/// Lines of the batches.
const LINES: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_decided_once_whichever_process_takes_it() -> Result<()> {
    let world = World::of_journals("processes").await?;
    let processes = start(&world, &free_addresses(3)?).await?;
    for number in 0..12 {
        let body = json!({"sku": format!("P-{number}"), "description": "a product"});
        let key = format!("once/{number}");
        let asks = processes
            .iter()
            .map(|process| process.client().post("/api/v1/products", &body, Some(&key)));
        let answers = futures_util::future::try_join_all(asks).await?;
        for answer in &answers {
            answer.expect(201)?;
            let position = answer.header("daybook-position");
            ensure!(
                position == answers[0].header("daybook-position"),
                "{answers:?}"
            );
        }
        let other = json!({"sku": format!("P-{number}"), "description": "another"});
        for process in &processes {
            let client = process.client();
            let stolen = client.post("/api/v1/products", &other, Some(&key)).await?;
            stolen.problem(422, "IDEMPOTENCY_KEY_REUSED")?;
            let refused = client.post("/api/v1/products", &other, None).await?;
            refused.problem(409, "PRODUCT_EXISTS")?;
        }
    }
    check_batches(&processes).await?;
    let forwarded = futures_util::future::try_join_all(
        processes
            .iter()
            .map(|process| process.client().metric("daybook_commands_forwarded_total")),
    );
    let forwarded: f64 = forwarded.await?.iter().sum();
    ensure!(forwarded > 0.0, "nothing was forwarded");
    let decisions = audit_log::decisions(&world, &["--event", "ProductCreated"]).await?;
    ensure!(decisions.len() == 12, "{} products", decisions.len());
    traces::check(&world, &processes).await?;
    check_metrics(&processes).await?;
    let report = audit_log::verify(&world).await?;
    ensure!(report["findings_total"] == 0, "{report}");
    check_altered_topics(&world, &processes).await
}

/// Every process knows every owner, and together they hold every office.
async fn check_metrics(processes: &[Daybook]) -> Result<()> {
    let places = f64::from(u32::try_from(schemas::owners::places().count())?);
    let mut in_office = 0.0;
    for process in processes {
        let client = process.client();
        let known = client.metric("daybook_commands_owners_known").await?;
        ensure!(known == places, "{known} of {places} owners known");
        let sent_on = client.metric("daybook_commands_sent_on_total").await?;
        ensure!(sent_on > 0.0, "{} sent nothing on", client.base());
        let text = client.get("/metrics").await?.text;
        let epochs = text
            .lines()
            .filter(|line| line.starts_with("daybook_journal_epoch{"));
        in_office += epochs
            .filter(|line| !line.ends_with(" 0"))
            .map(|_| 1.0)
            .sum::<f64>();
    }
    ensure!(in_office == places, "{in_office} of {places} in office");
    Ok(())
}

/// A journal whose configuration somebody changes is written to no more, until it is as it must be; one
/// that somebody replaces never again.
async fn check_altered_topics(world: &World, processes: &[Daybook]) -> Result<()> {
    let set_retention = async |value: &str| {
        let brokers = &world.environment.kafka_brokers;
        let arguments = [brokers, "journal.catalog", "retention.ms", value];
        world.python("alter_topic.py", &arguments).await
    };
    set_retention("86400000").await?;
    ready(
        processes,
        Some("topic journal.catalog has retention.ms = 86400000"),
    )
    .await?;
    let client = processes[0].client();
    let body = json!({"sku": "P-altered", "description": "a product"});
    let key = Some("altered");
    let refused = client.post("/api/v1/products", &body, key).await?;
    refused.problem(503, "JOURNAL_UNAVAILABLE")?;
    let answers = client.post_lines(format!("{}\n", sale(LINES))).await?;
    ensure!(answers[0]["status"] == 201, "orders: {answers:?}");
    // While something is wrong they compare again soon, so that this is seen within seconds.
    let admin = world.admin()?;
    admin.delete(&["journal.orders"]).await?;
    until("the topic to be made again", CHANGE_TIMEOUT, async || {
        Ok(match admin.ensure(&[schemas::topics::TOPICS[0]]).await {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })
    .await?;
    ready(
        processes,
        Some("topic journal.orders has log id of partition"),
    )
    .await?;
    let sold = client.post_lines(format!("{}\n", sale(LINES + 1))).await?;
    ensure!(sold[0]["status"] == 503, "orders: {sold:?}");
    set_retention("-1").await?;
    until("products to be taken again", CHANGE_TIMEOUT, async || {
        let taken = client.post("/api/v1/products", &body, key).await?;
        Ok(Look::at(taken.status == 201, || taken.text))
    })
    .await
}

/// Waits until every process says that its topics are well, or what is wrong with them.
async fn ready(processes: &[Daybook], trouble: Option<&str>) -> Result<()> {
    for process in processes {
        until("the topics to be compared", CHANGE_TIMEOUT, async || {
            let answer = process.client().get("/health/ready").await?;
            let is_seen = match trouble {
                None => answer.status == 200,
                Some(trouble) => answer.status == 503 && answer.text.contains(trouble),
            };
            Ok(Look::at(is_seen, || answer.text))
        })
        .await?;
    }
    Ok(())
}

/// A batch at one process, and again at another: the same answers, in the order of the lines.
async fn check_batches(processes: &[Daybook]) -> Result<()> {
    let lines: String = (0..LINES)
        .map(|number| format!("{}\n", sale(number)))
        .collect();
    let first = processes[0].client().post_lines(lines.clone()).await?;
    let again = processes[1].client().post_lines(lines).await?;
    ensure!(
        first.len() == LINES && again.len() == LINES,
        "lines are missing"
    );
    let mut last: HashMap<String, i64> = HashMap::new();
    for (first, again) in first.iter().zip(&again) {
        ensure!(first["status"] == 201, "{first}");
        ensure!(first["replayed"] == false, "{first}");
        ensure!(again["replayed"] == true, "{again}");
        ensure!(first["position"] == again["position"], "{first}, {again}");
        let position = first["position"].as_str().context("no position")?;
        let (place, offset) = position.split_once('@').context("no offset")?;
        let offset = offset.parse()?;
        let before = last.insert(place.to_owned(), offset);
        ensure!(before < Some(offset), "{place}: {before:?}, then {offset}");
    }
    ensure!(last.len() == 4, "not every partition was met: {last:?}");
    Ok(())
}

fn sale(number: usize) -> Value {
    let line = json!({"sku": "A", "quantity": 1, "unit_price": 1_000_000});
    let body = json!({"invoice": format!("{number}"), "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z", "lines": [line]});
    json!({"key": format!("sale/{number}"), "command": "ImportSale", "body": body})
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_come_and_go_under_load_and_nothing_is_lost_or_doubled() -> Result<()> {
    let world = World::of_journals("come_and_go").await?;
    let addresses = free_addresses(3)?;
    let mut processes = start(&world, &addresses[..2]).await?;
    let load = Load::begin(&addresses[..2]).await?;

    // One more joins, and gets a share.
    load.pause();
    let mut third = world.commands_at(addresses[2]).await?;
    third.ready().await?;
    load.add(addresses[2]);
    in_office(&third, 1.0).await?;
    let joined = load.pause_of_everyone().await?;

    // It leaves in order: no client hears of it.
    let (status, time) = third.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(status.success(), "it ended with {status} after {time:?}");
    let left = load.pause_of_everyone().await?;
    println!("told to stop, it ended within {} ms", time.as_millis());
    ensure!(left.errors.is_empty(), "clients heard: {:?}", left.errors);

    // The one that owns the most of what the load changes is killed; that goes to the other.
    let mut owners = owners_of_products(&world).await?;
    let index = usize::from(owners.remove(&addresses[1]) > owners.remove(&addresses[0]));
    ensure!(owners.is_empty(), "others own products: {owners:?}");
    processes.remove(index).kill().await?;
    load.remove(addresses[index]);
    let killed = load.pause_of_everyone().await?;

    // The last one is killed and started again at once: under its name, it has everything back.
    let begun = Instant::now();
    processes.remove(0).kill().await?;
    let back = world.commands_at(addresses[1 - index]).await?;
    let restarted = load.pause_of_everyone().await?;
    println!(
        "killed and started, served within {} ms",
        begun.elapsed().as_millis()
    );

    let acknowledged = load.end().await?;
    for (name, pause) in [
        ("routing.join_pause_ms", &joined),
        ("routing.sigterm_pause_ms", &left),
        ("routing.kill_pause_ms", &killed),
        ("routing.restart_pause_ms", &restarted),
    ] {
        print_pause(name, pause);
    }
    drop(back);
    check_log(&world, &acknowledged).await
}

fn print_pause(name: &str, pause: &Pause) {
    let value = pause.longest.as_millis();
    println!(
        "{}",
        json!({"bench": name, "value": u64::try_from(value).ok(), "unit": "ms"})
    );
    println!(
        "{name}: {} commands, errors {:?}",
        pause.commands, pause.errors
    );
}

/// Every acknowledged command stands in the log once, and nothing else but what was asked last.
async fn check_log(world: &World, acknowledged: &HashMap<String, usize>) -> Result<()> {
    let mut found: HashMap<String, usize> = HashMap::new();
    audit_log::read(world, &["--context", "catalog"], |decision| {
        *found.entry(decision.key).or_default() += decision.events.len();
        Ok(())
    })
    .await?;
    for (sku, count) in acknowledged {
        let events = found.get(&format!("product_{sku}")).copied();
        ensure!(
            events == Some(*count),
            "{sku}: {events:?} events, {count} acknowledged"
        );
    }
    ensure!(found.len() == acknowledged.len(), "{found:?}");
    audit_log::verify(world).await.map(drop)
}

/// How many partitions of products each address owns, as the owners' topic has it: of two entries for
/// one partition, the one of the greater epoch.
async fn owners_of_products(world: &World) -> Result<HashMap<SocketAddr, usize>> {
    let ends = world.admin()?.watermarks(OWNERS.name, 0).await?;
    let begin = [(0, ends.low)];
    let mut consumer = BatchConsumer::start(&world.kafka(), "owners", OWNERS.name, &begin)?;
    let mut greatest: HashMap<Vec<u8>, Entry> = HashMap::new();
    let mut next = ends.low;
    while next < ends.high {
        let records = timeout(CHANGE_TIMEOUT, consumer.next()).await??;
        for record in records {
            next = record.offset + 1;
            let key = record.key.context("no key")?;
            let Some(value) = record.value else {
                greatest.remove(key.as_ref());
                continue;
            };
            let entry = Entry::parse(&value).with_context(|| format!("{value:?}"))?;
            let known = greatest.get(key.as_ref()).map_or(0, |entry| entry.epoch);
            if entry.epoch > known && key.starts_with(b"journal.catalog/") {
                greatest.insert(key.to_vec(), entry);
            }
        }
    }
    let mut owners = HashMap::new();
    for entry in greatest.into_values() {
        let address = entry.url.trim_start_matches("http://").parse()?;
        *owners.entry(address).or_default() += 1;
    }
    Ok(owners)
}

/// Starts processes, and returns once they have divided the partitions among them.
async fn start(world: &World, addresses: &[SocketAddr]) -> Result<Vec<Daybook>> {
    let starts = addresses.iter().map(|address| world.commands_at(*address));
    let mut processes = futures_util::future::try_join_all(starts).await?;
    for process in &mut processes {
        process.ready().await?;
        in_office(process, 1.0).await?;
    }
    Ok(processes)
}

/// Waits until a process has taken over so many partitions.
async fn in_office(process: &Daybook, count: f64) -> Result<()> {
    until("a process to take over", CHANGE_TIMEOUT, async || {
        let client = process.client();
        let taken = client.metric("daybook_journal_takeovers_total").await?;
        Ok(Look::at(taken >= count, || format!("{taken} of {count}")))
    })
    .await
}
