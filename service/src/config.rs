//! Configuration: a TOML file, if one is named, overridden by the environment.
//!
//! `DAYBOOK_<SECTION>_<FIELD>` sets `<section>.<field>`. A name that no section has is an error, so that a
//! misspelt setting is never ignored.

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The prefix of our environment variables.
pub const ENVIRONMENT_PREFIX: &str = "DAYBOOK_";

/// A configuration that can't be used, with the key, its source and the reason.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is missing, misspelt or of the wrong type.
    #[error("configuration: {0}")]
    Invalid(Box<figment::Error>),
    /// The file that was named can't be opened.
    #[error("configuration file {path} can't be read: {reason}")]
    NoFile {
        /// Its path.
        path: String,
        /// The system's message.
        reason: String,
    },
}

/// Reads the configuration; `T` has a field per section.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        std::fs::metadata(path).map_err(|error| ConfigError::NoFile {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let environment =
        Env::prefixed(ENVIRONMENT_PREFIX).map(|name| name.as_str().replacen('_', ".", 1).into());
    figment
        .merge(environment)
        .extract()
        .map_err(|error| ConfigError::Invalid(Box::new(error)))
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
            assert!(error.contains("listn"), "{error}");
            jail.set_env("DAYBOOK_HTTP_LISTN", "");
            assert!(load::<Sections>(Some(Path::new("none.toml"))).is_err());
            Ok(())
        });
    }
}
