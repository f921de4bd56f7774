//! The registry is there but gives no schema: whoever must read waits, and nothing is lost by it.

use crate::bad_records::sell;
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
    Daybook, Look, World, audit_log,
    ledgers::{self, Aggregates},
    until,
};
use tokio::net::TcpListener;

/// The answers to whoever asks for a schema, one after the other: the registry's own trouble, and one
/// that has not heard of the schema yet.
const REFUSALS: [u16; 2] = [503, 404];
/// From the start to a readiness that tells of the refusal.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(15);
/// Reads the journal from its beginning at every start.
const READER: &str = "job.revenue_by_country";
/// Longest body that passes through.
const BODY_BYTES_MAX: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_record_whose_schema_cannot_be_had_is_waited_for() -> Result<()> {
    let world = World::wiped("schema_outage").await?;
    let mut daybook = world.serve().await?;
    let sales = i64::try_from(sell(&daybook, "before").await?)?;
    daybook.caught_up().await?;
    daybook.kill().await?;
    // The owners read everything again, as the job does at every start.
    std::fs::remove_dir_all(world.folder.join("daybook-state"))?;

    let gate = Gate::before(&world.environment.registry_url).await?;
    gate.refuse(REFUSALS[0]);
    let mut command = world.command();
    command.env("DAYBOOK_REGISTRY_URL", &gate.url);
    let log = world.folder.join("serve.log");
    let mut daybook = Daybook::start(command, "serve", world.listen(), &log).await?;
    for status in REFUSALS {
        gate.refuse(status);
        waits(&daybook).await.with_context(|| status.to_string())?;
    }
    gate.open();
    daybook.ready().await?;

    // Had a record been skipped, its owner would not know the commands again.
    sell(&daybook, "before").await?;
    daybook.caught_up().await?;
    let aggregates = Aggregates::read(&world, &REVENUE_BY_COUNTRY_DAY).await?;
    for (source, totals) in [
        ("journal", ledgers::of_journal(&world).await?),
        ("Postgres", ledgers::of_postgres(&world).await?),
        ("aggregates", aggregates.totals()),
    ] {
        ensure!(totals.sales == sales, "{source}: {totals:?} of {sales}");
    }
    audit_log::verify(&world).await.map(drop)
}

/// Returns once the reader says what it waits for.
async fn waits(daybook: &Daybook) -> Result<()> {
    until("a reader to wait", NOTICE_TIMEOUT, async || {
        let answer = daybook.client().get("/health/ready").await?;
        let reason = answer.json()?["components"][READER].clone();
        let names_schema = reason.as_str().is_some_and(|text| text.contains("schema"));
        Ok(Look::at(answer.status == 503 && names_schema, || {
            answer.text
        }))
    })
    .await
}

/// Stands before the registry and passes everything on, but for schemas while it refuses them.
struct Gate {
    url: String,
    /// The status of a refusal; 0 while it is open.
    refusal: Arc<AtomicU16>,
}

impl Gate {
    /// `registry` is the address of its Confluent API.
    async fn before(registry: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let path_at = registry
            .find("/apis")
            .context("a registry without a path")?;
        let (origin, path) = registry.split_at(path_at);
        let url = format!("http://{}{path}", listener.local_addr()?);
        let refusal = Arc::new(AtomicU16::new(0));
        let (asked, origin) = (refusal.clone(), origin.to_owned());
        let http = reqwest::Client::builder().no_proxy().build()?;
        let router = Router::new().fallback(move |request: Request| {
            let (http, origin) = (http.clone(), origin.clone());
            let status = StatusCode::from_u16(asked.load(Ordering::Relaxed));
            async move {
                match status {
                    Ok(status) if request.uri().path().contains("/schemas/ids/") => {
                        refuse_with(status).into_response()
                    }
                    Ok(_) | Err(_) => pass_on(&http, &origin, request).await.map_or_else(
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

    fn open(&self) {
        self.refusal.store(0, Ordering::Relaxed);
    }
}

/// As the Confluent API words it.
fn refuse_with(status: StatusCode) -> impl IntoResponse {
    let error = json!({"error_code": status.as_u16(), "message": "not now"});
    (status, Json(error))
}

async fn pass_on(
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
