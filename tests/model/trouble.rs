//! Builds that do not have the world for themselves: killed ones, two at once, an edit in the middle.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::oracle::{Doubt, Key, Request, Step, Verdict, is_forced};
use crate::play::{Log, Play};
use crate::random::Random;
use crate::rig::{How, Lie, Told, look_at_sources};
use crate::step::Word;
use crate::tree::Node;

impl Play {
    pub fn learn_of_kill(&mut self, at: usize, steps: &[Step], told: &Told, jobs: usize) {
        self.score.kills += 1;
        let mut begun = BTreeSet::new();
        for step in steps.iter().filter(|step| !step.surely(Verdict::Fresh)) {
            let tree = &mut self.trees[at];
            let old = tree.records.remove(&step.name).map(|record| record.key);
            let mut doubt = tree.doubts.remove(&step.name).unwrap_or_else(|| Doubt::of(old));
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
    pub fn compare_with_killed(
        &mut self,
        at: usize,
        request: &Request,
        steps: &[Step],
        verdicts: &[Verdict],
    ) -> Result<(), Lie> {
        let Some((begun, jobs)) = self.killed[at].take() else { return Ok(()) };
        let unasked = steps.iter().zip(verdicts).filter(|(step, _)| !is_forced(request, &step.name));
        let again = unasked.filter(|(step, v)| **v == Verdict::Ran && begun.contains(&step.key));
        let again: Vec<&String> = again.map(|(step, _)| &step.name).collect();
        self.score.repeated += again.len();
        if again.len() > jobs {
            return Err(format!("{again:?} ran again after a kill, and {jobs} could be running at once"));
        }
        Ok(())
    }

    /// Two builds at once: what both need is made once.
    pub fn build_both(&mut self, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let request = Request { keep_going: true, ..Request::default() };
        for tree in &self.trees {
            // What one build finds may be known to the other already.
            let steps = self.common.foresee(tree, &request);
            self.common.remember_names(&steps);
        }
        let mut steps: Vec<Vec<Step>> = self.trees.iter().map(|tree| self.common.foresee(tree, &request)).collect();
        let makers = |steps: &[Step]| {
            let runs = steps.iter().filter(|step| step.allowed.contains(&Verdict::Ran));
            runs.map(|step| step.key).collect::<BTreeSet<Key>>()
        };
        let both: BTreeSet<Key> = makers(&steps[0]).intersection(&makers(&steps[1])).copied().collect();
        for step in steps.iter_mut().flatten().filter(|step| both.contains(&step.key)) {
            step.allowed.insert(Verdict::Restored);
        }
        let how = How::draw(random);
        log.say(format_args!("build in both worktrees at once, {how:?}"));
        self.score.builds += 2;
        let told = self.rig.build_both([&self.trees[0], &self.trees[1]], &self.common, &request, &how);
        let mut ran = BTreeSet::new();
        for at in [0, 1] {
            let verdicts = self.check(at, &request, &steps[at], &told[at], None)?;
            let keys = steps[at].iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Ran);
            for (step, _) in keys {
                // With another file absent that was once read it has another key.
                if !ran.insert((step.key, &step.gone)) {
                    return Err(format!("{} ran in both worktrees at once", step.name));
                }
            }
        }
        Ok(())
    }

    /// Somebody edits an input while its step runs.
    pub fn build_meddled(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let request = Request::default();
        let steps = self.common.foresee(&self.trees[at], &request);
        let manifest = &self.trees[at].manifest;
        let private = |step: &Step| {
            let task = &manifest.tasks[step.task];
            let declared = task.inputs.iter().filter_map(|word| match word {
                Word::See(path) if path.ends_with("/a b") => Some(path),
                _ => None,
            });
            let is_file = |path: &&String| matches!(self.trees[at].sources.0.get(*path), Some(Node::File { .. }));
            let runs = !step.is_fixed && step.surely(Verdict::Ran) && !step.is_proven;
            let paths: Vec<&String> = declared.chain(&task.follow).filter(is_file).filter(|_| runs).collect();
            paths.into_iter().map(|path| (step.name.clone(), path.clone())).collect::<Vec<_>>()
        };
        let may: Vec<(String, String)> = steps.iter().flat_map(private).collect();
        let Some((name, path)) = random.one(&may).cloned() else { return Ok(()) };
        let text = format!("blue text {}", random.below(100));
        let when = ["before", "after"][random.below(2)];
        log.say(format_args!("build {}, and {path} is edited {when} it is read", self.trees[at].name));
        self.order(&name, when, &path, &Node::file(text.clone()));
        let mut edited = self.trees[at].sources.clone();
        if let Some(Node::File { mode, .. }) = edited.0.get(&path).cloned() {
            edited.put(&path, Node::File { bytes: text.into_bytes(), mode });
        }
        let mut steps = steps;
        if when == "before" {
            // What it makes is of the edited file, though it runs because of the file as it was.
            let before = std::mem::replace(&mut self.trees[at].sources, edited.clone());
            steps = self.common.foresee(&self.trees[at], &request);
            self.trees[at].sources = before;
            steps.iter_mut().filter(|step| step.name == name).for_each(|step| step.allowed = [Verdict::Ran].into());
        }
        let how = How::draw(random);
        self.score.builds += 1;
        self.common.remember_names(&steps);
        let told = self.rig.build(&self.trees[at], &self.common, &request, &how);
        self.check(at, &request, &steps, &told, Some(&name))?;
        self.trees[at].sources = edited;
        look_at_sources(&self.rig, &self.trees[at])
    }

    /// Somebody writes one of two texts into a file, again and again for some ticks of the clock that stamps files: between
    /// two looks at it within one tick only the bytes tell. What that build makes nobody can say; the next one is right.
    pub fn build_hammered(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let sources = self.trees[at].sources.clone();
        let plain = sources.0.iter().filter_map(|(path, node)| match node {
            Node::File { bytes, mode } if !path.starts_with("fork/") && bytes.get(3..8) == Some(b" text") => {
                Some((path, &bytes[3..], *mode))
            }
            _ => None,
        });
        let plain: Vec<_> = plain.collect();
        let Some((path, end, mode)) = random.one(&plain).copied() else { return Ok(()) };
        let words: [&[u8; 3]; 2] = if random.chance(50) { [b"red", b"tan"] } else { [b"sky", b"red"] };
        let [first, last] = words.map(|word| {
            let mut sources = sources.clone();
            sources.put(path, Node::File { bytes: [&word[..], end].concat(), mode });
            sources
        });
        let request = Request { keep_going: true, ..Request::default() };
        let worlds = [sources.clone(), first, last].map(|sources| {
            self.trees[at].sources = sources;
            let steps = self.common.foresee(&self.trees[at], &request);
            self.common.remember_names(&steps);
            steps
        });
        let [from, length] =
            [random.below(40), 1 + random.below(12)].map(|millis| Duration::from_millis(millis as u64));
        log.say(format_args!("build {}, and {path} is written after {from:?}, for {length:?}", self.trees[at].name));
        let file = fs::File::options().write(true).open(self.rig.disk(&self.trees[at].name).at(path));
        let hammer = std::thread::spawn(move || {
            let file = file.expect("it is there");
            std::thread::sleep(from);
            let begun = Instant::now();
            while begun.elapsed() < length {
                for word in words {
                    file.write_all_at(word, 0).expect("it is written");
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let how = How::draw(random);
        self.score.builds += 1;
        let told = self.rig.build(&self.trees[at], &self.common, &request, &how);
        hammer.join().expect("nobody panics with it");
        if told.counts.is_empty() {
            return Err(format!("the build did not end as builds do: {:?}", told.code));
        }
        self.learn_of_hammer(at, &worlds);
        self.build(at, &request, &How::draw(random), None).map(|_| ())
    }

    /// Each step may have seen any of the worlds, and what it made may be stored.
    fn learn_of_hammer(&mut self, at: usize, worlds: &[Vec<Step>; 3]) {
        for steps in zip_steps(worlds) {
            if steps.iter().all(|step| step.surely(Verdict::Fresh) && step.key == steps[0].key) {
                continue;
            }
            let tree = &mut self.trees[at];
            let name = &steps[0].name;
            let old = tree.records.remove(name).map(|record| record.key);
            let mut doubt = tree.doubts.remove(name).unwrap_or_else(|| Doubt::of(old));
            let may_end_well = |step: &&Step| {
                [Verdict::Fresh, Verdict::Restored, Verdict::Ran].iter().any(|verdict| step.allowed.contains(verdict))
            };
            let ended: Vec<&Step> = steps.into_iter().filter(may_end_well).collect();
            doubt.keys.extend(ended.iter().map(|step| step.key));
            tree.doubts.insert(name.clone(), doubt);
            ended.into_iter().for_each(|step| self.common.keep(step, false));
        }
    }
}

/// The same step of each world.
fn zip_steps(worlds: &[Vec<Step>; 3]) -> impl Iterator<Item = [&Step; 3]> {
    let [first, second, third] = worlds;
    first.iter().zip(second).zip(third).map(|((a, b), c)| [a, b, c])
}
