//! Live updates: a client gets every event once, across restarts and at any node, and each stream ends with a reason.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use system_tests::{
    Client, Deployment, Events, Node, Poll, SseEvent,
    environment::source_file,
    expect_eq,
    free_address::free_address,
    http::send,
    sale::{import_sale, line},
    until,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpSocket,
    process::Command,
    time::timeout,
};

/// The events of the followed customer.
pub const EVENTS: &str = "/api/v1/customers/eve/events";
/// Number of sales of the followed customer. A test resumes its stream at the event of each sale.
const SALES: usize = 12;
/// Longest time until a stream ends.
pub const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time from SIGTERM to the end of a node.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of large sales. Together they exceed the buffers of a connection and the client's queue.
pub const LARGE_SALES: usize = 400;
/// Lines of a large sale.
pub const LARGE_LINES: usize = 600;

/// Size of a receive buffer that is as small as possible, so that few events are in flight.
pub const RECEIVE_BUFFER_BYTES: u32 = 4 << 10;

/// An imported sale: the order's id, and the position of its commit.
pub struct ImportedSale {
    pub id: String,
    pub position: String,
}

impl ImportedSale {
    /// The address of the order's events.
    pub fn events(&self) -> String {
        format!("/api/v1/orders/{}/events", self.id)
    }

    /// The position before the commit. A stream that resumes there begins with the order's first event.
    pub fn before(&self) -> Result<String> {
        let (log, offset) = self.position.split_once('@').context("no offset")?;
        Ok(format!("{log}@{}", offset.parse::<i64>()? - 1))
    }
}

pub async fn a_client_that_resumes_at_any_event_over_a_restart_misses_none_and_gets_none_twice(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let mut events = followed(&node, "first").await?;
    let mut ids = vec![events.last_id.clone()];
    let mut expected = Vec::new();
    for number in 0..SALES {
        let sold = sell(node.client(), &format!("sale {number}"), "eve", 1).await?;
        sell(node.client(), &format!("other {number}"), "bob", 1).await?;
        let event = events.next().await?;
        expect_eq("the aggregate", &event.data["aggregate"], &json!(sold.id))?;
        expect_eq(
            "the position",
            &event.data["position"],
            &json!(sold.position),
        )?;
        ids.push(event.id.clone());
        expected.push(event);
    }
    check_resuming_at_each_event(&node, &ids, &expected).await?;
    drop(events);
    node.kill().await?;
    let node = deployment.serve().await?;
    check_resuming_at_each_event(&node, &ids, &expected).await?;
    // New events follow the events that are read from the log.
    let mut events = Events::open(node.client(), EVENTS, Some(&ids[SALES / 2])).await?;
    let missed = events.take(SALES - SALES / 2).await?;
    same_events(&missed, &expected[SALES / 2..])?;
    let sold = sell(node.client(), "after the restart", "eve", 1).await?;
    let event = events.next().await?;
    expect_eq("the aggregate", &event.data["aggregate"], &json!(sold.id))?;
    Ok(())
}

pub async fn an_event_reaches_the_clients_of_every_node(deployment: &Deployment) -> Result<()> {
    let nodes = [
        deployment.serve().await?,
        deployment.serve_at(free_address()?).await?,
    ];
    let mut first = followed(&nodes[0], "first").await?;
    let mut second = Events::open(nodes[1].client(), EVENTS, Some(&first.last_id)).await?;
    for number in 0..SALES {
        let writer = nodes[number % 2].client();
        let sold = sell(writer, &format!("sale {number}"), "eve", 1).await?;
        for events in [&mut first, &mut second] {
            let event = events.next().await?;
            expect_eq("the aggregate", &event.data["aggregate"], &json!(sold.id))?;
        }
        // Each node resumes from the id that the other node sent.
        let (one, other) = (first.last_id.clone(), second.last_id.clone());
        first = Events::open(nodes[0].client(), EVENTS, Some(&other)).await?;
        second = Events::open(nodes[1].client(), EVENTS, Some(&one)).await?;
    }
    Ok(())
}

pub async fn an_order_is_followed_from_the_position_of_its_command(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let sold = sell(node.client(), "an order", "eve", 2).await?;
    let path = sold.events();
    let mut events = Events::open(node.client(), &path, Some(&sold.before()?)).await?;
    let event = events.next().await?;
    expect_eq("the id", &event.id, &format!("{}#0", sold.position))?;
    let data = &event.data["data"];
    ensure!(
        event.data["type"] == "SaleImported" && event.data["version"] == 1,
        "not SaleImported with version 1: {event:?}"
    );
    ensure!(
        data["ordered_at"] == "2010-12-01T08:26:00Z",
        "ordered_at is not 2010-12-01T08:26:00Z: {event:?}"
    );
    let lines = data["lines"].as_array().map(Vec::len);
    expect_eq("the number of lines", &lines, &Some(2))?;
    // A client that names the command's position finds the order, even if the view has not applied the command yet.
    let request = node.client().request(reqwest::Method::GET, &path);
    let response = request
        .header("daybook-position", &sold.position)
        .send()
        .await?;
    expect_eq("the status", &response.status().as_u16(), &200)
}

pub async fn a_stream_that_can_not_begin_is_refused(deployment: &Deployment) -> Result<()> {
    let mut command = deployment.command();
    command.env("DAYBOOK_HTTP_LIVE_CLIENTS_MAX", "2");
    let mut node = Node::start(
        command,
        "serve",
        deployment.listen(),
        &deployment.log("serve"),
    )
    .await?;
    node.ready().await?;
    let client = node.client();
    let first = followed(&node, "first").await?;
    for (path, status, code) in [
        (
            "/api/v1/orders/order_01h455vb4pex5vsknk084sn02q/events",
            404,
            "ORDER_NOT_FOUND",
        ),
        ("/api/v1/orders/17/events", 400, "INVALID_ORDER_ID"),
        ("/api/v1/customers/nobody/events", 404, "CUSTOMER_NOT_FOUND"),
        (
            "/api/v1/customers/eve/events?last_event_id=7",
            400,
            "LAST_EVENT_ID_INVALID",
        ),
        (
            "/api/v1/customers/eve/events?after=7",
            400,
            "UNKNOWN_OR_INVALID_PARAMETER",
        ),
    ] {
        client.get(path).await?.problem(status, code)?;
    }
    let upgrade = |origin| {
        let request = client
            .request(reqwest::Method::GET, EVENTS)
            .header("origin", origin);
        let request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        send(
            request
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", key),
        )
    };
    upgrade("http://page.example")
        .await?
        .problem(403, "ORIGIN_NOT_SERVED")?;
    // The node notices only after some time that an earlier client has disconnected.
    let second = until("a place for a second client", END_TIMEOUT, async || {
        Ok(match Events::open(client, EVENTS, None).await {
            Ok(second) => Poll::Ready(second),
            Err(error) => Poll::Pending(format!("{error:#}")),
        })
    })
    .await?;
    client
        .get(EVENTS)
        .await?
        .problem(503, "TOO_MANY_LIVE_CLIENTS")?;
    drop((first, second));
    Ok(())
}

pub async fn a_client_that_does_not_read_is_dropped_with_the_reason(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let last = followed(&node, "first").await?.last_id;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let mut stream = socket.connect(deployment.listen()).await?;
    let request = format!(
        "GET {EVENTS} HTTP/1.1\r\nHost: {}\r\nLast-Event-ID: {last}\r\nConnection: close\r\n\r\n",
        deployment.listen()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    expect_eq("the status line", &head.as_str(), &"HTTP/1.1 200 OK")?;
    for number in 0..LARGE_SALES {
        sell(
            node.client(),
            &format!("large {number}"),
            "eve",
            LARGE_LINES,
        )
        .await?;
    }
    let mut text = Vec::new();
    let read = timeout(END_TIMEOUT, stream.read_to_end(&mut text)).await;
    read.context("the stream does not end")??;
    let text = String::from_utf8_lossy(&text);
    ensure!(
        text.contains("CLIENT_TOO_SLOW"),
        "no CLIENT_TOO_SLOW at the end of {} bytes",
        text.len()
    );
    let metric = "daybook_projections_live_slow_clients_total";
    let slow = node.client().metric(metric).await?;
    ensure!(slow >= 1.0, "{metric} is {slow} instead of at least 1");
    Ok(())
}

pub async fn clients_in_another_language_read_both_forms(deployment: &Deployment) -> Result<()> {
    let node = deployment.serve().await?;
    let mut events = followed(&node, "first").await?;
    let last = events.last_id.clone();
    for number in 0..SALES {
        sell(node.client(), &format!("sale {number}"), "eve", 1).await?;
    }
    let expected: Vec<Value> = events
        .take(SALES)
        .await?
        .into_iter()
        .map(|event| event.data)
        .collect();
    let url = node.client().base();
    let arguments = [url, EVENTS, &last, &SALES.to_string()];
    let found = deployment.python("live.py", &arguments).await?;
    let found: Value = serde_json::from_str(&found)?;
    for form in ["sse", "websocket"] {
        expect_eq(form, &found[form], &json!(expected))?;
    }
    Ok(())
}

pub async fn a_stream_of_a_stopping_node_ends_with_the_reason(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let mut events = followed(&node, "first").await?;
    let last = events.last_id.clone();
    sell(node.client(), "second", "eve", 1).await?;
    events.next().await?;
    let mut child = Command::new(&deployment.environment.python)
        .arg(source_file("tests/python/live.py"))
        .args([node.client().base(), EVENTS, &last, "1", "--until-end"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(output).lines();
    // Both clients of the program are connected once it has printed their event.
    json_line(&mut lines).await?;
    let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    let ends = json_line(&mut lines).await?;
    let sse = &ends["sse_end"];
    ensure!(
        sse["name"] == "error" && sse["code"] == "NODE_STOPPING",
        "not an error with the code NODE_STOPPING: {sse}"
    );
    let websocket = json!({"code": 1001, "reason": "NODE_STOPPING"});
    expect_eq("websocket_end", &ends["websocket_end"], &websocket)?;
    let end = events.next().await?;
    ensure!(
        end.name == "error" && end.data["code"] == "NODE_STOPPING",
        "not an error with the code NODE_STOPPING: {end:?}"
    );
    Ok(())
}

async fn json_line(
    lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
) -> Result<Value> {
    let line = timeout(END_TIMEOUT, lines.next_line()).await;
    let line = line
        .context("no line in time")??
        .context("the program has ended")?;
    Ok(serde_json::from_str(&line)?)
}

/// Imports a first sale of the customer; returns the stream of the customer's later events.
pub async fn followed(node: &Node, sale: &str) -> Result<Events> {
    let sold = sell(node.client(), sale, "eve", 1).await?;
    let request = node.client().request(reqwest::Method::GET, EVENTS);
    // Waits until the customer is known.
    let response = request
        .header("daybook-position", &sold.position)
        .send()
        .await?;
    expect_eq("the status", &response.status().as_u16(), &200)?;
    drop(response);
    Events::open(node.client(), EVENTS, None).await
}

/// Opens a stream after each id, and compares its events with the expected ones.
async fn check_resuming_at_each_event(
    node: &Node,
    ids: &[String],
    expected: &[SseEvent],
) -> Result<()> {
    for (index, id) in ids.iter().enumerate() {
        let mut events = Events::open(node.client(), EVENTS, Some(id)).await?;
        let found = events.take(expected.len() - index).await?;
        same_events(&found, &expected[index..]).with_context(|| format!("after {id}"))?;
    }
    Ok(())
}

/// Compares events by their positions. Ids also name other partitions, whose positions may differ.
fn same_events(found: &[SseEvent], expected: &[SseEvent]) -> Result<()> {
    let positions = |events: &[SseEvent]| {
        let mut positions: Vec<String> = events
            .iter()
            .map(|event| event.data["position"].to_string())
            .collect();
        // Events of different partitions come in any order.
        positions.sort();
        positions
    };
    expect_eq("positions", &positions(found), &positions(expected))
}

/// Imports a sale with some lines.
pub async fn sell(
    client: &Client,
    name: &str,
    customer: &str,
    lines: usize,
) -> Result<ImportedSale> {
    let sale = json!({"invoice": name, "customer": customer, "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z", "lines": vec![line("A"); lines]});
    let answers = client
        .post_lines(format!("{}\n", import_sale(name, &sale)))
        .await?;
    let answer = answers.first().context("no answer")?;
    ensure!(answer["status"] == 201, "status is not 201: {answer}");
    let text = |name: &str| {
        let text = answer[name].as_str().map(str::to_owned);
        text.with_context(|| format!("no {name}: {answer}"))
    };
    Ok(ImportedSale {
        id: text("id")?,
        position: text("position")?,
    })
}
