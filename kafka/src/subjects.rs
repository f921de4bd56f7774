//! Registers the schemas of topics' values in the registry, each under its topic's subject.
//!
//! A subject is named after the topic (TopicNameStrategy), prefix included, so that other clients find it. A
//! schema that is already registered is only read, so nodes normally need no right to change the registry.

use crate::{
    prefix::TopicPrefix,
    registry::{COMPATIBILITY, Registry, RegistryError, Rejection, SchemaText},
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
use std::time::Duration;

/// Most attempts to register a subject after conflicts: nodes that start at the same time all register it, and
/// a registry may refuse all but one of them. An incompatible schema is refused each time.
const CONFLICT_ATTEMPTS_MAX: u32 = 5;
/// Time between two of these attempts.
const CONFLICT_INTERVAL: Duration = Duration::from_millis(100);

/// The subjects of a deployment's topics.
#[derive(Clone)]
pub struct Subjects {
    registry: Registry,
    prefix: TopicPrefix,
}

/// The registry's answer about a subject's compatibility.
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

    /// Registers a schema under a subject if it is not registered yet, and keeps the subject [`COMPATIBILITY`].
    /// Returns the schema's id.
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

    /// Ensures the compatibility, then the schema. A rejection is returned with the object of its request.
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
        let (path, body) = (format!("/subjects/{subject}"), json!({ "schema": schema }));
        match http.post::<Registered>(&path, &body).await? {
            Ok(found) => return Ok(Ok(found.id)),
            Err(rejection) if rejection.status == StatusCode::NOT_FOUND => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&http.settings, subject.to_owned(), supplied).await {
            Ok(registered) => Ok(Ok(registered.id)),
            Err(error) => http.rejection(&error).map(Err),
        }
    }

    async fn ensure_compatibility(
        &self,
        subject: &str,
    ) -> Result<Result<(), Rejection>, RegistryError> {
        let http = &self.registry.http;
        let path = format!("/config/{subject}");
        match http.get::<Compatibility>(&path).await? {
            Ok(found) if found.level == COMPATIBILITY => return Ok(Ok(())),
            // The subject has no level of its own.
            Ok(_) => {}
            Err(rejection) if rejection.status == StatusCode::NOT_FOUND => {}
            Err(rejection) => return Ok(Err(rejection)),
        }
        let body = json!({ "compatibility": COMPATIBILITY });
        let set = http.put::<Value>(&path, &body).await?;
        Ok(set.map(drop))
    }

    /// Why a reader with the new schema can't read records of the newest registered one.
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
    use crate::settings::RegistrySettings;
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    const SUBJECT: &str = "journal.orders-value";
    const SCHEMA: &str = r#""long""#;

    /// A registry whose answers the test chooses by method and path.
    struct FakeRegistry {
        url: String,
        /// `<method> <path>` of each request.
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl FakeRegistry {
        async fn start(answer: fn(&str) -> (u16, &'static str)) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let requests: Arc<Mutex<Vec<String>>> = Arc::default();
            let seen = requests.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    serve_one(stream, answer, &seen).await;
                }
            });
            Self { url, requests }
        }

        fn subjects(&self) -> Subjects {
            let settings = RegistrySettings {
                url: self.url.clone(),
                ..RegistrySettings::default()
            };
            let registry = Registry::new(&settings).unwrap();
            Subjects::new(registry, &KafkaSettings::default())
        }

        fn requests(&self) -> Vec<String> {
            self.requests.lock().unwrap().clone()
        }
    }

    /// Answers the one request of a connection.
    async fn serve_one(
        mut stream: TcpStream,
        answer: fn(&str) -> (u16, &'static str),
        seen: &Mutex<Vec<String>>,
    ) {
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        while !is_whole(&request) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the request ends early: {request}");
            request += std::str::from_utf8(&buffer[..count]).unwrap();
        }
        let mut words = request.split(' ');
        let line = [words.next().unwrap(), words.next().unwrap()].join(" ");
        let (status, body) = answer(&line);
        seen.lock().unwrap().push(line);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close");
        let whole = format!("{head}\r\n\r\n{body}");
        stream.write_all(whole.as_bytes()).await.unwrap();
    }

    fn is_whole(request: &str) -> bool {
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        body.len() >= length.unwrap_or(0)
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
        let id = registry.subjects().ensure(SUBJECT, SCHEMA).await.unwrap();
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
        let id = registry.subjects().ensure(SUBJECT, SCHEMA).await.unwrap();
        assert_eq!(id, 8, "{:?}", registry.requests());
    }

    /// Two nodes that start at the same time both set it.
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
        let id = registry.subjects().ensure(SUBJECT, SCHEMA).await.unwrap();
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
        let subjects = registry.subjects();
        let of_id = async |id| subjects.registry.schema_text(id).await.unwrap_err();
        let refused = of_id(1).await;
        assert!(
            matches!(refused, RegistryError::Refused { .. }),
            "{refused}"
        );
        for id in [2, 3] {
            let unknown = of_id(id).await;
            assert!(
                matches!(unknown, RegistryError::UnknownId { .. }),
                "{unknown}"
            );
        }
        let refused = subjects.ensure(SUBJECT, SCHEMA).await.unwrap_err();
        assert!(
            matches!(refused, RegistryError::Refused { .. }),
            "{refused}"
        );
    }
}
