//! Configuration: a TOML file, if one is named, overridden by the environment.
//!
//! `DAYBOOK_<SECTION>_<FIELD>` sets `<section>.<field>`. An unknown name is an error, so that a misspelt
//! setting is never ignored. The exceptions are the variables that Kubernetes and Docker set for a service
//! called `daybook`.

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The prefix of this program's environment variables.
pub const ENVIRONMENT_PREFIX: &str = "DAYBOOK_";

/// A configuration that can't be used, with the key, its source and the reason.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is missing, misspelt or of the wrong type.
    #[error("configuration: {0}")]
    Invalid(Box<figment::Error>),
    /// The named file can't be opened.
    #[error("configuration file {path} can't be read: {reason}")]
    NoFile {
        /// The file's path.
        path: String,
        /// The system's message.
        reason: String,
    },
}

/// Reads the configuration; `T` has a field per section.
///
/// # Errors
/// The file can't be opened, or a value is missing, unknown or of the wrong type.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        std::fs::metadata(path).map_err(|error| ConfigError::NoFile {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let is_injected = std::env::var("DAYBOOK_PORT").is_ok_and(|value| is_service_address(&value));
    let environment = Env::prefixed(ENVIRONMENT_PREFIX)
        .filter(move |name| !(is_injected && is_of_service(name.as_str())))
        .map(|name| name.as_str().replacen('_', ".", 1).into());
    figment
        .merge(environment)
        .extract()
        .map_err(|error| ConfigError::Invalid(Box::new(error)))
}

/// The protocols of a service's ports.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Whether a value is the address that Kubernetes gives a service, such as `tcp://10.96.0.7:80`. Such a value
/// is never a setting.
fn is_service_address(value: &str) -> bool {
    let scheme = value.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| PROTOCOLS.contains(&scheme))
}

/// Whether Kubernetes sets a variable of this name, without the prefix, for a service called `daybook`:
/// `SERVICE_HOST`, `SERVICE_PORT`, `SERVICE_PORT_<port's name>`, `PORT`, `PORT_<number>_<protocol>` and
/// `PORT_<number>_<protocol>_(PROTO|PORT|ADDR)`.
fn is_of_service(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if matches!(name.as_str(), "service_host" | "service_port" | "port") {
        return true;
    }
    if name.starts_with("service_port_") {
        return true;
    }
    let mut words = name.split('_');
    let is_port = words.next() == Some("port")
        && words.next().is_some_and(|word| word.parse::<u16>().is_ok())
        && words.next().is_some_and(|word| PROTOCOLS.contains(&word));
    is_port
        && matches!(words.next(), None | Some("proto" | "port" | "addr"))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::Jail;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sections {
        #[serde(default)]
        http: Http,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Http {
        listen: String,
        body_bytes_max: u32,
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the signature is figment's")]
    fn the_environment_overrides_the_file() {
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.create_file("c.toml", "[http]\nlisten = \"a:1\"\nbody_bytes_max = 7\n")?;
            jail.set_env("DAYBOOK_HTTP_LISTEN", "b:2");
            let config: Sections = load(Some(Path::new("c.toml"))).unwrap();
            assert_eq!(
                config.http,
                Http {
                    listen: "b:2".into(),
                    body_bytes_max: 7
                }
            );
            Ok(())
        });
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the signature is figment's")]
    fn a_misspelt_name_is_an_error_that_names_it() {
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.set_env("DAYBOOK_HTTP_LISTN", "b:2");
            let error = load::<Sections>(None).unwrap_err().to_string();
            assert!(error.contains("listn"), "no \"listn\" in: {error}");
            jail.set_env("DAYBOOK_HTTP_LISTN", "");
            load::<Sections>(Some(Path::new("none.toml"))).unwrap_err();
            Ok(())
        });
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the signature is figment's")]
    fn variables_that_kubernetes_sets_for_a_service_called_daybook_are_not_settings() {
        Jail::expect_with(|jail| {
            jail.clear_env();
            for (name, value) in [
                ("DAYBOOK_SERVICE_HOST", "10.96.0.7"),
                ("DAYBOOK_SERVICE_PORT", "80"),
                ("DAYBOOK_SERVICE_PORT_HTTP", "80"),
                ("DAYBOOK_PORT", "tcp://10.96.0.7:80"),
                ("DAYBOOK_PORT_80_TCP", "tcp://10.96.0.7:80"),
                ("DAYBOOK_PORT_80_TCP_PROTO", "tcp"),
                ("DAYBOOK_PORT_80_TCP_PORT", "80"),
                ("DAYBOOK_PORT_80_TCP_ADDR", "10.96.0.7"),
                ("DAYBOOK_HTTP_LISTEN", "b:2"),
            ] {
                jail.set_env(name, value);
            }
            assert_eq!(load::<Sections>(None).unwrap().http.listen, "b:2");
            // Other names are still errors, and so is a port without a service.
            jail.set_env("DAYBOOK_PORT_80_TCP_LISTEN", "80");
            load::<Sections>(None).unwrap_err();
            jail.clear_env();
            jail.set_env("DAYBOOK_PORT", "8080");
            let error = load::<Sections>(None).unwrap_err().to_string();
            assert!(error.contains("port"), "no \"port\" in: {error}");
            Ok(())
        });
    }
}
