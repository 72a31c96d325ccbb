//! Who uses the store: those that build, one that collects, one that verifies.

use std::fmt;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::random::Random;
use super::world::{MOST_JOBS, Worktree, World};

#[derive(Default)]
pub struct Score {
    builds: AtomicUsize,
    kills: AtomicUsize,
    cleans: AtomicUsize,
    paths: AtomicUsize,
    collections: AtomicUsize,
    verifications: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Score {
    fn count(&self, of: fn(&Self) -> &AtomicUsize) {
        of(self).fetch_add(1, Ordering::SeqCst);
    }

    fn say(&self, wrong: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let (builds, kills, cleans) = (number(&self.builds), number(&self.kills), number(&self.cleans));
        let (paths, gcs, verifies) = (number(&self.paths), number(&self.collections), number(&self.verifications));
        write!(
            f,
            "{builds} builds, {kills} killed, {paths} paths, {cleans} cleans, {gcs} collections, {verifies} verifications"
        )
    }
}

/// Builds, edits, cleans and asks for paths, in a worktree that another may use too.
pub fn build(world: &World, worktree: &Worktree, score: &Score, end: Instant, mut random: Random) {
    while Instant::now() < end && score.wrong().is_empty() {
        match random.below(16) {
            0 => clean(world, worktree, score),
            1 => ask(world, worktree, score, &mut random),
            2..8 => worktree.edit(&mut random),
            _ => build_once(world, worktree, score, &mut random),
        }
    }
}

fn build_once(world: &World, worktree: &Worktree, score: &Score, random: &mut Random) {
    let state = worktree.state.read().unwrap_or_else(PoisonError::into_inner);
    let cleaned = worktree.cleaned.load(Ordering::SeqCst);
    let mut command = world.program(&worktree.dir);
    command.args(["build", &format!("-j{}", 1 + random.below(MOST_JOBS))]);
    if random.one_in(4) {
        // It collects at its end.
        command.env("BCACHE_LIMIT", "100kB");
    }
    if random.one_in(12) {
        return kill(command.spawn().unwrap(), score, random);
    }
    if ends_well(&mut command, score).is_some() {
        score.count(|score| &score.builds);
        let wrong = worktree.wrong(&state);
        let is_alone = cleaned.is_multiple_of(2) && cleaned == worktree.cleaned.load(Ordering::SeqCst);
        wrong.filter(|_| is_alone).into_iter().for_each(|wrong| score.say(wrong));
    }
}

/// At any moment of a build, as far as it has come by then.
fn kill(mut child: Child, score: &Score, random: &mut Random) {
    let within = [100, 400, 1500][random.below(3)];
    std::thread::sleep(Duration::from_millis(random.below(within) as u64));
    if child.try_wait().unwrap().is_none() {
        child.kill().unwrap();
        score.count(|score| &score.kills);
    }
    child.wait().unwrap();
}

/// It may be refused, since another builds there.
fn clean(world: &World, worktree: &Worktree, score: &Score) {
    let _state = worktree.state.read().unwrap_or_else(PoisonError::into_inner);
    worktree.begin_to_clean();
    let output = world.program(&worktree.dir).arg("clean").output().unwrap();
    if output.status.success() {
        score.count(|score| &score.cleans);
    } else if output.stderr != b"error: a build is running in this worktree\n" {
        score.say(format!("clean: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    worktree.end_to_clean();
}

fn ask(world: &World, worktree: &Worktree, score: &Score, random: &mut Random) {
    let _state = worktree.state.read().unwrap_or_else(PoisonError::into_inner);
    let name = ["big", "found", "a"][random.below(3)];
    let mut command = world.program(&worktree.dir);
    command.args(["-q", "path", name]);
    let Some(output) = ends_well(&mut command, score) else { return };
    score.count(|score| &score.paths);
    let expected = format!("{}\n", worktree.dir.join("out").join(name).display());
    if output.stdout != expected.as_bytes() {
        score.say(format!("`path {name}` says {}", String::from_utf8_lossy(&output.stdout)));
    }
}

pub fn collect(world: &World, score: &Score, end: Instant, mut random: Random) {
    while Instant::now() < end && score.wrong().is_empty() {
        let limit = ["1", "20kB", "200kB"][random.below(3)];
        let mut command = world.program(world.dir());
        command.args(["cache", "gc"]).env("BCACHE_LIMIT", limit);
        if ends_well(&mut command, score).is_some() {
            score.count(|score| &score.collections);
        }
        std::thread::sleep(Duration::from_millis(random.below(100) as u64));
    }
}

pub fn verify(world: &World, score: &Score, end: Instant, mut random: Random) {
    while Instant::now() < end && score.wrong().is_empty() {
        let mut command = world.program(world.dir());
        command.args(["cache", ["verify", "verify", "stats", "list"][random.below(4)]]);
        if ends_well(&mut command, score).is_some() {
            score.count(|score| &score.verifications);
        }
        std::thread::sleep(Duration::from_millis(random.below(50) as u64));
    }
}

/// At the end: a build of each worktree leaves what is right, another one finds all of it, and the store is whole.
pub fn settle(world: &World, score: &Score) {
    for worktree in &world.worktrees {
        for is_again in [false, true] {
            let output = ends_well(world.program(&worktree.dir).arg("build"), score);
            let said = output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stderr).into_owned());
            if is_again && !said.ends_with(" 0 ran\n") {
                score.say(format!("not all was fresh in {}: {said}", worktree.dir.display()));
            }
        }
        let state = worktree.state.read().unwrap_or_else(PoisonError::into_inner);
        worktree.wrong(&state).into_iter().for_each(|wrong| score.say(wrong));
    }
    ends_well(world.program(world.dir()).args(["cache", "verify"]), score);
}

/// Runs it to its end. Whoever was not killed ends well.
fn ends_well(command: &mut Command, score: &Score) -> Option<Output> {
    let output = command.output().unwrap();
    if !output.status.success() {
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        score.say(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said)));
    }
    output.status.success().then_some(output)
}
