//! `kill -9` at random moments and random system calls of random builds, compared with what the inputs say.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use super::supervisor::{Answer, Who, supervise};
use super::{litter_of_state, scenarios};
use crate::random::Random;
use crate::sandbox::Sandbox;

const STEPS: [&str; 4] = ["gen", "lib", "app", "found"];
/// Calls of a cold build that change files, but for those that make covers.
const CALLS: usize = 380;
/// A build takes about so long.
const MILLIS: usize = 300;

/// So many kills in one workspace.
pub fn kill(mut random: Random, count: usize) {
    let sandbox = scenarios::built();
    let mut done = 0;
    while done < count {
        let (a, extra) = change(&sandbox, &mut random);
        let before = runs(&sandbox);
        // Now and then the next build is killed too.
        let kills = (1 + random.below(4) / 3 + random.below(6) / 5).min(count - done);
        (0..kills).for_each(|_| kill_once(&sandbox, &mut random));
        done += kills;
        let what = format!("after {done} kills");
        let verified = sandbox.run("cache verify");
        assert!(verified.answered().ends_with(": 0 damaged\n"), "{what}: torn: {}", verified.answered());
        let _ = verified;
        let build = sandbox.run("build all");
        assert!(build.said().contains("Finished"), "{what}: {}", build.said());
        let build = build.said().to_owned();
        for (path, text) in [("out/small", &a), ("prefix/bin/app", &a), ("prefix/lib/two", &a)] {
            assert_eq!(sandbox.read(path), *text, "{what}: {path}: {build}");
        }
        assert_eq!(sandbox.read("found"), format!("{extra}{a}"), "{what}: {build}");
        assert_eq!(sandbox.read("out/big").lines().count(), 200_000, "{what}: {build}");
        let after = runs(&sandbox);
        let ran = |step: &&str| after.get(*step).unwrap_or(&0) - before.get(*step).unwrap_or(&0);
        let again: usize = STEPS.iter().map(|step| ran(step).saturating_sub(1)).sum();
        assert!(again <= kills, "{what}: {again} runs too many for {kills} kills: {build}");
    }
    assert!(!sandbox.exists(".bcache/aside"), "what is ours was taken for the user's");
    let litter = litter_of_state(&sandbox);
    assert!(litter.len() <= count, "{litter:?}");
    println!("{done} kills: nothing torn");
}

/// An edit, or something is lost. Gives what the inputs hold.
fn change(sandbox: &Sandbox, random: &mut Random) -> (String, String) {
    let lost = ["out", "prefix", "found", ".bcache", "out/small", "prefix/lib"];
    match random.below(5) {
        0 | 1 => _ = sandbox.file("a", format!("{}\n", random.below(1000))),
        2 => _ = sandbox.file("extra", format!("{}\n", random.below(1000))),
        3 => {
            let lost = *random.pick(&lost);
            if sandbox.exists(lost) {
                sandbox.remove(lost);
            }
        }
        _ => _ = fs::remove_dir_all(sandbox.store().join("v1")),
    }
    (sandbox.read("a"), sandbox.read("extra"))
}

fn kill_once(sandbox: &Sandbox, random: &mut Random) {
    if random.below(2) == 0 {
        let build = sandbox.start("build all");
        thread::sleep(Duration::from_millis(random.below(MILLIS) as u64));
        // It may have ended: then nothing is lost.
        let _ = build.signal(rustix::process::Signal::KILL).pid();
        let _ = build.wait();
        return;
    }
    let (root, mut left) = (sandbox.root().to_owned(), random.below(CALLS));
    supervise(sandbox.command("build all"), move |call| {
        if call.who != Who::Build || !call.path.starts_with(&root) || call.path.to_string_lossy().contains("/covers/") {
            return Answer::Go;
        }
        left = left.wrapping_sub(1);
        if left == usize::MAX { Answer::Kill } else { Answer::Go }
    });
}

fn runs(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(sandbox.root().join("ran")).unwrap().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}
