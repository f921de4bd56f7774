//! One level of the module tree: a module's children and its own file, and the dependencies among them.

use super::module_path::ROOT;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The dependencies among the modules of a level. A child stands for all modules in it. The module's own name
/// stands for its own file only.
#[derive(Debug, Default)]
pub struct Level {
    edges: BTreeMap<String, BTreeMap<String, Example>>,
}

/// A line in which a module names another module.
#[derive(Debug)]
pub struct Example {
    /// File and line.
    pub location: String,
    /// The name from the crate's root.
    pub name: String,
}

impl Level {
    /// Adds an edge. The first example of an edge is kept.
    pub fn add(&mut self, source: String, target: String, example: Example) {
        let targets = self.edges.entry(source).or_default();
        targets.entry(target).or_insert(example);
    }

    /// The cycles: for each module that is in a cycle, a shortest one. A module that names an item of the crate's
    /// root counts as a cycle, because the root composes its modules.
    pub fn cycles(&self) -> Vec<String> {
        let mut cycles = Vec::new();
        let mut seen: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        for start in self.edges.keys() {
            if let Some(cycle) = self.shortest_cycle(start)
                && seen.insert(cycle.iter().copied().collect())
            {
                cycles.push(self.describe(&cycle));
            }
        }
        let users_of_root = self.edges.iter().filter_map(|(module, targets)| {
            let example = targets.get(ROOT)?;
            Some(format!("{module} -> {ROOT}: {}", example.text()))
        });
        cycles.extend(users_of_root);
        cycles
    }

    /// The modules of a shortest path from a module back to itself.
    fn shortest_cycle<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(module) = next.pop_front() {
            for target in self.edges.get(module)?.keys().map(String::as_str) {
                if target == start {
                    let mut cycle = vec![module];
                    while let Some(previous) = before.get(cycle[cycle.len() - 1]) {
                        cycle.push(previous);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if self.edges.contains_key(target) && !before.contains_key(target) {
                    before.insert(target, module);
                    next.push_back(target);
                }
            }
        }
        None
    }

    fn describe(&self, cycle: &[&str]) -> String {
        let steps = cycle.iter().enumerate().map(|(index, module)| {
            let target = cycle[(index + 1) % cycle.len()];
            format!(
                "{module} -> {target}: {}",
                self.edges[*module][target].text()
            )
        });
        steps.collect::<Vec<_>>().join("\n    ")
    }
}

impl Example {
    fn text(&self) -> String {
        format!("{} names {}", self.location, self.name)
    }
}
