//! Settings of the connections to the databases.

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;

/// Settings of the connections to Postgres.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// Address, role and database. Default `postgres://daybook@127.0.0.1:5432/daybook`. A missing
    /// database is created.
    pub url: String,
    /// Maximum number of connections in each of this process's two pools: one for queries, one for projectors. Default
    /// 10.
    pub connections_max: u32,
}

/// Settings of the connections to the CQL store (Scylla or Cassandra).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CqlSettings {
    /// Contact points, `host:port` with commas between them. Default `127.0.0.1:9042`. The driver gets the
    /// addresses of the other nodes from them.
    pub nodes: String,
    /// The keyspace of all our tables. Default `daybook`. A missing keyspace is created.
    pub keyspace: String,
    /// Copies of each row per data centre in a keyspace that we create. Default 1; production needs 3.
    pub replication_factor: u16,
    /// Replicas that acknowledge each read and each write: `local_quorum`, `quorum` or `all`. Default `local_quorum`. With
    /// each of them, a read finds every acknowledged write.
    pub consistency: CqlConsistency,
}

/// The replicas that acknowledge each read and each write of the CQL store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CqlConsistency {
    /// Most replicas in the data centre of the node that gets the request. All nodes must be in one data centre: a read
    /// could otherwise ask another data centre than the write.
    #[default]
    LocalQuorum,
    /// Most replicas of all data centres.
    Quorum,
    /// Every replica.
    All,
}

/// Settings of the views' projectors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsSettings {
    /// The partitions that `serve` projects: `all`, `group` or `none`. With `group`, the processes of one consumer
    /// group divide the partitions, as `daybook projector` always does. Default `all`.
    pub partitions: SharedPartitions,
    /// This process's name in the group. It must be unique, and stay the same after a restart. Default: the value of
    /// `http.listen`.
    pub member: Option<String>,
}

/// The partitions that a process projects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedPartitions {
    /// Every partition.
    #[default]
    All,
    /// The partitions that the consumer group assigns to this process.
    Group,
    /// No partition: other processes project the views.
    None,
}

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The text is not an address of Postgres. The message leaves it out, because it may contain a password.
    #[error("postgres.url is not an address such as postgres://role@host:5432/database: {reason}")]
    PostgresUrl {
        /// The parser's message.
        reason: String,
    },
    /// The limit of connections is 0.
    #[error("postgres.connections_max must be at least 1")]
    NoConnections,
    /// The list of contact points is empty.
    #[error("cql.nodes is empty: set host:port of at least one node")]
    NoNodes,
    /// The keyspace is not a valid unquoted name.
    #[error(
        "cql.keyspace {keyspace:?} must be 1 to 48 lower-case letters, digits and underscores, \
         beginning with a letter"
    )]
    Keyspace {
        /// The setting.
        keyspace: String,
    },
    /// The number of copies is 0.
    #[error("cql.replication_factor must be at least 1")]
    ReplicationFactor,
}

/// Longest name of a keyspace.
const KEYSPACE_BYTES_MAX: usize = 48;

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: "postgres://daybook@127.0.0.1:5432/daybook".into(),
            connections_max: 10,
        }
    }
}

impl std::fmt::Debug for PostgresSettings {
    /// Leaves out the address, because it may contain a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

impl PostgresSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.connections_max == 0 {
            return Err(SettingsError::NoConnections);
        }
        self.options().map(|_| ())
    }

    pub(crate) fn options(&self) -> Result<PgConnectOptions, SettingsError> {
        PgConnectOptions::from_str(&self.url).map_err(|error| SettingsError::PostgresUrl {
            reason: error.to_string(),
        })
    }
}

impl Default for CqlSettings {
    fn default() -> Self {
        Self {
            nodes: "127.0.0.1:9042".into(),
            keyspace: "daybook".into(),
            replication_factor: 1,
            consistency: CqlConsistency::default(),
        }
    }
}

impl CqlSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.known_nodes().next().is_none() {
            return Err(SettingsError::NoNodes);
        }
        if self.replication_factor == 0 {
            return Err(SettingsError::ReplicationFactor);
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase())
            && self.keyspace.chars().all(plain)
            && self.keyspace.len() <= KEYSPACE_BYTES_MAX;
        match is_name {
            true => Ok(()),
            false => Err(SettingsError::Keyspace {
                keyspace: self.keyspace.clone(),
            }),
        }
    }

    pub(crate) fn known_nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes
            .split(',')
            .map(str::trim)
            .filter(|node| !node.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(PostgresSettings::default().check(), Ok(()));
        assert_eq!(CqlSettings::default().check(), Ok(()));
    }

    #[test]
    fn an_invalid_address_or_no_connection_is_refused() {
        let of = |url: &str, connections_max| PostgresSettings {
            url: url.into(),
            connections_max,
        };
        let checked = of("127.0.0.1:5432", 1).check();
        assert!(
            matches!(checked, Err(SettingsError::PostgresUrl { .. })),
            "{checked:?} instead of PostgresUrl"
        );
        assert_eq!(
            of("postgres://localhost/a", 0).check(),
            Err(SettingsError::NoConnections)
        );
    }

    #[test]
    fn a_missing_node_or_a_quoted_keyspace_is_refused() {
        let of = |nodes: &str, keyspace: &str| CqlSettings {
            nodes: nodes.into(),
            keyspace: keyspace.into(),
            ..CqlSettings::default()
        };
        assert_eq!(of(" a:1, b:2 ,", "daybook_1").check(), Ok(()));
        assert_eq!(of(" , ", "daybook").check(), Err(SettingsError::NoNodes));
        for keyspace in ["", "1a", "Daybook", "a; DROP", &"a".repeat(49)] {
            let checked = of("a:1", keyspace).check();
            assert!(
                matches!(checked, Err(SettingsError::Keyspace { .. })),
                "{keyspace:?}: {checked:?} instead of Keyspace"
            );
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let settings = PostgresSettings {
            url: "postgres://me:secret@localhost/a".into(),
            connections_max: 1,
        };
        let printed = format!("{settings:?}");
        assert!(!printed.contains("secret"), "\"secret\" in: {printed}");
    }
}
