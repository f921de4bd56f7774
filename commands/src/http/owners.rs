//! Lists the partitions that this node serves, for other nodes.

use super::forwarded::refuse_browsers;
use crate::{handle::WriteSideHandle, routing::node_protocol::ServedPartitions};
use axum::{Json, extract::State, http::HeaderMap};
use service::problem::Problem;

/// The partitions that this node serves now, and their epochs.
///
/// # Errors
/// 403: a browser sent the request. 503: the write side has not been started yet.
pub async fn owners(
    State(handle): State<WriteSideHandle>,
    headers: HeaderMap,
) -> Result<Json<ServedPartitions>, Problem> {
    refuse_browsers(&headers)?;
    let write_side = handle.get()?;
    let statuses = write_side.router.statuses().all();
    let serving = statuses.filter_map(|(partition, status)| {
        let (epoch, _) = status.served_term()?;
        Some((partition, epoch))
    });
    Ok(Json(ServedPartitions::new(serving)))
}
