//! The program beside the oracle: builds, what they said, what truly ran, and what lies there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::oracle::{Common, Request, Step, Verdict, Worktree, has_all, region};
use crate::random::Random;
use crate::step::BUILD;
use crate::tree::{Disk, Tree, difference};
use crate::world::NEIGHBOURS;

/// The program that is tried.
pub static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// A difference between what is and what should be.
pub type Lie = String;

/// The directory of one world: worktrees, store, programs, journal.
pub struct Rig {
    dir: tempfile::TempDir,
    number: u64,
}

/// How a build is started.
#[derive(Clone, Debug, Default)]
pub struct How {
    pub jobs: usize,
    pub kill: Option<Kill>,
    /// Seconds by which its clock is ahead of the one that stamps files.
    pub ahead: i64,
}

impl How {
    /// A build that comes to its end. Clocks are put forward and back, by people, by batteries that run out, and by time servers.
    pub fn draw(random: &mut Random) -> Self {
        let jobs = 1 + random.below(4);
        let ahead = if random.chance(15) { AHEAD[random.below(AHEAD.len())] } else { 0 };
        Self { jobs, kill: None, ahead }
    }
}

/// A tick, an hour, ten years; and back to before any file.
const AHEAD: [i64; 7] = [-1, 1, -3600, 3600, -315_360_000, 315_360_000, -1_700_000_000];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// After this long; with all that it started, or alone.
    After(Duration, Whom),
    /// When it is about to change a file for the nth time.
    AtChange(u32),
}

/// The library that counts changes of files and shifts the clock. `None` where there is no C compiler.
pub fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = SHIM.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("model-shim-{}.so", std::process::id()));
        let source = library.with_extension("c");
        fs::write(&source, include_str!("shim.c")).ok()?;
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        fs::remove_file(&source).ok()?;
        made.is_ok_and(|status| status.success()).then_some(library)
    });
    made.as_deref()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    Alone,
    Tree,
}

/// What a build said and did.
#[derive(Debug, Default)]
pub struct Told {
    pub code: Option<i32>,
    pub was_killed: bool,
    pub said: BTreeMap<String, Verdict>,
    /// Steps of which the result was stored.
    pub stored: BTreeSet<String>,
    pub counts: BTreeMap<String, u64>,
    pub began: Vec<String>,
    pub ended: Vec<String>,
    pub out: String,
    pub err: String,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bcache-model-").tempdir().expect("a directory");
        let rig = Self { dir, number: 0 };
        for name in ["home", "store", "bin0", "bin1", "tmp", "meddle"] {
            fs::create_dir(rig.at(name)).expect("a directory");
        }
        let me = std::env::current_exe().expect("our own path");
        symlink(me, rig.at("bin1/mk")).expect("a link");
        // What was read of the machine's packages in any world is as good for this one.
        let host = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host");
        fs::create_dir_all(&host).expect("a directory");
        symlink(host, rig.at("store/host")).expect("a link");
        rig
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn path(&self) -> String {
        self.dir.path().to_str().expect("a path in UTF-8").to_owned()
    }

    /// Each worktree has neighbours of its own.
    pub fn worktree(&self, name: &str) -> PathBuf {
        self.at(&format!("around-{name}")).join(name)
    }

    pub fn disk(&self, worktree: &str) -> Disk {
        Disk(self.worktree(worktree))
    }

    pub fn command(&self, tree: &Worktree, common: &Common, words: &[String]) -> Command {
        let mut command = Command::new(PROGRAM.get().expect("main has set it"));
        let path = format!("{0}/bin0:{0}/bin1:/usr/bin:/bin", self.path());
        command.args(words).current_dir(&tree.path).env_clear().envs(&common.env).env("PATH", path);
        command.env("HOME", self.at("home")).env("BCACHE_HOME", self.at("store")).env("TMPDIR", self.at("tmp"));
        command.env("TERM", "dumb").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        command
    }

    /// Runs a command that builds nothing.
    pub fn ask(&self, tree: &Worktree, common: &Common, words: &str) -> (Option<i32>, String, String) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let output = self.command(tree, common, &words).output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    pub fn build(&mut self, tree: &Worktree, common: &Common, request: &Request, how: &How) -> Told {
        self.begin_journal();
        let child = self.start(tree, common, request, how);
        self.finish(tree, child, how)
    }

    /// Two builds at the same time, in two worktrees on one store.
    pub fn build_both(&mut self, trees: [&Worktree; 2], common: &Common, request: &Request, how: &How) -> [Told; 2] {
        self.begin_journal();
        let children = trees.map(|tree| self.start(tree, common, request, how));
        let [one, other] = children;
        [self.finish(trees[0], one, how), self.finish(trees[1], other, how)]
    }

    /// What the next build will be called.
    pub fn next_build(&self) -> u64 {
        self.number + 1
    }

    fn begin_journal(&mut self) {
        self.number += 1;
        fs::write(self.at("journal"), "").expect("it is written");
    }

    /// Where a build in a worktree says what it does.
    pub fn said(&self, worktree: &str) -> [PathBuf; 2] {
        [self.at(&format!("{worktree}.out")), self.at(&format!("{worktree}.err"))]
    }

    fn start(&self, tree: &Worktree, common: &Common, request: &Request, how: &How) -> Child {
        let mut words = vec!["build".to_owned(), "--message-format=json".to_owned(), format!("-j{}", how.jobs)];
        words.extend(request.keep_going.then(|| "-k".to_owned()));
        words.extend(request.force_all.then(|| "--force=all".to_owned()));
        words.extend(request.tasks.iter().cloned());
        let mut command = self.command(tree, common, &words);
        if !request.forced.is_empty() {
            command.env("BCACHE_REBUILD", request.forced.join(","));
        }
        command.env(BUILD, self.number.to_string());
        if let Some(shim) = shim() {
            command.env("LD_PRELOAD", shim).env("MODEL_CLOCK", how.ahead.to_string());
            if let Some(Kill::AtChange(number)) = how.kill {
                command.env("MODEL_KILL_AT", number.to_string());
            }
        }
        let [out, err] = self.said(&tree.name).map(|path| fs::File::create(path).expect("a file"));
        command.stdout(out).stderr(err).spawn().expect("the program starts")
    }

    fn finish(&self, tree: &Worktree, mut child: Child, how: &How) -> Told {
        let status = match how.kill {
            None | Some(Kill::AtChange(_)) => child.wait(),
            Some(Kill::After(after, whom)) => kill_after(&mut child, after, whom),
        }
        .expect("it ends");
        let [out, err] = self.said(&tree.name).map(|path| fs::read(path).expect("it is there"));
        let mut told = Told { code: status.code(), was_killed: status.signal() == Some(9), ..Told::default() };
        told.out = String::from_utf8_lossy(&out).into_owned();
        told.err = String::from_utf8_lossy(&err).into_owned();
        self.read_journal(&tree.name, &mut told);
        read_events(&mut told);
        told
    }

    fn read_journal(&self, worktree: &str, told: &mut Told) {
        let number = self.number.to_string();
        for line in fs::read_to_string(self.at("journal")).expect("the journal").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            // An orphan of a killed build says that build's number.
            if let [what, name, place, build] = words[..]
                && place == worktree
                && build == number
            {
                let list = if what == "begin" { &mut told.began } else { &mut told.ended };
                list.push(name.to_owned());
            }
        }
    }
}

fn kill_after(child: &mut Child, after: Duration, whom: Whom) -> std::io::Result<std::process::ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < after {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut doomed = vec![child.id()];
    if whom == Whom::Tree {
        doomed.extend(descendants(child.id()));
    }
    for pid in doomed {
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
        // It may be gone.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    child.wait()
}

/// All that a process started, directly or not, and that still knows it.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            open.extend(&children);
            found.extend(children);
        }
    }
    found
}

fn read_events(told: &mut Told) {
    for line in told.out.lines() {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let name = event["step"]["task"].as_str().unwrap_or_default().to_owned();
        let verdict = match event["event"].as_str().unwrap_or_default() {
            "fresh" => Verdict::Fresh,
            "restored" => Verdict::Restored,
            "ran" => Verdict::Ran,
            "failed" => Verdict::Failed,
            "skipped" => Verdict::Skipped,
            "finished" => {
                let counts = event["counts"].as_object().into_iter().flatten();
                told.counts.extend(counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))));
                continue;
            }
            _ => continue,
        };
        if event["stored"] == true {
            told.stored.insert(name.clone());
        }
        told.said.insert(name, verdict);
    }
}

/// Compares what a build did with what it may do; gives what happened to each step.
pub fn compare(steps: &[Step], told: &Told) -> Result<Vec<Verdict>, Lie> {
    if told.counts.is_empty() {
        return Err(format!("the build did not end as builds do: {:?}", told.code));
    }
    let mut verdicts = Vec::new();
    for step in steps {
        let began = told.began.iter().filter(|name| **name == step.name).count();
        let verdict = match told.said.get(&step.name) {
            // Nothing is said of a step that is proven to be fresh.
            None => Verdict::Fresh,
            Some(Verdict::Failed) if began == 0 => Verdict::Refused,
            Some(said) => *said,
        };
        let times = usize::from(matches!(verdict, Verdict::Ran | Verdict::Failed));
        if began != times {
            return Err(format!("{} is said to be {verdict:?}, and its command began {began} times", step.name));
        }
        let is_proven = step.is_proven && verdict == Verdict::Fresh && told.said.is_empty();
        if !step.allowed.contains(&verdict) && !is_proven {
            return Err(format!("{} is {verdict:?} and should be {:?}", step.name, step.allowed));
        }
        verdicts.push(verdict);
    }
    compare_counts(steps, &verdicts, told)?;
    Ok(verdicts)
}

fn compare_counts(steps: &[Step], verdicts: &[Verdict], told: &Told) -> Result<(), Lie> {
    if let Some(other) = told.began.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        return Err(format!("{other} ran, and nobody asked for it"));
    }
    let count = |of: &[Verdict]| verdicts.iter().filter(|verdict| of.contains(verdict)).count() as u64;
    let should = [
        ("fresh", count(&[Verdict::Fresh])),
        ("restored", count(&[Verdict::Restored])),
        ("ran", count(&[Verdict::Ran])),
        ("failed", count(&[Verdict::Failed, Verdict::Refused])),
        ("skipped", count(&[Verdict::Skipped])),
    ];
    for (word, count) in should {
        let said = told.counts.get(word).copied().unwrap_or_default();
        if said != count {
            return Err(format!("it says {said} {word}, and {count} are"));
        }
    }
    let code = if count(&[Verdict::Failed, Verdict::Refused]) > 0 { 1 } else { 0 };
    if told.code == Some(code) { Ok(()) } else { Err(format!("it ended with {:?} and not with {code}", told.code)) }
}

/// Compares what lies in a worktree with what a clean build makes.
pub fn look(rig: &Rig, tree: &Worktree, steps: &[Step], verdicts: &[Verdict]) -> Result<(), Lie> {
    let disk = rig.disk(&tree.name);
    let outputs = disk.scan("out", &[]);
    for (step, verdict) in steps.iter().zip(verdicts) {
        if !matches!(verdict, Verdict::Fresh | Verdict::Restored | Verdict::Ran) {
            continue;
        }
        let is = region(&outputs, tree.manifest.tasks[step.task].declared_outs());
        if let Some(difference) = difference(&is, &step.made.outputs) {
            return Err(format!("{} is {verdict:?}: {difference}", step.name));
        }
        if let Some(layer) = &step.made.layer {
            let mut is = Tree::default();
            for path in [format!("share/{}.txt", step.name), format!("lib/{}", step.name)] {
                for (path, node) in disk.scan(&format!("prefix/{path}"), &[]).0 {
                    path.strip_prefix("prefix/").into_iter().for_each(|path| is.put(path, node.clone()));
                }
            }
            if tree.has_strangers && has_all(&is, layer) {
                continue;
            }
            if let Some(difference) = difference(&is, layer) {
                return Err(format!("the layer of {}, which is {verdict:?}: {difference}", step.name));
            }
        }
    }
    Ok(())
}

/// Nobody but people changes sources.
pub fn look_at_sources(rig: &Rig, tree: &Worktree) -> Result<(), Lie> {
    let disk = rig.disk(&tree.name);
    let mut is = Tree::default();
    for top in ["src", "inc", "fork"].iter().chain(&NEIGHBOURS) {
        is.add(&disk.scan(top, &[".git"]));
    }
    let without_dirs = |tree: &Tree| {
        Tree(
            tree.0
                .iter()
                .filter(|(_, node)| **node != crate::tree::Node::Dir)
                .map(|(p, n)| (p.clone(), n.clone()))
                .collect(),
        )
    };
    match difference(&without_dirs(&is), &without_dirs(&tree.sources)) {
        None => Ok(()),
        Some(difference) => Err(format!("a source was changed: {difference}")),
    }
}
