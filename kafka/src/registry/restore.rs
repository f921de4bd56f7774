//! Registers lost schemas again under their old ids.
//!
//! Confluent's registry accepts an id in a registration while its subject has the mode IMPORT. Apicurio's registry
//! imports an archive, because its Confluent interface ignores the id of a registration.

use super::{Registry, archive::archive, error::RegistryError, known::LostSchema};
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The path of the Confluent interface of Apicurio's registry.
const APICURIO_CONFLUENT: &str = "/apis/ccompat/";
/// The path of the archive import, in Apicurio's own interface.
const APICURIO_IMPORT: &str = "/apis/registry/v2/admin/import";

impl Registry {
    /// Registers schemas under their ids. The caller must check beforehand that no id has another schema, and
    /// afterwards that the registry has the schemas.
    ///
    /// # Errors
    /// The registry can't register schemas under given ids, or refuses one of them.
    pub async fn restore(&self, schemas: &[LostSchema]) -> Result<(), RegistryError> {
        let mut schemas = schemas.to_vec();
        schemas.sort();
        match self.http.get::<Value>("/mode").await? {
            Ok(_) => self.restore_in_import_mode(&schemas).await,
            Err(_) if self.http.url().contains(APICURIO_CONFLUENT) => {
                self.restore_archive(&schemas).await
            }
            Err(rejection) => {
                let what =
                    "the request for its mode, so schemas can't be registered under given ids";
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

/// Whether the schema decodes every datum completely, without bytes left over.
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
    async fn a_subject_leaves_the_mode_import_even_if_the_registration_is_refused() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /mode" => (200, r#"{"mode": "READWRITE"}"#),
            "PUT /mode/orders-value?force=true" => (200, r#"{"mode": "IMPORT"}"#),
            "POST /subjects/orders-value/versions" => (422, r#"{"message": "no"}"#),
            _ => (404, "{}"),
        })
        .await;
        let refused = registry.registry().restore(&lost()).await.unwrap_err();
        assert!(
            refused.to_string().contains("422"),
            "no \"422\" in: {refused}"
        );
        let expected = [
            "GET /mode",
            "PUT /mode/orders-value?force=true",
            "POST /subjects/orders-value/versions",
            "PUT /mode/orders-value?force=true",
        ];
        assert_eq!(registry.requests(), expected);
    }

    #[tokio::test]
    async fn a_registry_without_import_is_an_error_that_names_the_reason() {
        let registry = FakeRegistry::start(|_| (404, "{}")).await;
        let refused = registry.registry().restore(&lost()).await.unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("can't be registered under given ids"),
            "no \"can't be registered under given ids\" in: {refused}"
        );
    }

    #[test]
    fn a_datum_with_bytes_left_over_or_missing_is_not_decoded() {
        let long = r#""long""#;
        assert!(reads_all(long, [&[2][..], &[0x80, 1]].into_iter()));
        assert!(!reads_all(long, [&[2][..], &[2, 2]].into_iter()));
        assert!(!reads_all(long, [&[0x80][..]].into_iter()));
    }
}
