//! The oracle: what a clean build would make, and what is to be done for it. No I/O; nothing of the product.
//!
//! A *key* is a list of lines, each a thing that can change a result; it is written from `DESIGN.md`, not from the code.
//! What a step makes follows from its key alone. So whatever happened before, the outputs of a build are known; and
//! from what the worktree and the store remember follows which steps run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::step::{Around, Made, Out, Word, hash, look_around, made};
use crate::tree::{Look, Node, Noticed, Tree, behind, said};
use crate::world::{Manifest, PREFIX};

/// Sets of discovered names that are kept of one base.
const PATH_SETS: usize = 16;

pub type Key = u64;

/// What a worktree remembers of a step.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Key,
    /// For people: what the key is made of.
    pub lines: Vec<String>,
    pub made: Made,
    /// Files that the step once read, and that were not there.
    pub gone: BTreeSet<String>,
}

/// What may be so after a kill or a loss.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    /// Keys that the record may have.
    pub keys: BTreeSet<Key>,
    /// Those that it may have had before: of these the result may be lost since.
    pub older: BTreeSet<Key>,
}

/// One checkout.
#[derive(Clone, Debug)]
pub struct Worktree {
    pub name: String,
    pub path: String,
    pub manifest: Manifest,
    pub sources: Tree,
    /// What lies where outputs are declared, or were.
    pub outputs: Tree,
    /// What lies in the shared prefix.
    pub prefix: Tree,
    pub records: BTreeMap<String, Record>,
    pub doubts: BTreeMap<String, Doubt>,
    /// What lies there in the place of an output, while somebody is at it.
    pub undermined: Option<(String, Node)>,
    /// What builds of requests ended with: all keys.
    pub proofs: BTreeMap<Vec<String>, BTreeSet<u64>>,
    /// What lies in the prefix may be nobody's, since the state was lost.
    pub has_strangers: bool,
}

/// What is the same for all worktrees.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub env: BTreeMap<String, String>,
    /// What a tool says: by directory on PATH and name.
    pub tools: BTreeMap<(usize, String), String>,
    /// Results by key: surely there, or perhaps.
    pub store: HashMap<Key, bool>,
    /// By base key, the newest set first.
    pub path_sets: HashMap<Key, Vec<Vec<String>>>,
    /// By step, all files that its runs may have been found to read.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// By key, those of them that were not there when a result was made.
    pub gone: HashMap<Key, BTreeSet<String>>,
    /// How many results were damaged, nobody knows which.
    pub lost: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Verdict {
    Fresh,
    Restored,
    Ran,
    /// Its commands began, and failed.
    Failed,
    /// Nothing began: an input is missing.
    Refused,
    Skipped,
}

/// One step of a request, as it is now.
#[derive(Clone, Debug)]
pub struct Step {
    pub task: usize,
    pub name: String,
    pub base: Key,
    pub key: Key,
    pub lines: Vec<String>,
    pub found: Vec<String>,
    /// Files that it once read and does not read now: not there, and there.
    pub gone: BTreeSet<String>,
    pub back: BTreeSet<String>,
    pub made: Made,
    pub allowed: BTreeSet<Verdict>,
    /// An earlier build of the same request ended with all as it is now: its proof says *fresh*, whatever the record is.
    pub is_proven: bool,
    pub is_fixed: bool,
    pub discovers: bool,
}

impl Step {
    pub fn surely(&self, verdict: Verdict) -> bool {
        self.allowed.len() == 1 && self.allowed.contains(&verdict)
    }

    fn ends_badly(&self) -> bool {
        [Verdict::Failed, Verdict::Refused, Verdict::Skipped].iter().any(|verdict| self.surely(*verdict))
    }
}

/// What is asked of a build.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Nothing: all.
    pub tasks: Vec<String>,
    pub force_all: bool,
    /// Forced by name.
    pub forced: Vec<String>,
    pub keep_going: bool,
}

impl Common {
    /// The tool that a name means.
    pub fn tool(&self, name: &str) -> Option<&String> {
        (0..2).find_map(|dir| self.tools.get(&(dir, name.to_owned())))
    }

    /// All steps of a request, with what may happen to each.
    pub fn foresee(&self, tree: &Worktree, request: &Request) -> Vec<Step> {
        let mut ideal = tree.sources.clone();
        let mut steps: BTreeMap<usize, Step> = BTreeMap::new();
        for ix in selected(&tree.manifest, request) {
            let step = self.step(tree, ix, &ideal, &steps, request);
            ideal.add(&step.made.outputs);
            if let Some((path, node)) =
                tree.undermined.as_ref().filter(|(path, _)| step.made.outputs.0.contains_key(path))
            {
                ideal.put(path, node.clone());
            }
            steps.insert(ix, step);
        }
        let mut steps: Vec<Step> = steps.into_values().collect();
        let proofs = tree.proofs.get(&request.tasks);
        if proofs.is_some_and(|proofs| proofs.contains(&ended_with(&steps))) {
            steps.iter_mut().for_each(|step| step.is_proven = is_intact(tree, step));
        }
        let fails = steps
            .iter()
            .any(|step| step.allowed.contains(&Verdict::Failed) || step.allowed.contains(&Verdict::Refused));
        if fails && !request.keep_going {
            // Whatever has not begun when one fails is skipped.
            for step in &mut steps {
                step.allowed.insert(Verdict::Skipped);
            }
        }
        steps
    }

    fn step(
        &self,
        tree: &Worktree,
        ix: usize,
        ideal: &Tree,
        before: &BTreeMap<usize, Step>,
        request: &Request,
    ) -> Step {
        let (manifest, task) = (&tree.manifest, &tree.manifest.tasks[ix]);
        let words = manifest.words(ix, PREFIX);
        let env = manifest.env(ix);
        let visible = layers(manifest, ix, before);
        let around = Around {
            look: ideal,
            prefix: &visible,
            place: &tree.path,
            env: &|name| env.get(name).or_else(|| self.env.get(name)).cloned(),
            tool: &|name| self.tool(name).cloned().unwrap_or_default(),
        };
        let seen = look_around(&words, &around);
        let mut made = made(&task.name, &words, &seen.report);
        made.outputs = region(&made.outputs, task.declared_outs());
        let mut lines = if task.fixed { fixed_lines(manifest, ix) } else { self.lines(tree, ix, &words, before) };
        if !task.fixed {
            let noticed = |kind: &'static str, of: &Noticed| {
                of.iter().map(move |(path, what)| format!("{kind} {path}: {what}")).collect::<Vec<_>>()
            };
            lines.extend(noticed("input", &seen.declared));
            lines.extend(noticed("fork", &seen.fork));
        }
        let base = hash(&lines);
        let found: Noticed = seen.found.iter().flat_map(|(name, what)| kept(ideal, name, what)).collect();
        lines.extend(found.iter().map(|(path, what)| format!("found {path}: {what}")));
        // By its whole name a neighbour may be meant as that of this worktree, or of all.
        let is_bound = task.spells_out && seen.found.keys().any(|name| leads_out(ideal, name));
        if is_bound || made.holds(&tree.path) {
            lines.push(format!("place {}", tree.path));
        }
        let once = self.names.get(&task.name).into_iter().flatten().filter(|name| !found.contains_key(*name));
        let (back, gone) = once.cloned().partition(|name| is_there(ideal, name));
        let mut step = Step {
            task: ix,
            name: task.name.clone(),
            base,
            key: hash(&lines),
            lines,
            found: found.into_keys().collect(),
            gone,
            back,
            made,
            allowed: BTreeSet::new(),
            is_proven: false,
            is_fixed: task.fixed,
            discovers: task.follow.is_some(),
        };
        let needs = manifest.needs(ix);
        step.allowed = if needs.iter().any(|need| before[need].ends_badly()) {
            [Verdict::Skipped].into()
        } else if seen.missing {
            [Verdict::Refused].into()
        } else {
            self.judge(tree, &step, seen.poisoned, is_forced(request, &task.name))
        };
        step
    }

    /// What may happen to a step whose needs are done.
    fn judge(&self, tree: &Worktree, step: &Step, fails: bool, forced: bool) -> BTreeSet<Verdict> {
        let run = if fails { Verdict::Failed } else { Verdict::Ran };
        if forced {
            return [run].into();
        }
        let doubt = tree.doubts.get(&step.name);
        let intact = is_intact(tree, step);
        if step.is_fixed && intact && doubt.is_none() {
            return [Verdict::Fresh].into();
        }
        let mut allowed = BTreeSet::new();
        let record = tree.records.get(&step.name).filter(|record| record.key == step.key);
        if let Some(record) = record.filter(|_| doubt.is_none() && intact) {
            allowed.insert(Verdict::Fresh);
            if record.gone.is_disjoint(&step.back) {
                return allowed;
            }
        }
        if doubt.is_some_and(|doubt| step.is_fixed || doubt.keys.contains(&step.key)) {
            allowed.insert(Verdict::Fresh);
        }
        match self.stored(step) {
            Some(true) => drop(allowed.insert(Verdict::Restored)),
            Some(false) => allowed.extend([Verdict::Restored, run]),
            None => drop(allowed.insert(run)),
        }
        // A file that it once read has come back: it may be read again, and only a run can tell.
        let may_be_other = self.gone.get(&step.key).is_some_and(|gone| !gone.is_disjoint(&step.back));
        if (self.lost > 0 || may_be_other) && allowed.contains(&Verdict::Restored) {
            allowed.insert(run);
        }
        allowed
    }

    /// Is the step's result in the store: surely, perhaps, or not?
    pub fn stored(&self, step: &Step) -> Option<bool> {
        let known = self.store.get(&step.key).copied()?;
        if step.discovers {
            self.path_sets.get(&step.base).filter(|sets| sets.contains(&step.found))?;
        }
        Some(known)
    }

    /// All of a key but what is seen on the disk.
    fn lines(&self, tree: &Worktree, ix: usize, words: &[Word], before: &BTreeMap<usize, Step>) -> Vec<String> {
        let (manifest, task) = (&tree.manifest, &tree.manifest.tasks[ix]);
        let mut lines = vec![format!("command {} {} {words:?}", task.shell, task.name)];
        lines.extend(manifest.env(ix).iter().map(|(name, value)| format!("env {name}={value}")));
        lines.extend(manifest.target(ix).map(|target| format!("triple {}", target.triple)));
        lines.extend(task.pass.iter().map(|name| format!("env {name} is {:?}", self.env.get(name))));
        lines.extend(task.tools.iter().map(|name| format!("tool {name} {:?}", self.tool(name))));
        lines.extend(manifest.depfile(ix).map(|path| format!("depfile {path}")));
        if manifest.has_view(ix) {
            let prefix = format!("{}/{PREFIX}", tree.path);
            lines.push(format!("prefix {}", if manifest.relocatable { "elsewhere" } else { &prefix }));
        }
        lines.push(format!("outputs {:?} {}", manifest.declared(ix), task.sysroot));
        let needs = manifest.needs(ix);
        let of = |need: usize| (manifest.tasks[need].id(), hash(&before[&need].made));
        lines.extend(needs.iter().map(|need| format!("need {:?}", of(*need))));
        if manifest.has_view(ix) {
            let others = manifest.all_needs(ix).into_iter().filter(|need| !needs.contains(need));
            let layer = |need: usize| Some((&before[&need].name, hash(before[&need].made.layer.as_ref()?)));
            let mut layers: Vec<String> = others.filter_map(layer).map(|layer| format!("layer {layer:?}")).collect();
            layers.sort();
            lines.extend(layers);
        }
        lines
    }
}

/// By which names a key holds what a step found under this one. `..` that leaves a plain directory is taken away, and that
/// it is no link counts; behind a link the name stays. What can't be reached is absent, and what would be there without the
/// way counts too.
fn kept(look: &Tree, name: &str, what: &str) -> Vec<(String, String)> {
    let (mut at, mut names): (Vec<&str>, Vec<(String, String)>) = Default::default();
    let mut rest = name.split('/');
    while let Some(part) = rest.next() {
        if part == ".." && at.iter().any(|above| *above != "..") {
            let left = at.join("/");
            names.extend((look.node(&left) == Some(Node::Dir)).then(|| (format!("{left}/."), "no link".to_owned())));
            at.pop();
            continue;
        }
        at.push(part);
        if matches!(look.node(&at.join("/")), Some(Node::Link(_))) {
            at.extend(rest.by_ref());
        }
    }
    let clean = at.join("/");
    if name.contains("..") && behind(look, name).is_none() {
        names.push((name.to_owned(), what.to_owned()));
        if let Some((_, node)) = behind(look, &clean) {
            names.push((clean, said(&node)));
        }
        return names;
    }
    names.push((clean, what.to_owned()));
    names
}

/// Is it the name of a neighbour?
fn leads_out(look: &Tree, name: &str) -> bool {
    name.starts_with("../") || behind(look, name).is_some_and(|(real, _)| real.starts_with("../"))
}

/// A name that ends so is of a link.
fn is_there(look: &Tree, name: &str) -> bool {
    match name.strip_suffix("/.") {
        Some(link) => matches!(look.node(link), Some(Node::Link(_))),
        None => behind(look, name).is_some(),
    }
}

/// What the proof of a build rests on.
pub fn ended_with(steps: &[Step]) -> u64 {
    hash(&steps.iter().map(|step| step.key).collect::<Vec<Key>>())
}

fn fixed_lines(manifest: &Manifest, ix: usize) -> Vec<String> {
    let made = manifest.fixed(ix);
    made.outputs.0.iter().map(|(path, node)| format!("fixed {path} {:x}", hash(node))).collect()
}

/// The layers in a step's view.
fn layers(manifest: &Manifest, ix: usize, before: &BTreeMap<usize, Step>) -> Tree {
    let mut visible = Tree::default();
    for need in manifest.all_needs(ix) {
        before[&need].made.layer.iter().for_each(|layer| visible.add(layer));
    }
    visible
}

pub fn is_forced(request: &Request, name: &str) -> bool {
    request.force_all || request.forced.iter().any(|forced| forced == name)
}

/// The tasks of a request and all that they need, in order.
pub fn selected(manifest: &Manifest, request: &Request) -> Vec<usize> {
    if request.tasks.is_empty() {
        return manifest.present().collect();
    }
    let mut all: BTreeSet<usize> = BTreeSet::new();
    for ix in request.tasks.iter().filter_map(|name| manifest.find(name)) {
        all.insert(ix);
        all.extend(manifest.all_needs(ix));
    }
    all.into_iter().collect()
}

/// Are the outputs here just what the step makes, with nothing else where they are declared?
fn is_intact(tree: &Worktree, step: &Step) -> bool {
    let made = &step.made;
    if step.is_fixed {
        return made.outputs.0.iter().all(|(path, node)| tree.outputs.0.get(path) == Some(node));
    }
    region(&tree.outputs, tree.manifest.tasks[step.task].declared_outs()).0 == made.outputs.0
        && made.layer.iter().all(|layer| has_all(&tree.prefix, layer))
}

pub fn has_all(prefix: &Tree, layer: &Tree) -> bool {
    // Directories are nobody's.
    layer.0.iter().all(|(path, node)| {
        prefix.0.get(path) == Some(node) || *node == Node::Dir && matches!(prefix.0.get(path), Some(Node::Dir))
    })
}

/// All that lies where the outputs are declared.
pub fn region(outputs: &Tree, outs: &[Out]) -> Tree {
    let mut found = Tree::default();
    for out in outs {
        if let Out::File(path) | Out::Program(path) | Out::Large(path) | Out::Link(path) | Out::Dir(path) = out {
            found.0.extend(outputs.below(path).map(|(path, node)| (path.clone(), node.clone())));
        }
    }
    found
}

impl Worktree {
    /// The step's outputs lie here as it made them.
    pub fn place(&mut self, step: &Step) {
        self.clear(step);
        self.lay(step);
        self.doubts.remove(&step.name);
        let record =
            Record { key: step.key, lines: step.lines.clone(), made: step.made.clone(), gone: step.gone.clone() };
        self.records.insert(step.name.clone(), record);
    }

    fn lay(&mut self, step: &Step) {
        self.outputs.add(&step.made.outputs);
        if let Some(layer) = &step.made.layer {
            for path in [format!("share/{}.txt", step.name), format!("lib/{}", step.name)] {
                self.prefix.remove(&path);
            }
            self.prefix.add(layer);
        }
    }

    /// Nothing lies where its outputs do.
    fn clear(&mut self, step: &Step) {
        let old = self.records.remove(&step.name);
        for path in old.iter().flat_map(|record| record.made.outputs.0.keys()) {
            self.outputs.remove(path);
        }
        for path in self.manifest.declared(step.task) {
            self.outputs.remove(path.trim_end_matches('/'));
        }
    }
}

impl Common {
    /// What a build has done is known from now on.
    pub fn learn(&mut self, tree: &mut Worktree, step: &Step, verdict: Verdict, is_stored: bool) {
        match verdict {
            Verdict::Fresh => {
                if step.is_proven {
                    // A proof looks at no record: what a kill left of that is there still.
                    tree.lay(step);
                } else if let Some(doubt) = tree.doubts.get(&step.name) {
                    if !step.is_fixed && !doubt.older.contains(&step.key) {
                        // A record comes after the result; where checksums do, the result may not be there yet.
                        self.store.entry(step.key).and_modify(|surely| *surely = true);
                    }
                    tree.place(step);
                }
            }
            Verdict::Restored => {
                self.store.insert(step.key, true);
                tree.place(step);
            }
            Verdict::Ran => {
                if is_stored {
                    self.keep(step, true);
                }
                tree.place(step);
                if !is_stored {
                    tree.records.remove(&step.name);
                }
            }
            Verdict::Failed => {
                tree.clear(step);
                tree.doubts.remove(&step.name);
            }
            Verdict::Refused | Verdict::Skipped => {}
        }
    }

    /// These steps may run now, and be found to read what they read.
    pub fn remember_names(&mut self, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.discovers) {
            self.names.entry(step.name.clone()).or_default().extend(step.found.iter().cloned());
        }
    }

    pub fn keep(&mut self, step: &Step, surely: bool) {
        let known = self.store.entry(step.key).or_insert(surely);
        *known |= surely;
        if step.discovers {
            let sets = self.path_sets.entry(step.base).or_default();
            sets.retain(|set| *set != step.found);
            sets.insert(0, step.found.clone());
            sets.truncate(PATH_SETS);
            self.gone.entry(step.key).or_default().extend(step.gone.iter().cloned());
        }
    }
}
