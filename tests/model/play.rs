//! One world, played: a seed is a list of moves, each with a seed of its own. So a move can be left out, and the others
//! stay what they were, as far as that is possible.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::fork::Branch;
use crate::oracle::{Common, Key, Request, Step, Verdict, Worktree, ended_with};
use crate::random::Random;
use crate::rig::{How, Kill, Lie, Rig, Told, Whom, compare, look, look_at_sources};
use crate::tree::{Node, Tree};
use crate::world::{Kind, Manifest, NEIGHBOURS, PREFIX, TOOLS};

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
    pub branches: Vec<Branch>,
    /// Of the last killed build in each worktree: keys of steps that had begun, and how many could at once.
    pub killed: Vec<Option<(BTreeSet<Key>, usize)>>,
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

/// What was done, each line with the number of its move.
#[derive(Default)]
pub struct Log {
    number: usize,
    lines: Vec<String>,
}

impl Log {
    pub fn say(&mut self, what: impl std::fmt::Display) {
        self.lines.push(format!("{}: {what}", self.number));
    }
}

/// Plays the moves of a seed, but for those that are left out, until `edits` were made or something is wrong.
pub fn play(seed: u64, edits: usize, moves: &dyn Fn(usize) -> bool) -> Played {
    let mut log = Log::default();
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
        log.number = number;
        if let Err(lie) = play.make_move(&mut random, &mut log) {
            return Played { score: play.score, log: log.lines, lie: Some(lie), moves: made };
        }
    }
    let lie = if seed.is_multiple_of(4) { play.compare_with_clean().err() } else { None };
    Played { score: play.score, log: log.lines, lie, moves: made }
}

/// Most kills come between two changes of files, since timing alone seldom finds the narrow places.
fn draw_kill(random: &mut Random) -> Kill {
    if random.chance(70) {
        return Kill::AtChange(random.below(80) as u32);
    }
    let whom = if random.chance(50) { Whom::Alone } else { Whom::Tree };
    Kill::After(Duration::from_micros(500 + random.next() % 40_000), whom)
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
            fs::create_dir_all(disk.at("")).expect("a directory");
            sources.0.iter().for_each(|(path, node)| disk.put(path, node).expect("it is written"));
            if play.kind.git {
                play.git(name, &["init", "-q", "-b", "main"]);
                play.git(name, &["add", "-A"]);
                play.git(name, &["commit", "-qm", "first"]);
            }
            play.trees.push(Worktree {
                name: name.to_owned(),
                path: play.rig.worktree(name).to_str().expect("a path in UTF-8").to_owned(),
                manifest: manifest.clone(),
                sources: sources.clone(),
                outputs: Tree::default(),
                prefix: Tree::default(),
                records: BTreeMap::new(),
                doubts: BTreeMap::new(),
                undermined: None,
                has_strangers: false,
                proofs: BTreeMap::new(),
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
            for file in
                ["a b", "dir/x", "dir/y", "dir/sub/z", "flat/p.t", "flat/q.t", "flat/r.n", "deep/a.t", "deep/s/b.t"]
            {
                put(&format!("{src}/{file}"), "red text");
            }
            put(&format!("inc/{}.h", task.name), "red text\ninclude inc/x.h");
        }
        for file in ["one", "two.t", "sub/in.t", "bus/in.t"] {
            put(&format!("src/shared/{file}"), "red text");
        }
        put("inc/x.h", "red text\ninclude inc/absent.h\ninclude inc/sub/../y.h\ninclude ../near/z.h");
        put("inc/y.h", "red text\ninclude inc/way/z.h");
        for (file, text) in [("near/z.h", "red text"), ("dep-a/z.h", "tan text"), ("dep-b/z.h", "sky text")] {
            put(&format!("../{file}"), text);
        }
        for (file, text) in [("a/z.h", "red text"), ("b/z.h", "tan text"), ("y.h", "sky text")] {
            put(&format!("inc/sys/{file}"), text);
        }
        if self.kind.git {
            for (path, text) in [("lib.c", "red text"), ("inc/a.h", "red text"), (".gitignore", "*.o\n")] {
                put(&format!("fork/{path}"), text);
            }
        }
        sources.put("inc/sub", Node::Dir);
        sources.put("inc/sys/now", Node::Link("a".to_owned()));
        sources.put("inc/way", Node::Link("sys/now".to_owned()));
        sources.put("../dep", Node::Link("dep-a".to_owned()));
        for task in &manifest.tasks {
            sources.put(&format!("src/{}/link", task.name), Node::Link("../shared/one".to_owned()));
            sources.put(&format!("src/{}/flat/l.t", task.name), Node::Link("../../shared/sub".to_owned()));
        }
        sources
    }

    fn make_move(&mut self, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        if random.chance(72) {
            if let Some(said) = self.edit(random) {
                self.score.edits += 1;
                log.say(said);
            }
            return Ok(());
        }
        let at = usize::from(random.chance(25));
        match random.below(20) {
            0 => self.collect(at, random, log),
            1..4 => {
                let request = self.draw_request(at, random);
                log.say(format_args!("plan {} {request:?}", self.trees[at].name));
                self.plan(at, &request, random)
            }
            4..6 => self.build_meddled(at, random, log),
            9 => self.build_both(random, log),
            10 => self.build_hammered(at, random, log),
            11 => self.build_undermined(at, random, log),
            12 => self.build_undone(at, random, log),
            6..9 => {
                let request = self.draw_request(at, random);
                let how = How { kill: Some(draw_kill(random)), ..How::draw(random) };
                log.say(format_args!("build {} {request:?} {how:?}", self.trees[at].name));
                self.build(at, &request, &how, None)?;
                if random.chance(20) { self.verify(at) } else { Ok(()) }
            }
            _ => {
                let request = self.draw_request(at, random);
                let how = How::draw(random);
                log.say(format_args!("build {} {request:?} {how:?}", self.trees[at].name));
                self.build(at, &request, &how, None)?;
                if random.chance(30) {
                    log.say("once more");
                    let again = Request { force_all: false, forced: Vec::new(), ..request };
                    self.build(at, &again, &how, None)?;
                }
                if random.chance(30) { self.path(at, random, log) } else { Ok(()) }
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

    /// A clean build, in a directory of its own with an empty store, makes what the oracle says.
    fn compare_with_clean(&mut self) -> Result<(), Lie> {
        let from = &self.trees[0];
        let to = self.rig.worktree("clean");
        let mut tree = Worktree {
            name: "clean".to_owned(),
            path: to.to_str().expect("a path in UTF-8").to_owned(),
            outputs: Tree::default(),
            prefix: Tree::default(),
            records: BTreeMap::new(),
            doubts: BTreeMap::new(),
            proofs: BTreeMap::new(),
            ..from.clone()
        };
        tree.has_strangers = false;
        fs::create_dir_all(&to).expect("a directory");
        for name in ["src", "inc", "fork", "tasks.toml"].iter().chain(&NEIGHBOURS) {
            let path = self.rig.worktree(&from.name).join(name);
            if fs::symlink_metadata(&path).is_ok() {
                let copied = std::process::Command::new("cp").arg("-a").arg(&path).arg(to.join(name)).status();
                assert!(copied.expect("cp starts").success(), "{} is copied", path.display());
            }
        }
        self.common.store.clear();
        self.common.path_sets.clear();
        self.common.lost = 0;
        fs::remove_dir_all(self.rig.at("store/v1")).ok();
        self.trees.push(tree);
        self.history.push(Vec::new());
        self.killed.push(None);
        let request = Request { keep_going: true, ..Request::default() };
        let how = How { jobs: 2, ..How::default() };
        self.build(2, &request, &how, None)
            .map(|_| ())
            .map_err(|lie| format!("a clean build: {lie}\n{}", self.about(2)))
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
    pub fn build(&mut self, at: usize, request: &Request, how: &How, unstored: Option<&str>) -> Result<Told, Lie> {
        self.score.builds += 1;
        let steps = self.common.foresee(&self.trees[at], request);
        self.common.remember_names(&steps);
        let told = self.rig.build(&self.trees[at], &self.common, request, how);
        if told.was_killed {
            // It may have come to that.
            let _ = self.look_for_gone(at, &told);
            self.learn_of_kill(at, &steps, &told, how.jobs);
            return Ok(told);
        }
        self.check(at, request, &steps, &told, unstored)?;
        Ok(told)
    }

    /// What a build did that came to its end.
    pub fn check(
        &mut self,
        at: usize,
        request: &Request,
        steps: &[Step],
        told: &Told,
        unstored: Option<&str>,
    ) -> Result<Vec<Verdict>, Lie> {
        let verdicts = compare(steps, told).map_err(|lie| self.explained(at, steps, lie) + &about(told, steps))?;
        let is_doubtful = !self.trees[at].doubts.is_empty();
        self.compare_with_killed(at, request, steps, &verdicts)?;
        for (step, verdict) in steps.iter().zip(&verdicts) {
            let is_stored = unstored != Some(&step.name);
            if *verdict == Verdict::Ran && told.stored.contains(&step.name) != is_stored {
                return Err(format!("{} is stored: {}", step.name, !is_stored));
            }
            // Of what is proven to be fresh nothing is said.
            let step = Step { is_proven: step.is_proven || told.said.is_empty(), ..step.clone() };
            self.common.learn(&mut self.trees[at], &step, *verdict, is_stored);
            self.count(*verdict);
        }
        self.look_for_gone(at, told)?;
        look(&self.rig, &self.trees[at], steps, &verdicts)?;
        if is_doubtful {
            // What the record of before had made, and this step does not, is gone by now: nobody knows which it was.
            self.trees[at].outputs = self.rig.disk(&self.trees[at].name).scan("out", &[]);
        }
        for (step, _) in steps.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Ran) {
            // It lies there as well as if it were declared, and may be so again.
            let tree = &mut self.trees[at];
            let hidden: Vec<String> = tree.manifest.tasks[step.task].hidden_outs().map(str::to_owned).collect();
            for path in hidden {
                tree.outputs.remove(&path);
                tree.outputs.add(&self.rig.disk(&tree.name).scan(&path, &[]));
            }
        }
        if unstored.is_none() {
            look_at_sources(&self.rig, &self.trees[at])?;
        }
        if unstored.is_none() && verdicts.iter().all(|v| matches!(v, Verdict::Fresh | Verdict::Restored | Verdict::Ran))
        {
            self.learn_proof(at, request, steps);
        }
        let history = &mut self.history[at];
        history.push((self.trees[at].manifest.clone(), self.trees[at].sources.clone()));
        if history.len() > HISTORY {
            history.remove(0);
        }
        Ok(verdicts)
    }

    pub fn learn_proof(&mut self, at: usize, request: &Request, steps: &[Step]) {
        let proofs = self.trees[at].proofs.entry(request.tasks.clone()).or_default();
        proofs.insert(ended_with(steps));
    }

    /// The layer of a task that was taken out of the manifest is taken out of the prefix.
    fn look_for_gone(&mut self, at: usize, told: &Told) -> Result<(), Lie> {
        let tree = &mut self.trees[at];
        let disk = self.rig.disk(&tree.name);
        let has_prefix = tree.manifest.present().any(|ix| tree.manifest.tasks[ix].sysroot);
        for task in tree.manifest.tasks.iter().filter(|task| task.is_removed && task.sysroot) {
            for path in [format!("share/{}.txt", task.name), format!("lib/{}", task.name)] {
                if disk.scan(&format!("{PREFIX}/{path}"), &[]).0.is_empty() {
                    tree.prefix.remove(&path);
                } else if has_prefix
                    && !told.said.is_empty()
                    && !tree.has_strangers
                    && tree.prefix.0.contains_key(&path)
                {
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
}

/// What the program said of the steps of a request.
fn about(told: &Told, steps: &[Step]) -> String {
    let is_one = |line: &&str| steps.iter().any(|step| line.contains(&format!(r#""task":"{}""#, step.name)));
    let lines: Vec<&str> = told.out.lines().filter(is_one).collect();
    format!("\n  it said:\n    {}", lines.join("\n    "))
}
