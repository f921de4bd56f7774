//! A registry that answers but refuses requests for schemas. A node waits for the schemas of the log, and loses no
//! record.

use anyhow::{Context, Result, ensure};
use axum::{
    Json, Router, body::to_bytes, extract::Request, http::StatusCode, response::IntoResponse,
};
use schemas::topics::REVENUE_BY_COUNTRY_DAY;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use system_tests::{
    Deployment, Node, Poll, audit_log,
    sale::{SALES, node_with_sales, sell},
    totals_by_source::{self, Aggregates},
    until,
};
use tokio::net::TcpListener;

/// Statuses of the refusals: an error of the registry, and a schema that it does not have yet.
const REFUSALS: [u16; 2] = [503, 404];
/// Longest time until readiness reports the refusal.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);
/// The readiness component of a process before its roles start. A node without a state directory compares the registry
/// with the log at this time.
const STARTING: &str = "topics and schemas";
/// Longest body that the proxy forwards.
const BODY_BYTES_MAX: usize = 1 << 20;

pub async fn a_reader_waits_for_a_schema_that_the_registry_refuses_and_skips_no_record(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let sales = i64::try_from(SALES)?;
    node.kill().await?;
    // Without their state stores the owners read the journals from the beginning, as the job does.
    std::fs::remove_dir_all(deployment.folder.join("daybook-state"))?;

    let proxy = SchemaFaultProxy::before(&deployment.environment.registry_url).await?;
    proxy.refuse(REFUSALS[0]);
    let mut command = deployment.command();
    command.env("DAYBOOK_REGISTRY_URL", &proxy.url);
    let (listen, log) = (deployment.listen(), deployment.log("serve"));
    let mut node = Node::start(command, "serve", listen, &log).await?;
    for status in REFUSALS {
        proxy.refuse(status);
        waits_for_schema(&node)
            .await
            .with_context(|| format!("refused with {status}"))?;
    }
    proxy.stop_refusing();
    node.ready().await?;

    // An owner that had skipped a record would decide its command again.
    sell(&node, "before").await?;
    node.caught_up().await?;
    let aggregates = Aggregates::read(deployment, &REVENUE_BY_COUNTRY_DAY).await?;
    for (source, totals) in [
        ("journal", totals_by_source::of_journal(deployment).await?),
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("aggregates", aggregates.totals()),
    ] {
        ensure!(
            totals.sales == sales,
            "{source}: {totals:?} instead of {sales} sales"
        );
    }
    audit_log::verify(deployment).await.map(drop)
}

/// Waits until the node is not ready and names the schema as the reason.
async fn waits_for_schema(node: &Node) -> Result<()> {
    until(
        "a node that waits for a schema",
        NOTICE_TIMEOUT,
        async || {
            let answer = node.client().get("/health/ready").await?;
            let reason = answer.json()?["components"][STARTING].clone();
            let names_schema = reason.as_str().is_some_and(|text| text.contains("schema"));
            Ok(Poll::of(answer.status == 503 && names_schema, || {
                answer.text
            }))
        },
    )
    .await
}

/// An HTTP proxy in front of the registry. It forwards every request, but can be set to refuse schemas.
struct SchemaFaultProxy {
    url: String,
    /// The status of a refusal; 0 for none.
    refusal: Arc<AtomicU16>,
}

impl SchemaFaultProxy {
    /// `registry` is the base address of its Confluent API.
    async fn before(registry: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let path_at = registry
            .find("/apis")
            .context("a registry without a path")?;
        let (origin, path) = registry.split_at(path_at);
        let url = format!("http://{}{path}", listener.local_addr()?);
        let refusal = Arc::new(AtomicU16::new(0));
        let (current, origin) = (refusal.clone(), origin.to_owned());
        let http = reqwest::Client::builder().no_proxy().build()?;
        let router = Router::new().fallback(move |request: Request| {
            let (http, origin) = (http.clone(), origin.clone());
            let refusal = StatusCode::from_u16(current.load(Ordering::Relaxed));
            async move {
                match refusal {
                    Ok(status) if request.uri().path().contains("/schemas/ids/") => {
                        refuse_with(status).into_response()
                    }
                    Ok(_) | Err(_) => forward(&http, &origin, request).await.map_or_else(
                        |error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
                        IntoResponse::into_response,
                    ),
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, refusal })
    }

    fn refuse(&self, status: u16) {
        self.refusal.store(status, Ordering::Relaxed);
    }

    fn stop_refusing(&self) {
        self.refusal.store(0, Ordering::Relaxed);
    }
}

/// An error in the format of the Confluent API.
fn refuse_with(status: StatusCode) -> impl IntoResponse {
    let error = json!({"error_code": status.as_u16(), "message": "not now"});
    (status, Json(error))
}

async fn forward(
    http: &reqwest::Client,
    origin: &str,
    request: Request,
) -> Result<impl IntoResponse + use<>> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    headers.remove("host");
    let passed = http
        .request(parts.method, format!("{origin}{}", parts.uri))
        .headers(headers)
        .body(to_bytes(body, BODY_BYTES_MAX).await?);
    let answer = passed.send().await?;
    let media_type = answer.headers().get("content-type").cloned();
    let media_type = media_type.context("an answer without a media type")?;
    let status = answer.status();
    Ok((
        status,
        [("content-type", media_type)],
        answer.bytes().await?,
    ))
}
