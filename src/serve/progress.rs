//! `GET /api/v1/admin/progress`: how far each view and job has come.

use axum::{Json, extract::State, http::StatusCode};
use kafka::Admin;
use serde::{Deserialize, Serialize};
use service::{problem::Problem, progress::Progress};
use std::collections::BTreeMap;

/// What the handler needs.
#[derive(Clone)]
pub struct Sources {
    pub progress: Progress,
    pub admin: Admin,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProgressAnswer {
    /// Whether every reader has worked in all there was.
    pub caught_up: bool,
    /// By reader, topic and partition.
    pub readers: Vec<ReaderProgress>,
}

/// How far one reader has come in one partition.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReaderProgress {
    /// The view or job.
    pub reader: String,
    /// The journal.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Everything before this offset is worked in.
    pub next_offset: i64,
    /// The offset that the next record will get.
    pub end: i64,
    /// Records to go.
    pub lag: i64,
}

/// How far each view and job has come.
#[utoipa::path(get, path = "/admin/progress", tag = "operations", responses(
    (status = 200, description = "By reader and partition.", body = ProgressAnswer),
    (status = 503, description = "Kafka does not say where the log ends.", body = Problem)))]
pub async fn progress(State(sources): State<Sources>) -> Result<Json<ProgressAnswer>, Problem> {
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut readers = Vec::new();
    for ((reader, topic, partition), next_offset) in sources.progress.all() {
        let place = (topic.clone(), partition);
        let end = match ends.get(&place) {
            Some(end) => *end,
            None => {
                let marks = sources
                    .admin
                    .watermarks(&topic, partition)
                    .await
                    .map_err(away)?;
                *ends.entry(place).or_insert(marks.high)
            }
        };
        let lag = (end - next_offset).max(0);
        readers.push(ReaderProgress {
            reader,
            topic,
            partition,
            next_offset,
            end,
            lag,
        });
    }
    let caught_up = !readers.is_empty() && readers.iter().all(|reader| reader.lag == 0);
    Ok(Json(ProgressAnswer { caught_up, readers }))
}

fn away(error: kafka::admin::AdminError) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "KAFKA_UNAVAILABLE",
        error.to_string(),
    )
}
