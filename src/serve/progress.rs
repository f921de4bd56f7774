//! `GET /api/v1/admin/progress`: the progress of each view and job. The routes are the same in every role.

use axum::{Json, extract::State, http::StatusCode};
use kafka::Admin;
use projections::{Databases, problems::answer, views::VIEWS};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiQuery, NoParameters},
    problem::Problem,
    progress::{Offsets, Progress, ReaderPartition},
};
use std::collections::BTreeMap;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The state of the handler.
#[derive(Clone)]
pub struct Sources {
    pub progress: Progress,
    pub admin: Admin,
    pub databases: Databases,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProgressAnswer {
    /// Whether every reader has processed every record, and no view is still being projected from the start.
    #[schema(example = false)]
    pub caught_up: bool,
    /// All readers, by name, topic and partition.
    pub readers: Vec<ReaderProgress>,
    /// The ends of the jobs' results.
    pub results: Vec<ResultsEnd>,
}

/// The progress of one reader in one partition.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReaderProgress {
    /// The view or job.
    #[schema(example = "orders_v3")]
    pub reader: String,
    /// The journal.
    #[schema(example = "journal.orders")]
    pub topic: String,
    /// The journal's partition.
    #[schema(example = 3)]
    pub partition: i32,
    /// Everything before this offset is processed.
    #[schema(example = 1234)]
    pub next_offset: i64,
    /// The offset of the next record.
    #[schema(example = 1240)]
    pub end: i64,
    /// Number of offsets still to process.
    #[schema(example = 6)]
    pub lag: i64,
}

/// The end of a job's results in a partition of one of its topics. The results cover all records before the
/// job's `next_offset`s in the same answer.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultsEnd {
    /// The job.
    #[schema(example = "revenue_by_country")]
    pub reader: String,
    /// The topic of the results.
    #[schema(example = "aggregates.revenue_by_country_day")]
    pub topic: String,
    /// The topic's partition.
    #[schema(example = 0)]
    pub partition: i32,
    /// The offset after the last record of the job's results.
    #[schema(example = 512)]
    pub end: i64,
}

/// The route, under `/api/v1`. Its answers are conditional, like those of all queries.
pub fn routes(sources: Sources) -> OpenApiRouter {
    let routes = OpenApiRouter::new()
        .routes(routes!(progress))
        .with_state(sources);
    projections::conditional(routes)
}

/// The progress of each view and job.
#[utoipa::path(get, path = "/admin/progress", tag = "operations", responses(
    (status = 200, description = "The progress by reader and partition.", body = ProgressAnswer),
    (status = 400, description = "UNKNOWN_OR_INVALID_PARAMETER: the query has no parameters.", body = Problem),
    (status = 503, description = "KAFKA_UNAVAILABLE: Kafka does not answer, so the ends of the logs are unknown. DATABASE_UNAVAILABLE: the database with the progress of other processes does not answer. Send the request again later.", body = Problem)))]
async fn progress(
    State(sources): State<Sources>,
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
) -> Result<Json<ProgressAnswer>, Problem> {
    let Offsets { mut read, written } = sources.progress.all();
    let others = || projections::of_other_processes(&sources.databases, &sources.progress);
    for (view, topic, partition, next_offset) in answer(others).await? {
        let reader = view.to_owned();
        let key = ReaderPartition {
            reader,
            topic,
            partition,
        };
        read.insert(key, next_offset);
    }
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut readers = Vec::new();
    for (key, next_offset) in read {
        let ReaderPartition {
            reader,
            topic,
            partition,
        } = key;
        let log = (topic.clone(), partition);
        let end = match ends.get(&log) {
            Some(end) => *end,
            None => {
                let watermarks = sources.admin.watermarks(&topic, partition).await;
                *ends
                    .entry(log)
                    .or_insert(watermarks.map_err(unavailable)?.high)
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
    let results = written.into_iter().map(|(key, end)| ResultsEnd {
        reader: key.reader,
        topic: key.topic,
        partition: key.partition,
        end,
    });
    // A build must reach a position that is measured separately, so its queries may still be refused although no record
    // is left.
    let serving = &sources.databases.serving;
    let mut catch_ups = VIEWS.iter().map(|view| serving.catch_up(view.name));
    let all_answer = catch_ups.all(|catch_up| catch_up.is_none());
    let all_read = !readers.is_empty() && readers.iter().all(|reader| reader.lag == 0);
    Ok(Json(ProgressAnswer {
        caught_up: all_read && all_answer,
        readers,
        results: results.collect(),
    }))
}

fn unavailable(error: kafka::admin::AdminError) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "KAFKA_UNAVAILABLE",
        format!("{error}; send the request again later"),
    )
}
