//! Commands that build nothing: they foresee, explain, or tidy up.

use std::collections::BTreeMap;

use crate::oracle::{Request, Step, Verdict, selected};
use crate::play::{Log, Play};
use crate::random::Random;
use crate::rig::Lie;
use crate::step::Out;
use crate::tree::{Node, Tree};
use crate::world::PREFIX;

impl Play {
    /// `plan` says what a build then does.
    pub fn plan(&mut self, at: usize, request: &Request, random: &mut Random) -> Result<(), Lie> {
        let steps = self.common.foresee(&self.trees[at], request);
        let fails =
            |step: &Step| step.allowed.iter().any(|v| !matches!(v, Verdict::Fresh | Verdict::Restored | Verdict::Ran));
        if steps.iter().any(fails) {
            return Ok(());
        }
        let force = if request.force_all { " --force=all" } else { "" };
        if !request.forced.is_empty() {
            return Ok(());
        }
        let (code, out, err) =
            self.rig.ask(&self.trees[at], &self.common, &format!("plan -v{force} {}", request.tasks.join(" ")));
        if code != Some(0) {
            return Err(format!("plan ended with {code:?}: {err}"));
        }
        let said: BTreeMap<&str, &str> = out
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let verdict = words.next()?;
                Some((words.next()?, verdict))
            })
            .collect();
        let id = |step: &Step| self.trees[at].manifest.tasks[step.task].id();
        for step in &steps {
            let word = *said.get(&*id(step)).ok_or_else(|| format!("plan is silent about {}:\n{out}", step.name))?;
            let fits = match word {
                "fresh" => step.allowed.contains(&Verdict::Fresh),
                "cached" => step.allowed.contains(&Verdict::Restored),
                "stale" => step.allowed.contains(&Verdict::Ran),
                "unknown" => {
                    let tasks = &self.trees[at].manifest.tasks;
                    let needs = self.trees[at].manifest.needs(step.task);
                    needs.iter().any(|need| said.get(&*tasks[*need].id()) != Some(&"fresh"))
                }
                _ => false,
            };
            if !fits {
                return Err(format!("{} is {word} to plan, and should be {:?}:\n{out}{err}", step.name, step.allowed));
            }
        }
        match random.one(&steps) {
            // What another request has planned may be forced there.
            Some(step) if !request.force_all && random.chance(30) => self.why(at, &id(step), said[&*id(step)]),
            _ => Ok(()),
        }
    }

    /// `why` says the same as `plan`.
    fn why(&self, at: usize, id: &str, planned: &str) -> Result<(), Lie> {
        let (code, out, err) = self.rig.ask(&self.trees[at], &self.common, &format!("why {id}"));
        let headline = match planned {
            "fresh" => "is fresh",
            "cached" => "would be restored now",
            "stale" => "would run now",
            _ => "can't be judged yet",
        };
        if code == Some(0) && out.starts_with(&format!("{id} {headline}")) {
            return Ok(());
        }
        Err(format!("{id} is {planned} to plan, and why says: {out}{err}"))
    }

    /// `path` says where the output of a fresh step is, and runs nothing.
    pub fn path(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let tree = &self.trees[at];
        let present: Vec<usize> = tree.manifest.present().collect();
        let Some(task) = random.one(&present).map(|ix| &tree.manifest.tasks[*ix]) else { return Ok(()) };
        let [Out::File(path) | Out::Program(path) | Out::Large(path) | Out::Link(path)] = task.declared_outs() else {
            return Ok(());
        };
        let request = Request { tasks: vec![task.name.clone()], ..Request::default() };
        let steps = self.common.foresee(tree, &request);
        if !steps.iter().all(|step| step.surely(Verdict::Fresh)) {
            return Ok(());
        }
        log.say(format_args!("path {} in {}", task.name, tree.name));
        let (code, out, err) = self.rig.ask(tree, &self.common, &format!("path {}", task.name));
        if code != Some(0) || out != format!("{}/{path}\n", tree.path) || !err.contains(" 0 restored, 0 ran") {
            return Err(format!("path {} ended with {code:?}: {out}{err}", task.name));
        }
        self.learn_proof(at, &request, &steps);
        Ok(())
    }

    pub fn collect(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let words = ["cache gc", "cache verify", "cache clean --yes", "clean", "cache verify"][random.below(5)];
        log.say(format_args!("{words} in {}", self.trees[at].name));
        if words == "clean" && selected(&self.trees[at].manifest, &Request::default()).is_empty() {
            return Ok(());
        }
        let (code, out, err) = self.rig.ask(&self.trees[at], &self.common, words);
        // What a killed build was about to start has its lock until it has started.
        if words == "clean" && err == "error: a build is running in this worktree\n" {
            return Ok(());
        }
        let may_fail = words == "cache verify" && self.is_store_damaged;
        if code != Some(0) && !may_fail {
            return Err(format!("{words} ended with {code:?}: {out}{err}"));
        }
        match words {
            "cache clean --yes" => {
                self.common.store.clear();
                self.common.path_sets.clear();
                self.common.lost = 0;
                self.is_store_damaged = false;
            }
            "clean" => self.learn_of_clean(at),
            "cache verify" => self.is_store_damaged = false,
            _ => {}
        }
        Ok(())
    }

    /// No entry of the store is torn.
    pub fn verify(&mut self, at: usize) -> Result<(), Lie> {
        let (code, out, err) = self.rig.ask(&self.trees[at], &self.common, "cache verify");
        if code == Some(0) || self.is_store_damaged {
            self.is_store_damaged = false;
            return Ok(());
        }
        Err(format!("cache verify ended with {code:?}: {out}{err}"))
    }

    fn learn_of_clean(&mut self, at: usize) {
        let tree = &mut self.trees[at];
        let names: Vec<String> = tree.records.keys().cloned().collect();
        for name in names {
            let Some(record) = tree.records.remove(&name) else { continue };
            for (path, node) in &record.made.outputs.0 {
                // What somebody changed stays.
                if tree.outputs.0.get(path) == Some(node) && *node != Node::Dir {
                    tree.outputs.0.remove(path);
                }
            }
        }
        tree.outputs = self.rig.disk(&tree.name).scan("out", &[]);
        tree.prefix = Tree::default();
        for (path, node) in self.rig.disk(&tree.name).scan(PREFIX, &[]).0 {
            path.strip_prefix("prefix/").into_iter().for_each(|path| tree.prefix.put(path, node.clone()));
        }
        tree.doubts.clear();
        tree.has_strangers = true;
    }
}
