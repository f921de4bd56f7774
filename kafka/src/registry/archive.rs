//! The archive format that Apicurio's registry imports: an uncompressed zip file with one entry for each schema and one
//! for each version of a subject.

use super::known::LostSchema;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Write},
};
use zip::{CompressionMethod, ZipWriter, result::ZipResult, write::SimpleFileOptions};

/// Builds the archive. The versions of a subject begin at its first version and follow the order of `schemas`.
pub(super) fn archive(
    schemas: &[LostSchema],
    first_versions: &BTreeMap<String, u32>,
) -> ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, content: &str| -> ZipResult<()> {
        zip.start_file(name, options)?;
        Ok(zip.write_all(content.as_bytes())?)
    };
    let manifest =
        json!({"systemName": "apicurio-registry", "systemVersion": "2", "exportVersion": "1.0"});
    add("manifest-restore.Manifest.json", &manifest.to_string())?;
    let mut written = BTreeSet::new();
    let mut versions = first_versions.clone();
    for lost in schemas {
        let hash = hex(&Sha256::digest(&lost.schema));
        if written.insert(lost.id) {
            let content = json!({"contentId": lost.id, "canonicalHash": hash, "contentHash": hash,
                "artifactType": "AVRO", "serializedReferences": null});
            add(
                &format!("content/{hash}.Content.json"),
                &content.to_string(),
            )?;
            add(&format!("content/{hash}.Content.data"), &lost.schema)?;
        }
        let subject = &lost.subject;
        let version = versions.entry(subject.clone()).or_insert(1);
        // The import replaces this global id. Records contain content ids only.
        let artifact = json!({"globalId": lost.id, "groupId": null, "artifactId": subject,
            "version": version.to_string(), "versionId": version, "artifactType": "AVRO",
            "state": "ENABLED", "createdBy": "", "createdOn": 0, "isLatest": true,
            "contentId": lost.id});
        let folder = format!("groups/default/artifacts/{subject}/versions");
        add(
            &format!("{folder}/{version}.ArtifactVersion.json"),
            &artifact.to_string(),
        )?;
        *version += 1;
    }
    Ok(zip.finish()?.into_inner())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
