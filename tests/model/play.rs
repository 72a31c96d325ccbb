//! One world, played: a seed is a list of moves, each with a seed of its own. So a move can be left out, and the others
//! stay what they were, as far as that is possible.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::oracle::{Common, Doubt, Key, Request, Step, Verdict, Worktree, selected};
use crate::random::Random;
use crate::rig::{How, Lie, Rig, Told, Whom, compare, look, look_at_sources};
use crate::step::Word;
use crate::tree::{Node, Tree};
use crate::world::{Kind, Manifest, PREFIX, TOOLS};

/// Snapshots that are kept to go back to.
const HISTORY: usize = 6;

pub struct Play {
    pub kind: Kind,
    pub rig: Rig,
    pub common: Common,
    pub trees: Vec<Worktree>,
    pub history: Vec<Vec<(Manifest, Tree)>>,
    pub is_store_damaged: bool,
    pub score: Score,
    branches: Vec<Branch>,
    /// Of the last killed build in each worktree: keys of steps that had begun, and how many could at once.
    killed: Vec<Option<(BTreeSet<Key>, usize)>>,
}

/// Which of two branches a working copy is on, and what the other one holds.
#[derive(Clone, Debug, Default)]
struct Branch {
    is_other: bool,
    other: Option<Vec<(String, Node)>>,
}

/// What was done, for the last line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub edits: usize,
    pub builds: usize,
    pub kills: usize,
    pub fresh: usize,
    pub restored: usize,
    pub ran: usize,
    pub failed: usize,
    /// Steps of killed builds that ran again.
    pub repeated: usize,
}

impl Score {
    pub fn add(&mut self, other: &Self) {
        self.edits += other.edits;
        self.builds += other.builds;
        self.kills += other.kills;
        self.fresh += other.fresh;
        self.restored += other.restored;
        self.ran += other.ran;
        self.failed += other.failed;
        self.repeated += other.repeated;
    }
}

/// How a world ended, and what was done up to then.
pub struct Played {
    pub score: Score,
    pub log: Vec<String>,
    pub lie: Option<Lie>,
    /// How many moves were made.
    pub moves: usize,
}

/// Plays the moves of a seed, but for those that are left out, until `edits` were made or something is wrong.
pub fn play(seed: u64, edits: usize, moves: &dyn Fn(usize) -> bool) -> Played {
    let mut log = Vec::new();
    let mut play = Play::new(seed);
    let mut made = 0;
    let end = edits * 4;
    while play.score.edits < edits && made < end {
        let number = made;
        made += 1;
        if !moves(number) {
            continue;
        }
        let mut random = Random::new(seed ^ (number as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
        if let Err(lie) = play.make_move(&mut random, &format!("{number}"), &mut log) {
            return Played { score: play.score, log, lie: Some(lie), moves: made };
        }
    }
    Played { score: play.score, log, lie: None, moves: made }
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let kind = Kind::draw(&mut random);
        let manifest = Manifest::draw(&kind, &mut random);
        let rig = Rig::new();
        let mut play = Self {
            kind,
            common: Common::default(),
            trees: Vec::new(),
            history: vec![Vec::new(), Vec::new()],
            is_store_damaged: false,
            score: Score::default(),
            branches: vec![Branch::default(), Branch::default()],
            killed: vec![None, None],
            rig,
        };
        for name in TOOLS {
            play.put_tool(1, name, "version 1");
        }
        let sources = play.draw_sources(&manifest);
        for name in ["one", "two"] {
            let disk = play.rig.disk(name);
            sources.0.iter().for_each(|(path, node)| disk.put(path, node).expect("it is written"));
            if play.kind.git {
                play.git(name, &["init", "-q", "-b", "main"]);
                play.git(name, &["add", "-A"]);
                play.git(name, &["commit", "-qm", "first"]);
            }
            play.trees.push(Worktree {
                name: name.to_owned(),
                path: play.rig.at(name).to_str().expect("a path in UTF-8").to_owned(),
                manifest: manifest.clone(),
                sources: sources.clone(),
                outputs: Tree::default(),
                prefix: Tree::default(),
                records: BTreeMap::new(),
                doubts: BTreeMap::new(),
                has_strangers: false,
            });
            play.write_manifest(play.trees.len() - 1);
        }
        play
    }

    fn draw_sources(&self, manifest: &Manifest) -> Tree {
        let mut sources = Tree::default();
        let mut put = |path: &str, text: &str| sources.put(path, Node::file(text));
        for task in &manifest.tasks {
            let src = format!("src/{}", task.name);
            for file in ["a b", "dir/x", "dir/y", "dir/sub/z", "flat/p.t", "flat/q.t", "flat/r.n", "deep/a.t", "deep/s/b.t"] {
                put(&format!("{src}/{file}"), "red text");
            }
            put(&format!("inc/{}.h", task.name), "red text\ninclude inc/x.h");
        }
        for file in ["one", "two.t", "sub/in.t", "bus/in.t"] {
            put(&format!("src/shared/{file}"), "red text");
        }
        put("inc/x.h", "red text");
        put("inc/y.h", "red text");
        if self.kind.git {
            for (path, text) in [("lib.c", "red text"), ("inc/a.h", "red text"), (".gitignore", "*.o\n")] {
                put(&format!("fork/{path}"), text);
            }
        }
        for task in &manifest.tasks {
            sources.put(&format!("src/{}/link", task.name), Node::Link("../shared/one".to_owned()));
            sources.put(&format!("src/{}/flat/l.t", task.name), Node::Link("../../shared/sub".to_owned()));
        }
        sources
    }

    pub fn git(&self, worktree: &str, args: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.current_dir(self.rig.at(worktree).join("fork")).args(args).env_clear().env("PATH", "/usr/bin:/bin");
        git.env("HOME", self.rig.at("home"));
        for (name, value) in [("NAME", "somebody"), ("EMAIL", "somebody@example.org")] {
            git.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        let output = git.output().expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What happens in the repository and changes no file.
    pub fn edit_fork(&mut self, at: usize, random: &mut Random) -> Option<String> {
        if !self.kind.git {
            return None;
        }
        let name = self.trees[at].name.clone();
        if random.chance(50) {
            self.git(&name, &["add", "-A"]);
            return Some("git add".to_owned());
        }
        self.git(&name, &["add", "-A"]);
        self.git(&name, &["commit", "-qm", "more", "--allow-empty"]);
        if random.chance(40) {
            return Some("git commit".to_owned());
        }
        let is_tracked = |path: &str, node: &Node| {
            path.starts_with("fork/") && !path.ends_with(".o") && *node != Node::Dir
        };
        let Branch { is_other, other } = self.branches[at].clone();
        let sources = &mut self.trees[at].sources;
        let of_branch: Vec<(String, Node)> =
            sources.0.iter().filter(|(p, n)| is_tracked(p, n)).map(|(p, n)| (p.clone(), n.clone())).collect();
        if let Some(there) = other {
            sources.0.retain(|path, node| !is_tracked(path, node));
            there.into_iter().for_each(|(path, node)| sources.put(&path, node));
            self.git(&name, &["switch", "-q", if is_other { "main" } else { "other" }]);
        } else {
            self.git(&name, &["switch", "-qc", "other"]);
        }
        self.branches[at] = Branch { is_other: !is_other, other: Some(of_branch) };
        Some("git switch".to_owned())
    }

    fn make_move(&mut self, random: &mut Random, number: &str, log: &mut Vec<String>) -> Result<(), Lie> {
        if random.chance(72) {
            if let Some(said) = self.edit(random) {
                self.score.edits += 1;
                log.push(format!("{number}: {said}"));
            }
            return Ok(());
        }
        let at = usize::from(random.chance(25));
        match random.below(20) {
            0 => self.collect(at, random, log),
            1..4 => {
                let request = self.draw_request(at, random);
                log.push(format!("{number}: plan {} {request:?}", self.trees[at].name));
                self.plan(at, &request, random)
            }
            4..6 => self.build_meddled(at, random, number, log),
            8 => self.build_both(random, number, log),
            6..8 => {
                let request = self.draw_request(at, random);
                let after = Duration::from_micros(500 + random.next() % 40_000);
                let whom = if random.chance(50) { Whom::Alone } else { Whom::Tree };
                let how = How { jobs: 1 + random.below(4), kill: Some((after, whom)) };
                log.push(format!("{number}: build {} {request:?} {how:?}", self.trees[at].name));
                self.build(at, &request, &how, None).map(|_| ())
            }
            _ => {
                let request = self.draw_request(at, random);
                let how = How { jobs: 1 + random.below(4), kill: None };
                log.push(format!("{number}: build {} {request:?} {how:?}", self.trees[at].name));
                self.build(at, &request, &how, None)?;
                if random.chance(30) {
                    log.push(format!("{number}: once more"));
                    let again = Request { force_all: false, forced: Vec::new(), ..request };
                    self.build(at, &again, &how, None)?;
                }
                Ok(())
            }
        }
        .map_err(|lie| format!("{lie}\n{}", self.about(at)))
    }

    /// What helps to understand a lie.
    fn about(&self, at: usize) -> String {
        let manifest = self.rig.disk(&self.trees[at].name).at("tasks.toml");
        let manifest = fs::read_to_string(manifest).unwrap_or_default();
        let [out, err] = self.rig.said(&self.trees[at].name).map(|path| fs::read_to_string(path).unwrap_or_default());
        format!("-- tasks.toml --\n{manifest}-- stdout --\n{out}-- stderr --\n{err}")
    }

    fn draw_request(&self, at: usize, random: &mut Random) -> Request {
        let manifest = &self.trees[at].manifest;
        let names: Vec<String> = manifest.present().map(|ix| manifest.tasks[ix].name.clone()).collect();
        let mut request = Request { keep_going: random.chance(60), ..Request::default() };
        if random.chance(35) {
            request.tasks.extend(random.one(&names).cloned());
        }
        if random.chance(5) {
            request.force_all = true;
        } else if random.chance(7) {
            request.forced.extend(random.one(&names).cloned());
        }
        request
    }

    /// A build, compared in all that it did.
    fn build(&mut self, at: usize, request: &Request, how: &How, unstored: Option<&str>) -> Result<Told, Lie> {
        self.score.builds += 1;
        let steps = self.common.foresee(&self.trees[at], request);
        let told = self.rig.build(&self.trees[at], &self.common, request, how);
        if told.was_killed {
            // It may have come to that.
            let _ = self.look_for_gone(at, &told);
            self.learn_of_kill(at, &steps, &told, how.jobs);
            return Ok(told);
        }
        self.check(at, &steps, &told, unstored)?;
        Ok(told)
    }

    /// What a build did that came to its end.
    fn check(&mut self, at: usize, steps: &[Step], told: &Told, unstored: Option<&str>) -> Result<Vec<Verdict>, Lie> {
        let verdicts = compare(steps, told).map_err(|lie| self.explained(at, steps, lie))?;
        self.compare_with_killed(at, steps, &verdicts)?;
        for (step, verdict) in steps.iter().zip(&verdicts) {
            let is_stored = unstored != Some(&step.name);
            if *verdict == Verdict::Ran && told.stored.contains(&step.name) != is_stored {
                return Err(format!("{} is stored: {}", step.name, !is_stored));
            }
            self.common.learn(&mut self.trees[at], step, *verdict, is_stored);
            self.count(*verdict);
        }
        self.look_for_gone(at, told)?;
        look(&self.rig, &self.trees[at], steps, &verdicts)?;
        if unstored.is_none() {
            look_at_sources(&self.rig, &self.trees[at])?;
        }
        let history = &mut self.history[at];
        history.push((self.trees[at].manifest.clone(), self.trees[at].sources.clone()));
        if history.len() > HISTORY {
            history.remove(0);
        }
        Ok(verdicts)
    }

    /// Two builds at once: what both need is made once.
    fn build_both(&mut self, random: &mut Random, number: &str, log: &mut Vec<String>) -> Result<(), Lie> {
        let request = Request { keep_going: true, ..Request::default() };
        let mut steps: Vec<Vec<Step>> = self.trees.iter().map(|tree| self.common.foresee(tree, &request)).collect();
        let makers = |steps: &[Step]| {
            let runs = steps.iter().filter(|step| step.allowed.contains(&Verdict::Ran));
            runs.map(|step| step.key).collect::<BTreeSet<Key>>()
        };
        let both: BTreeSet<Key> = makers(&steps[0]).intersection(&makers(&steps[1])).copied().collect();
        for step in steps.iter_mut().flatten().filter(|step| both.contains(&step.key)) {
            step.allowed.insert(Verdict::Restored);
        }
        let how = How { jobs: 1 + random.below(4), kill: None };
        log.push(format!("{number}: build in both worktrees at once, {how:?}"));
        self.score.builds += 2;
        let told = self.rig.build_both([&self.trees[0], &self.trees[1]], &self.common, &request, &how);
        let mut ran = BTreeSet::new();
        for at in [0, 1] {
            let verdicts = self.check(at, &steps[at], &told[at], None)?;
            let keys = steps[at].iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Ran);
            for (step, _) in keys {
                if !ran.insert(step.key) {
                    return Err(format!("{} ran in both worktrees at once", step.name));
                }
            }
        }
        Ok(())
    }

    /// The layer of a task that was taken out of the manifest is taken out of the prefix.
    fn look_for_gone(&mut self, at: usize, told: &Told) -> Result<(), Lie> {
        let tree = &mut self.trees[at];
        let disk = self.rig.disk(&tree.name);
        for task in tree.manifest.tasks.iter().filter(|task| task.is_removed && task.sysroot) {
            for path in [format!("share/{}.txt", task.name), format!("lib/{}", task.name)] {
                if disk.scan(&format!("{PREFIX}/{path}"), &[]).0.is_empty() {
                    tree.prefix.remove(&path);
                } else if !told.said.is_empty() && !tree.has_strangers && tree.prefix.0.contains_key(&path) {
                    return Err(format!("{path} of {}, which is gone, lies in the prefix", task.name));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => self.score.fresh += 1,
            Verdict::Restored => self.score.restored += 1,
            Verdict::Ran => self.score.ran += 1,
            Verdict::Failed | Verdict::Refused => self.score.failed += 1,
            Verdict::Skipped => {}
        }
    }

    /// With what differs between the record that we know and the key as it is now.
    fn explained(&self, at: usize, steps: &[Step], lie: Lie) -> Lie {
        let name = lie.split(' ').next().unwrap_or_default();
        let (Some(step), record) = (steps.iter().find(|s| s.name == name), self.trees[at].records.get(name)) else {
            return lie;
        };
        let Some(record) = record else { return format!("{lie}\n  it has no record; its key is {:#?}", step.lines) };
        let old: BTreeSet<&String> = record.lines.iter().collect();
        let new: BTreeSet<&String> = step.lines.iter().collect();
        format!(
            "{lie}\n  in its key since its record: {:#?}\n  and no more: {:#?}",
            new.difference(&old).collect::<Vec<_>>(),
            old.difference(&new).collect::<Vec<_>>()
        )
    }

    fn learn_of_kill(&mut self, at: usize, steps: &[Step], told: &Told, jobs: usize) {
        self.score.kills += 1;
        let mut begun = BTreeSet::new();
        for step in steps.iter().filter(|step| !step.surely(Verdict::Fresh)) {
            let tree = &mut self.trees[at];
            let old = tree.records.remove(&step.name).map(|record| record.key);
            let mut doubt = tree.doubts.remove(&step.name).unwrap_or_else(|| Doubt::of(old));
            doubt.by_proof = false;
            let has_ended = told.ended.contains(&step.name);
            if has_ended || step.allowed.contains(&Verdict::Restored) || step.allowed.contains(&Verdict::Fresh) {
                doubt.keys.insert(step.key);
            }
            if has_ended {
                self.common.keep(step, false);
            }
            if told.began.contains(&step.name) {
                begun.insert(step.key);
            }
            tree.doubts.insert(step.name.clone(), doubt);
        }
        self.killed[at] = Some((begun, jobs));
    }

    /// A kill costs no more than the steps that were running.
    fn compare_with_killed(&mut self, at: usize, steps: &[Step], verdicts: &[Verdict]) -> Result<(), Lie> {
        let Some((begun, jobs)) = self.killed[at].take() else { return Ok(()) };
        let again = steps.iter().zip(verdicts).filter(|(step, v)| **v == Verdict::Ran && begun.contains(&step.key));
        let again: Vec<&String> = again.map(|(step, _)| &step.name).collect();
        self.score.repeated += again.len();
        if again.len() > jobs {
            return Err(format!("{again:?} ran again after a kill, and {jobs} could be running at once"));
        }
        Ok(())
    }

    /// Somebody edits an input while its step runs.
    fn build_meddled(&mut self, at: usize, random: &mut Random, number: &str, log: &mut Vec<String>) -> Result<(), Lie> {
        let request = Request::default();
        let steps = self.common.foresee(&self.trees[at], &request);
        let manifest = &self.trees[at].manifest;
        let private = |step: &Step| {
            let path = format!("src/{}/a b", step.name);
            let is_file = matches!(self.trees[at].sources.0.get(&path), Some(Node::File { .. }));
            let is_input = !step.is_fixed && manifest.tasks[step.task].inputs.contains(&Word::See(path.clone()));
            (step.surely(Verdict::Ran) && is_file && is_input).then_some((step.name.clone(), path))
        };
        let may: Vec<(String, String)> = steps.iter().filter_map(private).collect();
        let Some((name, path)) = random.one(&may).cloned() else { return Ok(()) };
        let text = format!("blue text {}", random.below(100));
        log.push(format!("{number}: build {}, and {path} is edited meanwhile", self.trees[at].name));
        fs::write(self.rig.at("meddle").join(&name), format!("{path}\n{text}")).expect("it is written");
        let how = How { jobs: 1 + random.below(4), kill: None };
        self.build(at, &request, &how, Some(&name))?;
        let Some(Node::File { mode, .. }) = self.trees[at].sources.0.get(&path).cloned() else { return Ok(()) };
        self.trees[at].sources.put(&path, Node::File { bytes: text.into_bytes(), mode });
        Ok(())
    }

    /// `plan` says what a build then does.
    fn plan(&mut self, at: usize, request: &Request, random: &mut Random) -> Result<(), Lie> {
        let steps = self.common.foresee(&self.trees[at], request);
        let fails = |step: &Step| step.allowed.iter().any(|v| !matches!(v, Verdict::Fresh | Verdict::Restored | Verdict::Ran));
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
                Some((words.next()?.strip_suffix("@host")?, verdict))
            })
            .collect();
        for step in &steps {
            let word = *said.get(step.name.as_str()).ok_or_else(|| format!("plan is silent about {}:\n{out}", step.name))?;
            let fits = match word {
                "fresh" => step.allowed.contains(&Verdict::Fresh),
                "cached" => step.allowed.contains(&Verdict::Restored),
                "stale" => step.allowed.contains(&Verdict::Ran),
                "unknown" => {
                    let tasks = &self.trees[at].manifest.tasks;
                    let needs = self.trees[at].manifest.needs(step.task);
                    needs.iter().any(|need| said.get(tasks[*need].name.as_str()) != Some(&"fresh"))
                }
                _ => false,
            };
            if !fits {
                return Err(format!("{} is {word} to plan, and should be {:?}:\n{out}{err}", step.name, step.allowed));
            }
        }
        match random.one(&steps) {
            // What another request has planned may be forced there.
            Some(step) if !request.force_all && random.chance(30) => self.why(at, &step.name, said[step.name.as_str()]),
            _ => Ok(()),
        }
    }

    /// `why` says the same as `plan`.
    fn why(&self, at: usize, name: &str, planned: &str) -> Result<(), Lie> {
        let (code, out, err) = self.rig.ask(&self.trees[at], &self.common, &format!("why {name}"));
        let headline = match planned {
            "fresh" => "is fresh",
            "cached" => "would be restored now",
            "stale" => "would run now",
            _ => "can't be judged yet",
        };
        if code == Some(0) && out.starts_with(&format!("{name}@host {headline}")) {
            return Ok(());
        }
        Err(format!("{name} is {planned} to plan, and why says: {out}{err}"))
    }

    fn collect(&mut self, at: usize, random: &mut Random, log: &mut Vec<String>) -> Result<(), Lie> {
        let words = ["cache gc", "cache verify", "cache clean --yes", "clean", "cache verify"][random.below(5)];
        log.push(format!("{words} in {}", self.trees[at].name));
        if words == "clean" && selected(&self.trees[at].manifest, &Request::default()).is_empty() {
            return Ok(());
        }
        let (code, out, err) = self.rig.ask(&self.trees[at], &self.common, words);
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
