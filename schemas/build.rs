//! Generates the contexts and their events from `avro/*.avsc`: each file whose top level is an array is a
//! context, and each record in the array is one event. See `build/generate.rs` for the attributes that
//! these files have beyond Avro's own.

#[path = "build/avro.rs"]
mod avro;
#[path = "build/generate.rs"]
mod generate;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("avro");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "avsc")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut contexts = Vec::new();
    for path in paths {
        let in_file = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path)?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| in_file(error.to_string()))?;
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let name = name.ok_or_else(|| in_file("the file's name is not UTF-8".into()))?;
        if let serde_json::Value::Array(events) = value {
            contexts.push(avro::Context::read(name, events).map_err(in_file)?);
        }
    }
    let target = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(target.join("contexts.rs"), generate::code(&contexts))?;
    generate_fixture(&target)
}

/// The types of a context in two versions, for `tests/evolution.rs`.
fn generate_fixture(target: &Path) -> Result<(), Box<dyn Error>> {
    let folder = Path::new("tests/evolution");
    println!("cargo::rerun-if-changed={}", folder.display());
    for version in ["v1", "v2"] {
        let text = fs::read_to_string(folder.join(format!("{version}.avsc")))?;
        let context = avro::Context::read("evolution", serde_json::from_str(&text)?)?;
        let path = target.join(format!("evolution_{version}.rs"));
        fs::write(path, generate::types(&context))?;
    }
    Ok(())
}
