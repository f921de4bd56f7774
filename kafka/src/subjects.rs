//! Registers the schemas of topics' values in the registry, each under its topic's subject.
//!
//! A subject is named after the topic (TopicNameStrategy), prefix included, so that other clients find it. A
//! schema that is already registered is only read, so nodes normally need no right to change the registry.

use crate::{
    prefix::TopicPrefix,
    registry::{
        COMPATIBILITY, LostSchema, Registry, RegistryError, Rejection, SchemaFault, SchemaText,
    },
    settings::KafkaSettings,
};
use apache_avro::schema_compatibility::SchemaCompatibility;
use reqwest::StatusCode;
use schema_registry_converter::{
    async_impl::schema_registry::post_schema,
    schema_registry_common::{SchemaType, SuppliedSchema},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Maximum number of attempts to register a subject after conflicts: nodes that start at the same time all register it,
/// and a registry may refuse all but one of them. An incompatible schema is refused each time.
const CONFLICT_ATTEMPTS_MAX: u32 = 5;
/// Time between two of these attempts.
const CONFLICT_INTERVAL: Duration = Duration::from_millis(100);

/// The subjects of a deployment's topics.
#[derive(Clone)]
pub struct Subjects {
    registry: Registry,
    prefix: TopicPrefix,
}

/// The registry's answer to a request for a subject's compatibility.
#[derive(Deserialize)]
struct Compatibility {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

/// The registry's answer about a registered schema.
#[derive(Deserialize)]
struct Registered {
    id: u32,
}

impl Subjects {
    /// The subjects of the topics that these settings name.
    pub fn new(registry: Registry, kafka: &KafkaSettings) -> Self {
        Self {
            registry,
            prefix: TopicPrefix::of(kafka),
        }
    }

    /// The subject as the registry names it.
    pub fn prefixed(&self, subject: &str) -> String {
        self.prefix.add(subject)
    }

    /// Sets the compatibility of the restored schemas' subjects to [`COMPATIBILITY`].
    ///
    /// # Errors
    /// The registry does not answer, or refuses the request.
    pub async fn keep_compatible(&self, restored: &[LostSchema]) -> Result<(), RegistryError> {
        for LostSchema { subject, .. } in restored {
            if let Err(rejection) = self.ensure_compatibility(subject).await? {
                let what = format!("the compatibility of subject {subject}");
                return Err(self.registry.http.refused(what, rejection));
            }
        }
        Ok(())
    }

    /// Whether the schema is registered under its subject, with an id in this node's file of known schemas.
    ///
    /// # Errors
    /// The registry does not answer or refuses the request, or the file of known schemas can't be read.
    pub async fn is_known(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        let subject = self.prefixed(subject);
        match self.find(&subject, schema).await? {
            Ok(id) => self.registry.knows(id).await,
            Err(rejection) if rejection.status == StatusCode::NOT_FOUND => Ok(false),
            Err(rejection) => {
                let what = format!("subject {subject}");
                Err(self.registry.http.refused(what, rejection))
            }
        }
    }

    /// Returns the fault of an id in the registry, or `None`. The id must be registered under this subject.
    ///
    /// # Errors
    /// The registry does not answer.
    pub async fn fault(
        &self,
        subject: &str,
        id: u32,
    ) -> Result<Option<SchemaFault>, RegistryError> {
        let subjects = [self.prefixed(subject)];
        self.registry.fault(id, None, &subjects).await
    }

    /// Checks that the registry has the ids of the log's records, each under the subject of its topic.
    ///
    /// # Errors
    /// [`RegistryError::LostData`]: an id is missing, or is registered only under other subjects.
    pub async fn check_held(
        &self,
        held: &BTreeMap<String, BTreeSet<u32>>,
    ) -> Result<(), RegistryError> {
        let mut faults = Vec::new();
        for (subject, ids) in held {
            for id in ids {
                faults.extend(self.fault(subject, *id).await?);
            }
        }
        self.registry.without_faults(faults)
    }

    /// Registers a schema under a subject if it is not registered yet, and keeps the subject [`COMPATIBILITY`].
    /// Returns the schema's id.
    ///
    /// The caller must check beforehand that the registry has lost no data. Otherwise a lost schema would get a new id,
    /// different from the id in the log.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`]: readers with this schema can't read records of the registered one. Otherwise
    /// the registry did not answer, or refused the request.
    pub async fn ensure(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let subject = self.prefixed(subject);
        let mut attempts = 0;
        loop {
            let (what, rejection) = match self.ensure_once(&subject, schema).await? {
                Ok(id) => return Ok(id),
                Err(rejected) => rejected,
            };
            attempts += 1;
            if rejection.status != StatusCode::CONFLICT {
                return Err(self.registry.http.refused(what, rejection));
            }
            if attempts == CONFLICT_ATTEMPTS_MAX {
                let difference = self.difference(&subject, schema).await;
                let difference = difference.unwrap_or(rejection.text);
                return Err(RegistryError::Incompatible {
                    subject,
                    difference,
                });
            }
            tokio::time::sleep(CONFLICT_INTERVAL).await;
        }
    }

    /// Ensures the compatibility, then the schema. Returns a rejection together with the object of its request.
    async fn ensure_once(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<Result<u32, (String, Rejection)>, RegistryError> {
        if let Err(rejection) = self.ensure_compatibility(subject).await? {
            let what = format!("the compatibility of subject {subject}");
            return Ok(Err((what, rejection)));
        }
        let found = self.find_or_register(subject, schema).await?;
        Ok(found.map_err(|rejection| (format!("subject {subject}"), rejection)))
    }

    /// The id of a schema under a subject. Registers the schema if it is not registered yet.
    async fn find_or_register(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<Result<u32, Rejection>, RegistryError> {
        let http = &self.registry.http;
        match self.find(subject, schema).await? {
            Ok(id) => return Ok(Ok(id)),
            Err(rejection) if rejection.status == StatusCode::NOT_FOUND => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&http.settings, subject.to_owned(), supplied).await {
            Ok(registered) => Ok(Ok(registered.id)),
            Err(error) => http.rejection(&error).map(Err),
        }
    }

    /// The id of a schema under a subject; a rejection with status 404 if it is not registered.
    async fn find(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<Result<u32, Rejection>, RegistryError> {
        let (path, body) = (format!("/subjects/{subject}"), json!({ "schema": schema }));
        let found = self.registry.http.post::<Registered>(&path, &body).await?;
        Ok(found.map(|found| found.id))
    }

    async fn ensure_compatibility(
        &self,
        subject: &str,
    ) -> Result<Result<(), Rejection>, RegistryError> {
        let http = &self.registry.http;
        let path = format!("/config/{subject}");
        match http.get::<Compatibility>(&path).await? {
            Ok(found) if found.level == COMPATIBILITY => return Ok(Ok(())),
            // The subject has no compatibility level of its own.
            Ok(_) => {}
            Err(rejection) if rejection.status == StatusCode::NOT_FOUND => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
        let body = json!({ "compatibility": COMPATIBILITY });
        let set = http.put::<Value>(&path, &body).await?;
        Ok(set.map(drop))
    }

    /// Why a reader with the new schema can't read records that were written with the newest registered schema.
    async fn difference(&self, subject: &str, schema: &str) -> Option<String> {
        let path = format!("/subjects/{subject}/versions/latest");
        let registered = self.registry.http.get::<SchemaText>(&path).await;
        let registered = registered.ok()?.ok()?;
        let writer = apache_avro::Schema::parse_str(&registered.schema).ok()?;
        let reader = apache_avro::Schema::parse_str(schema).ok()?;
        SchemaCompatibility::can_read(&writer, &reader)
            .err()
            .map(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::FakeRegistry;
    use std::sync::atomic::{AtomicBool, Ordering};

    const SUBJECT: &str = "journal.orders-value";
    const SCHEMA: &str = r#""long""#;

    fn subjects(registry: &FakeRegistry) -> Subjects {
        Subjects::new(registry.registry(), &KafkaSettings::default())
    }

    #[tokio::test]
    async fn a_registered_schema_is_only_read() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /config/journal.orders-value" => {
                (200, r#"{"compatibilityLevel": "BACKWARD_TRANSITIVE"}"#)
            }
            "POST /subjects/journal.orders-value" => (200, r#"{"id": 7, "version": 1}"#),
            _ => (403, r#"{"error_code": 403, "message": "forbidden"}"#),
        })
        .await;
        let id = subjects(&registry).ensure(SUBJECT, SCHEMA).await.unwrap();
        assert_eq!(id, 7, "{:?}", registry.requests());
    }

    #[tokio::test]
    async fn a_missing_schema_is_registered() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /config/journal.orders-value" => (404, r#"{"error_code": 40401}"#),
            "PUT /config/journal.orders-value" => (200, "{}"),
            "POST /subjects/journal.orders-value" => (404, r#"{"error_code": 40403}"#),
            "POST /subjects/journal.orders-value/versions" => (200, r#"{"id": 8}"#),
            _ => (403, "{}"),
        })
        .await;
        let id = subjects(&registry).ensure(SUBJECT, SCHEMA).await.unwrap();
        assert_eq!(id, 8, "{:?}", registry.requests());
    }

    /// Two nodes that start at the same time both set the compatibility.
    #[tokio::test]
    async fn a_compatibility_that_another_node_sets_meanwhile_is_read_again() {
        static SET: AtomicBool = AtomicBool::new(false);
        let registry = FakeRegistry::start(|request| match request {
            "GET /config/journal.orders-value" if SET.load(Ordering::Relaxed) => {
                (200, r#"{"compatibilityLevel": "BACKWARD_TRANSITIVE"}"#)
            }
            "GET /config/journal.orders-value" => (404, r#"{"error_code": 40401}"#),
            "PUT /config/journal.orders-value" => {
                SET.store(true, Ordering::Relaxed);
                (
                    409,
                    r#"{"message": "A rule named 'COMPATIBILITY' already exists."}"#,
                )
            }
            "POST /subjects/journal.orders-value" => (200, r#"{"id": 9, "version": 1}"#),
            _ => (403, "{}"),
        })
        .await;
        let id = subjects(&registry).ensure(SUBJECT, SCHEMA).await.unwrap();
        assert_eq!(id, 9, "{:?}", registry.requests());
    }

    #[tokio::test]
    async fn a_rejection_is_known_by_its_status_and_not_by_its_text() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /schemas/ids/1?deleted=true" => (403, r#"{"message": "404 is what we say"}"#),
            "GET /schemas/ids/2?deleted=true" => (404, r#"{"error_code": 40403}"#),
            "GET /schemas/ids/3?deleted=true" => (404, "500 Internal Server Error"),
            _ => (403, r#"{"message": "409: incompatible"}"#),
        })
        .await;
        let subjects = subjects(&registry);
        let of_id = async |id| subjects.registry.schema_text(id).await.unwrap_err();
        let refused = of_id(1).await;
        assert!(
            matches!(refused, RegistryError::Refused { .. }),
            "{refused:?} instead of RegistryError::Refused"
        );
        for id in [2, 3] {
            let unknown = of_id(id).await;
            assert!(
                matches!(unknown, RegistryError::UnknownId { .. }),
                "{unknown:?} instead of RegistryError::UnknownId"
            );
        }
        let refused = subjects.ensure(SUBJECT, SCHEMA).await.unwrap_err();
        assert!(
            matches!(refused, RegistryError::Refused { .. }),
            "{refused:?} instead of RegistryError::Refused"
        );
    }

    #[tokio::test]
    async fn the_error_lists_the_ids_of_the_log_that_the_registry_lacks() {
        let registry = FakeRegistry::start(|request| match request {
            "GET /schemas/ids/2?deleted=true" | "GET /schemas/ids/3?deleted=true" => {
                (200, r#"{"schema": "\"long\""}"#)
            }
            "GET /schemas/ids/2/versions?deleted=true" => {
                (200, r#"[{"subject": "strange", "version": 1}]"#)
            }
            "GET /schemas/ids/3/versions?deleted=true" => (
                200,
                r#"[{"subject": "journal.orders-value", "version": 1}]"#,
            ),
            _ => (404, r#"{"error_code": 40403}"#),
        })
        .await;
        let held = BTreeMap::from([(SUBJECT.to_owned(), BTreeSet::from([1, 2, 3]))]);
        let lost = subjects(&registry).check_held(&held).await.unwrap_err();
        assert!(lost.is_transient(), "not transient: {lost}");
        let RegistryError::LostData { faults, .. } = lost else {
            panic!("{lost:?} instead of LostData")
        };
        let subject = SUBJECT.to_owned();
        let expected = [
            SchemaFault::Missing { id: 1 },
            SchemaFault::OtherSubject { id: 2, subject },
        ];
        assert_eq!(faults, expected);
    }
}
