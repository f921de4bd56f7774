//! Registers schemas under given ids, in a registry that has lost them.
//!
//! Registries offer this in different ways: Confluent's has a mode of each subject in which a request names the id,
//! Apicurio's imports an archive. Its Confluent interface takes such a request too, but ignores the id.

use super::{Registry, archive::archive, error::RegistryError, known::LostSchema};
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where Apicurio's registry has its Confluent interface; its own interface is beside it.
const APICURIO_CONFLUENT: &str = "/apis/ccompat/";
/// Where it imports archives.
const APICURIO_IMPORT: &str = "/apis/registry/v2/admin/import";

impl Registry {
    /// Registers schemas under their ids. The caller has made sure that no id has another schema, and compares
    /// afterwards.
    ///
    /// # Errors
    /// The registry can't take given ids, or refuses these.
    pub async fn restore(&self, schemas: &[LostSchema]) -> Result<(), RegistryError> {
        let mut schemas = schemas.to_vec();
        schemas.sort();
        match self.http.get::<Value>("/mode").await? {
            Ok(_) => self.restore_in_import_mode(&schemas).await,
            Err(_) if self.http.url().contains(APICURIO_CONFLUENT) => {
                self.restore_archive(&schemas).await
            }
            Err(rejection) => {
                let what = "the mode IMPORT, so it can't take schemas under given ids";
                Err(self.http.refused(what.into(), rejection))
            }
        }
    }

    async fn restore_in_import_mode(&self, schemas: &[LostSchema]) -> Result<(), RegistryError> {
        for of_subject in schemas.chunk_by(|one, other| one.subject == other.subject) {
            self.restore_subject(of_subject).await?;
        }
        Ok(())
    }

    async fn restore_subject(&self, schemas: &[LostSchema]) -> Result<(), RegistryError> {
        let subject = &schemas[0].subject;
        self.set_mode(subject, "IMPORT").await?;
        let registered = async {
            for lost in schemas {
                let path = format!("/subjects/{subject}/versions");
                let body = json!({"schema": lost.schema, "id": lost.id});
                let answer = self.http.post::<Value>(&path, &body).await?;
                let what = || format!("subject {subject} with schema id {}", lost.id);
                answer.map_err(|rejection| self.http.refused(what(), rejection))?;
            }
            Ok(())
        };
        let registered = registered.await;
        self.set_mode(subject, "READWRITE").await?;
        registered
    }

    async fn set_mode(&self, subject: &str, mode: &str) -> Result<(), RegistryError> {
        let path = format!("/mode/{subject}?force=true");
        let answer = self
            .http
            .put::<Value>(&path, &json!({"mode": mode}))
            .await?;
        let what = || format!("the mode {mode} of subject {subject}");
        answer
            .map(drop)
            .map_err(|rejection| self.http.refused(what(), rejection))
    }

    async fn restore_archive(&self, schemas: &[LostSchema]) -> Result<(), RegistryError> {
        let mut first_versions = BTreeMap::new();
        for lost in schemas {
            let path = format!("/subjects/{}/versions", lost.subject);
            let versions = self.http.get::<Vec<u32>>(&path).await?.unwrap_or_default();
            let first = versions.into_iter().max().unwrap_or(0) + 1;
            first_versions.insert(lost.subject.clone(), first);
        }
        let archive =
            archive(schemas, &first_versions).map_err(|error| RegistryError::Refused {
                url: self.http.url(),
                what: "an archive of schemas".into(),
                reason: error.to_string(),
            })?;
        let imported = self
            .http
            .post_archive(APICURIO_CONFLUENT, APICURIO_IMPORT, archive)
            .await?;
        imported.map_err(|rejection| {
            let what = "the import of schemas under given ids";
            self.http.refused(what.into(), rejection)
        })
    }
}

/// Whether a schema reads each of these data to its last byte.
pub fn reads_all<'a>(schema: &str, mut data: impl Iterator<Item = &'a [u8]>) -> bool {
    let Ok(schema) = apache_avro::Schema::parse_str(schema) else {
        return false;
    };
    let Ok(reader) = GenericDatumReader::builder(&schema).build() else {
        return false;
    };
    data.all(|mut datum| reader.read_value(&mut datum).is_ok() && datum.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::FakeRegistry;

    fn lost() -> [LostSchema; 1] {
        [LostSchema {
            id: 7,
            subject: "orders-value".into(),
            schema: r#""long""#.into(),
        }]
    }

    #[tokio::test]
    async fn a_registry_with_the_mode_import_gets_the_id_and_leaves_the_mode() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /mode" => (200, r#"{"mode": "READWRITE"}"#),
            "PUT /mode/orders-value?force=true" => (200, r#"{"mode": "IMPORT"}"#),
            "POST /subjects/orders-value/versions" => (422, r#"{"message": "no"}"#),
            _ => (404, "{}"),
        })
        .await;
        let refused = registry.registry().restore(&lost()).await.unwrap_err();
        assert!(refused.to_string().contains("422"), "{refused}");
        let expected = [
            "GET /mode",
            "PUT /mode/orders-value?force=true",
            "POST /subjects/orders-value/versions",
            "PUT /mode/orders-value?force=true",
        ];
        assert_eq!(registry.requests(), expected);
    }

    #[tokio::test]
    async fn a_registry_that_takes_no_given_ids_is_named() {
        let registry = FakeRegistry::start(|_| (404, "{}")).await;
        let refused = registry.registry().restore(&lost()).await.unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("can't take schemas under given ids"),
            "{refused}"
        );
    }

    #[test]
    fn a_schema_that_leaves_bytes_over_or_lacks_some_does_not_read_a_datum() {
        let long = r#""long""#;
        assert!(reads_all(long, [&[2][..], &[0x80, 1]].into_iter()));
        assert!(!reads_all(long, [&[2][..], &[2, 2]].into_iter()));
        assert!(!reads_all(long, [&[0x80][..]].into_iter()));
    }
}
