//! Shows the progress of a build until it has read every journal to its current end.

use super::servers::Servers;
use anyhow::{Context, Result};
use projections::admin::{self, Progress};
use schemas::topics::TOPICS;
use std::time::Duration;
use tokio::time::Instant;

/// Time between two messages.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints the progress of a build, with an estimate of the time left. Returns once the build has read every record that
/// existed at the time of the last message.
pub(super) async fn follow(servers: &Servers, view: &str, build: i32) -> Result<()> {
    let known = admin::view(view)?;
    let counts = servers.source.admin.partition_counts(&TOPICS).await?;
    let (started, mut first) = (Instant::now(), None);
    loop {
        let described = admin::describe(&servers.databases, Some(view)).await?;
        let found = described.iter().find(|one| one.entry.build == build);
        let found = found.with_context(|| format!("build {build} of view {view} was dropped"))?;
        let ends = admin::ends(&servers.source.admin, known, &counts).await?;
        let progress = Progress::new(&found.positions, &ends);
        let begun = *first.get_or_insert(progress.read);
        let left = progress.time_left(progress.read - begun, started.elapsed());
        println!("{}", line(progress, left));
        if progress.is_at_end() {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn line(progress: Progress, left: Option<Duration>) -> String {
    let Progress { read, end } = progress;
    let percent = match end {
        0 => 100,
        end => i128::from(read) * 100 / i128::from(end),
    };
    let left = match left {
        _ if progress.is_at_end() => String::new(),
        Some(left) => format!(", about {} s left", left.as_secs() + 1),
        None => ", no estimate yet".to_owned(),
    };
    format!("{percent:>3} %: {read} of {end} records{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_share_and_an_estimate() {
        let progress = |read, end| Progress { read, end };
        let left = Some(Duration::from_millis(2_500));
        assert_eq!(
            line(progress(1, 3), left),
            " 33 %: 1 of 3 records, about 3 s left"
        );
        assert_eq!(
            line(progress(0, 3), None),
            "  0 %: 0 of 3 records, no estimate yet"
        );
        assert_eq!(line(progress(3, 3), left), "100 %: 3 of 3 records");
        assert_eq!(line(progress(0, 0), None), "100 %: 0 of 0 records");
    }
}
