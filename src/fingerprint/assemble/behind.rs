//! What the links lead to that needs have made.
//!
//! To the step that makes it, a link is its text; who opens it reads the file behind it. Where that is something that a direct
//! need has made, it is known by that need. Elsewhere it is an input of whoever needs the link, as if it were declared: a link that
//! a `stow` or an `npm link` has put there leads to sources that people edit.
//!
//! Not followed are links to what installed packages own (the host's identity says it), to directories outside of the
//! workspace, and to a directory that holds the link itself.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::action::Kind as Part;
use crate::base::ids::StepIx;
use crate::base::paths::join_clean;
use crate::base::stat::Kind;
use crate::base::tree::{Node, Tree};
use crate::graph::Class;
use crate::graph::pattern::Pattern;

use super::super::inputs::{self, Found, Walk};
use super::super::links::Ground;
use super::super::tools::is_by_hand;
use super::{AssembleError, Parts, Producer};

/// Where nothing stays as it is.
const FLEETING: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

impl Parts<'_> {
    pub(super) fn behind_links(&mut self, needs: &[Producer], layers: &[Producer]) -> Result<(), AssembleError> {
        let (bench, step) = (self.bench, self.step);
        if step.class != Class::Cached {
            return Ok(());
        }
        let mut led_to = BTreeSet::new();
        for need in needs {
            self.targets(&bench.graph.root, &need.made.outputs, &mut led_to);
        }
        for layer in layers.iter().filter(|_| step.has_views()) {
            let prefix = bench.graph.step(layer.step).sysroot.map(|prefix| bench.graph.prefix(prefix));
            if let (Some(prefix), Some(tree)) = (prefix, &layer.made.layer) {
                self.targets(&prefix.path, tree, &mut led_to);
            }
        }
        if led_to.is_empty() {
            return Ok(());
        }
        let made = self.made_by_others(needs);
        led_to.retain(|path| !made.iter().any(|pattern| pattern.covers(path)));
        let mut found = Found::new();
        for path in &led_to {
            self.look_behind(path, &made, &mut found)?;
        }
        let declared = self.components.iter().filter(|component| component.kind == Part::Input);
        let declared: HashSet<String> = declared.map(|component| component.name.clone()).collect();
        found.retain(|path, _| !declared.contains(&*bench.graph.shown(path)));
        self.components.extend(inputs::components(bench.graph, &found));
        self.seen.extend(found);
        Ok(())
    }

    /// Where the links of a tree lead that leave it, and what steps make.
    fn targets(&self, base: &Path, tree: &Tree, led_to: &mut BTreeSet<PathBuf>) {
        for entry in tree.entries() {
            let Node::Symlink { target } = &entry.node else { continue };
            let link = base.join(&entry.path);
            let Some(to) = link.parent().and_then(|dir| join_clean(dir, target)) else { continue };
            let is_own = to.strip_prefix(base).is_ok_and(|inner| tree.get(inner).is_some() || tree.holds_below(inner));
            if !is_own && !link.starts_with(&to) && self.may_change(&to) {
                led_to.insert(to);
            }
        }
    }

    /// Is it neither of a package, nor ours, nor in a prefix, of which the layers are known?
    fn may_change(&self, path: &Path) -> bool {
        let graph = self.bench.graph;
        let is_installed = graph.prefixes.iter().any(|p| path.starts_with(&p.path) || path.starts_with(p.seen()));
        let is_elsewhere = !path.starts_with(&graph.root);
        !is_installed
            && !path.starts_with(self.bench.state)
            && (!is_elsewhere || is_by_hand(path, &graph.root) && !FLEETING.iter().any(|dir| path.starts_with(dir)))
    }

    /// Outputs of direct needs, which the key knows, and of steps that have nothing to do with this one. What needs of needs have
    /// made is not among them: a link can be the same over it.
    fn made_by_others(&self, needs: &[Producer]) -> Vec<&Pattern> {
        let graph = self.bench.graph;
        let mut open: Vec<StepIx> = needs.iter().map(|need| need.step).collect();
        let direct: HashSet<StepIx> = open.iter().copied().collect();
        let mut indirect = HashSet::new();
        while let Some(at) = open.pop() {
            let further = graph.step(at).needs.iter().map(|need| need.step);
            open.extend(further.filter(|need| !direct.contains(need) && indirect.insert(*need)));
        }
        let others = graph.indices().filter(|ix| !indirect.contains(ix));
        others.flat_map(|ix| &graph.step(ix).outputs).map(|output| &output.pattern).collect()
    }

    fn look_behind(&self, path: &Path, made: &[&Pattern], found: &mut Found) -> Result<(), AssembleError> {
        let (files, graph) = (self.bench.files, self.bench.graph);
        let is_inside = path.starts_with(&graph.root);
        found.extend(
            files
                .way(path, &Ground::of(graph))?
                .into_iter()
                .filter(|(link, _)| !made.iter().any(|pattern| pattern.covers(link))),
        );
        match files.look_behind(path)?.map(|stat| stat.kind) {
            Some(Kind::Dir) if is_inside => self.look_below(path, made, found)?,
            Some(Kind::File) => Walk::of_packages(files, graph, Vec::new(), self.bench.store).named(path, found)?,
            // It may come.
            None if is_inside => drop(found.insert(path.to_owned(), files.observe(path)?)),
            _ => {}
        }
        Ok(())
    }

    /// All in a directory but what steps make there.
    fn look_below(&self, dir: &Path, made: &[&Pattern], found: &mut Found) -> Result<(), AssembleError> {
        let (files, graph) = (self.bench.files, self.bench.graph);
        let is_near = |pattern: &&Pattern| {
            let fixed = pattern.fixed_part();
            fixed.starts_with(dir) || dir.starts_with(&fixed)
        };
        let made: Vec<&Pattern> = made.iter().copied().filter(is_near).collect();
        let skipped = made.iter().filter(|pattern| !pattern.is_glob()).map(|pattern| pattern.path.as_path());
        let mut below = Found::new();
        Walk::of_packages(files, graph, skipped.collect(), self.bench.store).directory(dir, &mut below)?;
        below.retain(|path, _| !made.iter().any(|pattern| pattern.covers(path)));
        if below.is_empty() {
            below.insert(dir.to_owned(), files.observe(dir)?);
        }
        found.append(&mut below);
        Ok(())
    }
}
