//! `daybook schemas restore`: registers lost schemas again under their old ids.
//!
//! The schemas come from the nodes' files of known schemas. If no file has an id of the log, this program's own schema
//! is registered under that id, provided that it decodes the records.

use super::schema_ids_in_use::samples;
use crate::config::Config;
use anyhow::{Context, bail, ensure};
use kafka::{
    Admin, Registry, Subjects,
    registry::{KNOWN_SCHEMAS_FILE, KnownSchema, LostSchema, SchemaFault, SchemaTable, reads_all},
};
use schemas::topics::TOPICS;
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

/// Register the schemas that the registry has lost, under the ids that they have in the log
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// File with known schemas of a node, daybook-schemas.json in its state directory; can be repeated [default: the
    /// file in this node's state directory, if it exists]
    #[arg(long = "known", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Restores all lost schemas, or none. Fails if the schema of an id in the log is unknown, or if the registry has
/// another schema under an id of the log.
pub async fn run(args: RestoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let registry = Registry::new(&config.registry)?;
    let subjects = Subjects::new(registry.clone(), &config.kafka);
    let admin = Admin::new(&config.kafka)?;
    let mut known = read_files(args.files, config)?;
    add_own(&mut known, &admin, config, &subjects).await?;
    let (mut lost, mut others) = (Vec::new(), Vec::new());
    for (id, schema) in &known {
        match registry.fault(*id, Some(schema), &schema.subjects).await? {
            None => {}
            Some(fault @ SchemaFault::Other { .. }) => others.push(fault),
            Some(SchemaFault::Missing { .. } | SchemaFault::OtherSubject { .. }) => {
                lost.extend(missing(&registry, *id, schema).await?);
            }
        }
    }
    registry
        .without_faults(others)
        .context("the registry has other schemas under ids of the log; empty the registry first")?;
    if !lost.is_empty() {
        registry.restore(&lost).await?;
    }
    let mut faults = Vec::new();
    for (id, schema) in &known {
        faults.extend(registry.fault(*id, Some(schema), &schema.subjects).await?);
    }
    registry
        .without_faults(faults)
        .context("the registry did not register the schemas under their old ids")?;
    subjects.keep_compatible(&lost).await?;
    for LostSchema { id, subject, .. } in &lost {
        println!("{subject:<48} id {id}, restored");
    }
    let (total, restored) = (known.len(), lost.len());
    println!("{total} schema ids known, {restored} subject versions restored");
    Ok(ExitCode::SUCCESS)
}

/// Merges the files of known schemas. Without `--known`, reads this node's own file.
fn read_files(
    mut files: Vec<PathBuf>,
    config: &Config,
) -> anyhow::Result<BTreeMap<u32, KnownSchema>> {
    for file in &files {
        ensure!(file.exists(), "{} does not exist", file.display());
    }
    if let (true, Some(commands)) = (files.is_empty(), &config.commands) {
        files.push(commands.state_dir.join(KNOWN_SCHEMAS_FILE));
    }
    let mut known: BTreeMap<u32, KnownSchema> = BTreeMap::new();
    for file in files {
        for (id, schema) in SchemaTable::read(&file)?.schemas {
            match known.get_mut(&id) {
                None => drop(known.insert(id, schema)),
                Some(first) if first.compare(id, &schema.schema).is_some() => {
                    bail!(
                        "{}: schema id {id} has another schema than in an earlier file",
                        file.display()
                    );
                }
                Some(first) => {
                    first.subjects.extend(schema.subjects);
                    first.subjects.sort();
                    first.subjects.dedup();
                }
            }
        }
    }
    Ok(known)
}

/// Adds this program's own schemas for ids of the log that are in no file.
async fn add_own(
    known: &mut BTreeMap<u32, KnownSchema>,
    admin: &Admin,
    config: &Config,
    subjects: &Subjects,
) -> anyhow::Result<()> {
    for topic in TOPICS {
        let (Some(subject), Some(own)) = (topic.subject(), topic.schema()) else {
            continue;
        };
        if !admin.exists(topic.name).await? {
            continue;
        }
        let subject = subjects.prefixed(&subject);
        for (id, data) in samples(admin, &config.kafka, topic.name).await? {
            if !known.contains_key(&id) {
                ensure!(
                    reads_all(&own, data.iter().map(Vec::as_slice)),
                    "topic {}: no file has the schema of id {id}, and this program's schema does not decode \
                     its records; pass with --known the file of a node that has decoded them",
                    topic.name
                );
            }
            let schema = known.entry(id).or_insert_with(|| KnownSchema {
                subjects: Vec::new(),
                schema: own.clone(),
            });
            if !schema.subjects.contains(&subject) {
                schema.subjects.push(subject.clone());
            }
        }
    }
    Ok(())
}

/// The subjects under which the registry lacks the schema of an id.
async fn missing(
    registry: &Registry,
    id: u32,
    known: &KnownSchema,
) -> anyhow::Result<Vec<LostSchema>> {
    let mut lost = Vec::new();
    for subject in &known.subjects {
        let of_subject = std::slice::from_ref(subject);
        if registry.fault(id, Some(known), of_subject).await?.is_some() {
            lost.push(LostSchema {
                id,
                subject: subject.clone(),
                schema: known.schema.clone(),
            });
        }
    }
    Ok(lost)
}
