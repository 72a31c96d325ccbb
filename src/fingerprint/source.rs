//! What a step's source is: an archive by its checksum, a commit, a working copy by its files; and its
//! patches, in the order in which they are applied.

use std::path::PathBuf;

use crate::action::{Component, Kind as Part};
use crate::base::stat::Kind;
use crate::graph::{Graph, Source, SourceFrom};

use super::files::{Files, Observation};
use super::inputs::{self, Found, InputError, Walk};
use super::links::{Ground, Links};

/// How an archive or a commit becomes files: which modes, names and filters. What is unpacked otherwise than before is
/// another source, so a change of that is a new version.
const UNPACKING: &str = "2";

/// A source as parts of the key.
pub struct Described {
    pub components: Vec<Component>,
    /// Patch files in order.
    pub patches: Vec<PathBuf>,
    pub seen: Vec<(PathBuf, Observation)>,
}

impl Described {
    /// Links on the way to what is known by its bytes.
    fn links(&mut self, graph: &Graph, kind: Part, links: Links) {
        self.components.extend(links.iter().map(|(link, seen)| inputs::component(kind, graph.shown(link), seen)));
        self.seen.extend(links);
    }
}

pub fn describe(files: &Files, graph: &Graph, walk: &Walk, source: &Source) -> Result<Described, InputError> {
    let mut described = Described { components: Vec::new(), patches: Vec::new(), seen: Vec::new() };
    match &source.from {
        SourceFrom::Url { sha256, .. } | SourceFrom::Archive { sha256: Some(sha256), .. } => {
            described.components.push(Component::text(Part::Source, "source", format!("sha256 {sha256}")));
        }
        SourceFrom::Archive { path, sha256: None } => {
            let real = files.resolve(path)?;
            let seen = files.observe(&real)?;
            if seen.stat.is_none_or(|s| s.kind != Kind::File) {
                return Err(InputError::NoMatch { pattern: graph.shown(path) });
            }
            described.links(graph, Part::Source, files.way(path, &Ground::of(graph))?);
            described.components.push(inputs::component(Part::Source, graph.shown(path), &seen));
            described.seen.push((real, seen));
        }
        SourceFrom::Git { rev, .. } => {
            described.components.push(Component::text(Part::Source, "source", format!("commit {rev}")))
        }
        SourceFrom::Path { path } => {
            if files.look(path)?.is_none() {
                return Err(InputError::NoMatch { pattern: graph.shown(path) });
            }
            let mut found = Found::new();
            let pattern = crate::graph::pattern::Pattern::new(".", path, &graph.root, source.span)
                .expect("BUG: `.` is a pattern");
            walk.add(&pattern, &mut found)?;
            described
                .components
                .extend(found.iter().map(|(path, seen)| inputs::component(Part::Source, graph.shown(path), seen)));
            described.seen.extend(found);
            return Ok(described);
        }
    }
    described.components.push(Component::text(Part::Setting, "unpacking", UNPACKING));
    patches(files, graph, walk, source, &mut described)?;
    Ok(described)
}

fn patches(
    files: &Files,
    graph: &Graph,
    walk: &Walk,
    source: &Source,
    described: &mut Described,
) -> Result<(), InputError> {
    for pattern in &source.patches {
        let mut found = Found::new();
        if !walk.add(pattern, &mut found)? {
            return Err(InputError::NoMatch { pattern: pattern.shown.clone() });
        }
        let is_way = |(path, seen): &(&PathBuf, &Observation)| {
            !pattern.covers(path) && seen.stat.is_some_and(|stat| stat.kind == Kind::Symlink)
        };
        let links = found.iter().filter(is_way).map(|(link, seen)| (link.clone(), *seen)).collect();
        described.links(graph, Part::Patch, links);
        // What a link among them leads to is found too.
        for path in found.into_keys().filter(|path| pattern.covers(path)) {
            let real = files.resolve(&path)?;
            let seen = files.observe(&real)?;
            if described.patches.contains(&path) || seen.stat.is_none_or(|s| s.kind != Kind::File) {
                continue;
            }
            described.components.push(inputs::component(Part::Patch, graph.shown(&path), &seen));
            described.seen.extend([(path.clone(), files.observe(&path)?), (real, seen)]);
            described.patches.push(path);
        }
    }
    Ok(())
}
