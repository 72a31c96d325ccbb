//! The programs of a step as parts of its key: its tools, what starts them and what they start.

use std::collections::BTreeMap;
use std::path::Path;

use crate::action::{Component, Kind as Part};
use crate::base::digest::{Digest, Hasher};
use crate::base::paths::escaped;
use crate::base::span::Spanned;
use crate::base::stat::Kind;
use crate::graph::{Class, ToolUse};
use crate::manifest::model::Tool;

use super::super::env::SYSTEM_PATH;
use super::super::files::FileError;
use super::super::host;
use super::super::links::Ground;
use super::super::tools::{Asking, Place, ToolError, is_by_hand};
use super::{AssembleError, Parts, Producer};

impl Parts<'_> {
    /// Finds the tools; those that come out of a needed layer are in the key by that layer.
    pub(super) fn tools(&mut self, layers: &[Producer]) -> Result<Vec<(String, Place)>, AssembleError> {
        let (bench, step) = (self.bench, self.step);
        if step.class == Class::Plain {
            return Ok(Vec::new());
        }
        let search = bench.search_path(step);
        let asking = bench.asking(step, &search);
        let mut located = Vec::new();
        let mut parts = Vec::new();
        let patch = self.patch_program();
        for used in step.tools.iter().chain(&patch) {
            let name = &used.tool.name.value;
            if step.has_views() && layers.iter().any(|l| self.brings(l, name)) {
                continue;
            }
            match bench.find_tool(step, name, &search)? {
                Some(place) => {
                    if step.class != Class::Fixed {
                        parts.push(self.program(&used.tool, &place, &asking)?);
                        if let Some(behind) = host::behind(bench.tools, step, &place)? {
                            let name = behind.path.to_string_lossy().into_owned();
                            let tool =
                                Tool { name: Spanned::new(name.clone(), step.span), version: None, install: None };
                            parts.push(self.program(&tool, &behind, &asking)?);
                            located.push((name, behind));
                        }
                    }
                    located.push((name.clone(), place));
                }
                None if used.required => {
                    return Err(AssembleError::Missing { name: name.clone(), install: used.tool.install.clone() });
                }
                // It may be a function, or guarded by a test: that it is absent is a fact too.
                None if step.class != Class::Fixed => parts.push(Component::text(Part::Tool, name, "not found")),
                None => {}
            }
        }
        parts.extend(self.interpreters_by_hand(&asking)?);
        self.path_directories()?;
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        parts.dedup();
        self.components.extend(parts);
        Ok(located)
    }

    /// Of the workspace's own scripts what no package brought: by its bytes.
    fn interpreters_by_hand(&mut self, asking: &Asking) -> Result<Vec<Component>, ToolError> {
        let (bench, mut parts) = (self.bench, Vec::new());
        self.interpreters = self.interpreters_of_scripts(asking)?;
        for Place { real, .. } in self.interpreters.iter().filter(|place| is_by_hand(&place.real, &bench.graph.root)) {
            let seen = bench.files.observe(real)?;
            let shown = real.display().to_string();
            let digest = seen.digest.unwrap_or_else(|| Digest::of(b""));
            parts.push(Component { kind: Part::Tool, name: shown.clone(), digest, shown });
            self.seen.push((real.clone(), seen));
        }
        Ok(parts)
    }

    /// What starts the workspace's own scripts.
    fn interpreters_of_scripts(&self, asking: &Asking) -> Result<Vec<Place>, ToolError> {
        let (bench, mut found) = (self.bench, Vec::new());
        if self.step.class != Class::Cached {
            return Ok(found);
        }
        for script in self.step.scripts.iter().filter(|script| script.starts_with(&bench.graph.root)) {
            if bench.files.look_behind(script)?.is_none_or(|stat| stat.kind != Kind::File) {
                continue;
            }
            let place = Place { path: script.clone(), real: bench.files.resolve(script)? };
            found.extend(bench.tools.started_by(&place, asking)?);
        }
        Ok(found)
    }

    fn program(&mut self, tool: &Tool, place: &Place, asking: &Asking) -> Result<Component, ToolError> {
        let component = self.bench.tools.component(tool, place, asking)?;
        // Who turns links in the system's directories changes the machine under all.
        if !SYSTEM_PATH.iter().any(|dir| place.path.parent() == Some(Path::new(dir))) {
            self.ways.extend(self.bench.files.way(&place.path, &Ground::of(self.bench.graph))?);
        }
        self.seen.extend(self.bench.tools.seen(place, asking)?);
        Ok(component)
    }

    fn patch_program(&self) -> Option<ToolUse> {
        let source = self.step.source.as_ref().filter(|s| !s.patches.is_empty())?;
        let name = Spanned::new("patch".to_owned(), source.span);
        let install = Some("apt-get install patch".to_owned());
        Some(ToolUse { tool: Tool { name, version: None, install }, required: true })
    }

    fn brings(&self, layer: &Producer, name: &str) -> bool {
        let runs = self.bench.runs_here(&self.bench.graph.step(layer.step).triple);
        runs && layer.made.layer.as_ref().is_some_and(|tree| tree.get(&Path::new("bin").join(name)).is_some())
    }

    /// All programs in the directories of `path` can be used unseen, so all are in the key. A program may look for more by where it
    /// lies, so links that lead there are too.
    fn path_directories(&mut self) -> Result<(), AssembleError> {
        if self.step.class == Class::Fixed {
            return Ok(());
        }
        let files = self.bench.files;
        let mut turns = BTreeMap::new();
        for dir in self.bench.own_path(self.step) {
            let mut hasher = Hasher::new("bcache path directory 1");
            turns.extend(self.turns(dir)?);
            for (name, kind) in files.list(dir)?.iter() {
                let real = files.resolve(&dir.join(name)).unwrap_or_else(|_| dir.join(name));
                if let Some(stat) = files.look(&real)?.filter(|s| s.kind == Kind::File) {
                    let seen = files.observe(&real)?;
                    // No program, but `.` of a shell finds it there. No name has a slash.
                    if !stat.is_executable() {
                        hasher.text("/");
                    }
                    hasher.bytes(name.as_encoded_bytes()).digest(&seen.digest.unwrap_or_else(|| Digest::of(b"")));
                    self.seen.push((real, seen));
                    let links = if *kind == Kind::Symlink { self.turns(&dir.join(name))? } else { Vec::new() };
                    for (link, text) in links.iter().filter(|(link, _)| !turns.contains_key(link)) {
                        hasher.text("/link").text(link).text(text);
                    }
                }
            }
            let name = format!("programs in {}", self.bench.graph.shown(dir));
            self.components.push(Component {
                kind: Part::Setting,
                name,
                digest: hasher.finish(),
                shown: String::new(),
            });
        }
        let by_links = turns.into_iter().map(|(link, text)| (format!("programs by {link}"), text));
        self.components.extend(by_links.map(|(name, text)| Component::text(Part::Setting, &name, text)));
        Ok(())
    }

    /// The links on the way to a path, and their texts, as they are in keys.
    fn turns(&mut self, path: &Path) -> Result<Vec<(String, String)>, AssembleError> {
        let bench = self.bench;
        let mut turns = Vec::new();
        for (link, seen) in bench.files.way(path, &Ground::of(bench.graph))? {
            let read = |error| FileError::Read { path: link.clone(), error };
            let text = escaped(&std::fs::read_link(&link).map_err(read)?);
            turns.push((bench.mark_path(&link), bench.mark(&text)));
            self.seen.push((link, seen));
        }
        Ok(turns)
    }
}
