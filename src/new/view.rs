//! `daybook new view`.

use super::{
    avro, edit,
    names::{ContextName, ViewName},
    template::Values,
    tree::Changes,
};
use anyhow::{Context, Result, ensure};

/// The list of the views.
const REGISTRY: &str = "projections/src/views/mod.rs";
/// The files of a view's folder.
const FILES: [(&str, &str); 6] = [
    ("mod.rs", include_str!("templates/view/mod.rs.template")),
    (
        "tables.rs",
        include_str!("templates/view/tables.rs.template"),
    ),
    ("query.rs", include_str!("templates/view/query.rs.template")),
    ("tests.rs", include_str!("templates/view/tests.rs.template")),
    (
        "schema.sql",
        include_str!("templates/view/schema.sql.template"),
    ),
    (
        "sample_rows.sql",
        include_str!("templates/view/sample_rows.sql.template"),
    ),
];

/// Adds the first version of a view of a context's events; returns the next steps.
pub fn add(changes: &mut Changes<'_>, name: &ViewName, context: &ContextName) -> Result<String> {
    let events = avro::path(context);
    let text = changes.tree.read(&events)?;
    let first = avro::events(&text).with_context(|| events.clone())?;
    let first = first
        .first()
        .with_context(|| format!("{events} has no event"))?;
    let event = first["name"].as_str().unwrap_or_default().to_owned();
    let aggregate = first["aggregate"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    let example = serde_json::to_string_pretty(&avro::example(first)?)?;

    let folder = format!("projections/src/views/{}_v1", name.as_str());
    ensure!(!changes.tree.has(&folder), "{folder} already exists");
    let registry = changes.tree.read(REGISTRY)?;
    let earlier = registry
        .lines()
        .find(|line| is_version_of(line, name.as_str()));
    if let Some(earlier) = earlier {
        let earlier = earlier.trim().trim_end_matches(',');
        anyhow::bail!(
            "the view {earlier} already exists: copy its folder to create the next version"
        );
    }
    let route = format!("(get, path = \"/{}/{{", name.path());
    if let Some(path) = changes.tree.file_with("projections/src/views", &route)? {
        anyhow::bail!("{} already serves /{}/", path.display(), name.path());
    }
    let values = Values::of_context(context)
        .with_view(name)
        .with("event", event)
        .with("example", example.replace('\n', "\n    "))
        .with("stored", aggregate);
    for (file, template) in FILES {
        changes.create(format!("{folder}/{file}"), values.fill(template))?;
    }
    let line = values.fill("    @view@_v1,");
    changes.edit(REGISTRY, |text| {
        edit::append_to_block(text, &["views! {"], &line)
    })?;
    Ok(format!(
        "`cargo test -p projections`; then replace the columns in {folder} by the view's own"
    ))
}

/// Whether a line of the registry is a version of a view.
fn is_version_of(line: &str, view: &str) -> bool {
    let version = line.trim().trim_end_matches(',').strip_prefix(view);
    let version = version.and_then(|rest| rest.strip_prefix("_v"));
    version.is_some_and(|version| {
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}
