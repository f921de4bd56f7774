//! Reads the totals of every source.

use super::{
    comparison::{Comparison, SourceTotals},
    progress::{Probe, missing, position_of},
};
use crate::{config::Config, serve::ProgressAnswer, setup};
use anyhow::{Context, ensure};
use audit::Selection;
use kafka::{Admin, Registry};
use projections::Databases;
use schemas::{Position, TotalsAt, TotalsByCurrency, context::ORDERS};
use serde::Deserialize;
use std::{collections::HashSet, path::Path};
use streams::{TopicEnds, Window};

/// The job whose results are compared.
const JOB: &str = streams::JOB;

/// The fields of an import's report that are compared.
#[derive(Debug, Deserialize)]
struct ImportReport {
    totals: TotalsByCurrency,
    invoice_numbers: HashSet<String>,
}

/// The clients and files from which totals are read.
pub struct Sources<'a> {
    config: &'a Config,
    probe: Probe,
    databases: Databases,
    registry: Registry,
    admin: Admin,
    report: Option<ImportReport>,
}

impl<'a> Sources<'a> {
    /// Opens the sources that the settings and the arguments name.
    pub fn open(config: &'a Config, url: &str, report: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            config,
            probe: Probe::new(url)?,
            databases: Databases::connect_lazily(&config.postgres, &config.cql)?,
            registry: setup::tool_registry(config)?,
            admin: Admin::new(&config.kafka)?,
            report: report.map(read_report).transpose()?,
        })
    }

    /// Waits until the views and the job have reached the journal's current end, and reads all totals.
    pub async fn compare(&self) -> anyhow::Result<Comparison> {
        // These ends are measured before the journal's end. Once the job has published its results up to the
        // journal's end, every record of the job before these ends is part of those results.
        let topic_ends = streams::topic_ends(&self.admin).await?;
        let end = self.journal_end().await?;
        let progress = self.probe.wait_until_reached(JOB, &end).await?;

        let partitions = i32::try_from(end.len()).context("too many partitions")?;
        let mut sources = Vec::new();
        for (name, at) in projections::totals(&self.databases, partitions).await? {
            if let Some((partition, lag)) = missing(&at.position, &end) {
                let topic = ORDERS.topic;
                anyhow::bail!(
                    "{name} is {lag} records behind in {topic}/{partition}, though the service has applied them; check that the settings name the database of that service"
                );
            }
            sources.push(SourceTotals { name, at });
        }
        let mut comparison = Comparison::default();
        for (view, events) in projections::parked_events(&self.databases).await? {
            comparison.warn(format!(
                "{events} events are parked, so the totals of view {view} lack them: `daybook views parked {view}`"
            ));
        }
        sources.extend(
            self.topic_totals(&progress, topic_ends, &mut comparison)
                .await?,
        );
        self.compare_with_journal(&end, sources, &mut comparison)
            .await?;
        Ok(comparison)
    }

    async fn journal_end(&self) -> anyhow::Result<Position> {
        let mut end = Position::new();
        for partition in 0..self.admin.partitions(ORDERS.topic).await? {
            let marks = self.admin.watermarks(ORDERS.topic, partition).await?;
            end.insert(partition, marks.high);
        }
        ensure!(!end.is_empty(), "topic {} has no partitions", ORDERS.topic);
        Ok(end)
    }

    /// The totals of the aggregate topics up to the results that the job had published when it reported its
    /// progress.
    async fn topic_totals(
        &self,
        progress: &ProgressAnswer,
        mut ends: TopicEnds,
        comparison: &mut Comparison,
    ) -> anyhow::Result<Vec<SourceTotals>> {
        for ((topic, partition), end) in &mut ends {
            let results = progress.results.iter().find(|results| {
                results.reader == JOB && results.topic == *topic && results.partition == *partition
            });
            *end = results.map_or(*end, |results| results.end.max(*end));
        }
        let position = position_of(progress, JOB);
        let mut sources = Vec::new();
        for window in Window::ALL {
            let kafka = &self.config.kafka;
            let found =
                streams::topic_totals(window, &ends, kafka, &self.registry, &self.admin).await?;
            let shown = found.foreign.len() as u64;
            for foreign in found.foreign {
                comparison.warn(format!("not a record of the job: {foreign}"));
            }
            if found.foreign_count > shown {
                let more = found.foreign_count - shown;
                let topic = window.topic().name;
                comparison.warn(format!("{more} more records in {topic} are not the job's"));
            }
            sources.push(SourceTotals {
                name: format!("aggregate topic, {}s", window.name()),
                at: TotalsAt {
                    position: position.clone(),
                    totals: found.totals,
                },
            });
        }
        Ok(sources)
    }

    async fn compare_with_journal(
        &self,
        end: &Position,
        sources: Vec<SourceTotals>,
        comparison: &mut Comparison,
    ) -> anyhow::Result<()> {
        let mut selections: Vec<Selection<'_>> = sources
            .iter()
            .map(|source| Selection {
                position: &source.at.position,
                invoices: None,
            })
            .collect();
        selections.extend(self.report.as_ref().map(|report| Selection {
            position: end,
            invoices: Some(&report.invoice_numbers),
        }));
        let kafka = &self.config.kafka;
        let mut journal = audit::journal_totals(kafka, &self.registry, &selections).await?;
        if let Some(report) = &self.report {
            let of_file = journal.pop().context("a selection without totals")?;
            comparison.add_pair(
                ("the file, by the importer".into(), report.totals.clone()),
                ("journal, the file's invoices".into(), of_file),
            );
        }
        comparison.add_sources("journal (daybook audit)", journal, sources);
        Ok(())
    }
}

fn read_report(path: &Path) -> anyhow::Result<ImportReport> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
