//! An output of a need that somebody edits in the middle of a build: what lies there is not what was made.

use std::fs;

use crate::edits::Stamp;
use crate::oracle::{Request, Step, Verdict};
use crate::play::{Log, Play};
use crate::random::Random;
use crate::rig::{How, Lie};
use crate::tree::Node;

/// A file that a step made, and the one step of the build that needs it.
struct Underfoot {
    need: usize,
    dependent: usize,
    path: String,
    node: Node,
}

impl Play {
    /// While the step that needs it runs, before it has looked at it or after. In some cases it is put back.
    pub fn build_undermined(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let request = Request::default();
        self.make_run(at, random, log);
        let mut steps = self.common.foresee(&self.trees[at], &request);
        let may = self.underfoot(at, &steps, |need| !need.allowed.contains(&Verdict::Skipped));
        let Some(Underfoot { need, dependent, path, node }) = random.one(&may) else { return Ok(()) };
        let Node::File { bytes, mode } = node else { return Ok(()) };
        let spoilt = Node::File { bytes: format!("foreign {}", random.below(100)).into_bytes(), mode: *mode };
        let (when, is_put_back) = [("before", true), ("before", false), ("after", false)][random.below(3)];
        let name = steps[*dependent].name.clone();
        log.say(format_args!(
            "build {}, and {path} is edited {when} {name} reads it, put back: {is_put_back}",
            self.trees[at].name
        ));
        self.order(&name, when, path, &spoilt);
        if is_put_back {
            self.order(&name, "after", path, &Node::File { bytes: bytes.clone(), mode: *mode });
        }
        if when == "before" {
            // What it makes is of what it finds there, though it runs because of what was made.
            self.trees[at].undermined = Some((path.clone(), spoilt.clone()));
            steps = self.common.foresee(&self.trees[at], &request);
            self.trees[at].undermined = None;
            steps[*dependent].allowed = [Verdict::Ran].into();
        }
        if !is_put_back {
            steps[*need].made.outputs.0.insert(path.clone(), spoilt.clone());
        }
        self.score.builds += 1;
        self.common.remember_names(&steps);
        let how = How::draw(random);
        let told = self.rig.build(&self.trees[at], &self.common, &request, &how);
        self.check(at, &request, &steps, &told, Some(&name))?;
        if !is_put_back {
            self.trees[at].outputs.put(path, spoilt);
        }
        Ok(())
    }

    /// Before the step that needs it begins, while another one runs: then it is made right first.
    pub fn build_undone(&mut self, at: usize, random: &mut Random, log: &mut Log) -> Result<(), Lie> {
        let request = Request::default();
        self.make_run(at, random, log);
        let mut steps = self.common.foresee(&self.trees[at], &request);
        let may = self.underfoot(at, &steps, |need| need.surely(Verdict::Fresh) && !need.is_proven);
        let manifest = &self.trees[at].manifest;
        let meddlers = |under: &Underfoot| {
            let task = |which: usize| steps[which].task;
            let is_one = |which: &usize| {
                let step = &steps[*which];
                step.surely(Verdict::Ran)
                    && *which != under.dependent
                    && manifest.all_needs(task(under.dependent)).contains(&step.task)
                    && !manifest.needs(step.task).contains(&task(under.need))
            };
            (0..steps.len()).filter(is_one).collect::<Vec<usize>>()
        };
        let may: Vec<(usize, &Underfoot)> =
            may.iter().flat_map(|under| meddlers(under).into_iter().map(move |meddler| (meddler, under))).collect();
        let Some((meddler, under)) = random.one(&may) else { return Ok(()) };
        let name = steps[*meddler].name.clone();
        let Underfoot { need, path, .. } = under;
        let when = ["before", "after"][random.below(2)];
        log.say(format_args!("build {}, and {path} is edited while {name} runs ({when})", self.trees[at].name));
        self.order(&name, when, path, &Node::file(format!("foreign {}", random.below(100))));
        let need = &mut steps[*need];
        need.allowed = [Verdict::Restored].into();
        if self.common.stored(need) != Some(true) || self.common.lost > 0 {
            need.allowed.insert(Verdict::Ran);
        }
        self.score.builds += 1;
        self.common.remember_names(&steps);
        let told = self.rig.build(&self.trees[at], &self.common, &request, &How::draw(random));
        self.check(at, &request, &steps, &told, None).map(|_| ())
    }

    /// An edit for a step that has needs, or is one of several.
    fn make_run(&mut self, at: usize, random: &mut Random, log: &mut Log) {
        let manifest = &self.trees[at].manifest;
        let needs = manifest.present().map(|ix| manifest.needs(ix)).filter(|needs| needs.len() > 1).flatten();
        let dependents = manifest.present().filter(|ix| !manifest.needs(*ix).is_empty());
        let all: Vec<usize> = needs.chain(dependents).filter(|ix| !manifest.tasks[*ix].fixed).collect();
        let Some(ix) = random.one(&all) else { return };
        let path = format!("src/{}/a b", manifest.tasks[*ix].name);
        self.put_source(at, &path, Node::file(format!("blue text {}", random.next())), Stamp::Now);
        log.say(format_args!("{}: edit {path}", self.trees[at].name));
    }

    /// Files of needs that nobody but one step needs, which surely runs.
    fn underfoot(&self, at: usize, steps: &[Step], is_meant: impl Fn(&Step) -> bool) -> Vec<Underfoot> {
        let manifest = &self.trees[at].manifest;
        let mut found = Vec::new();
        for (need, step) in steps.iter().enumerate().filter(|(_, step)| is_meant(step)) {
            let of_it = |which: &usize| manifest.needs(steps[*which].task).contains(&step.task);
            let dependents: Vec<usize> = (0..steps.len()).filter(of_it).collect();
            let [dependent] = dependents[..] else { continue };
            if !steps[dependent].surely(Verdict::Ran) || steps[dependent].is_proven {
                continue;
            }
            for (path, node) in &step.made.outputs.0 {
                if matches!(node, Node::File { bytes, .. } if std::str::from_utf8(bytes).is_ok()) {
                    found.push(Underfoot { need, dependent, path: path.clone(), node: node.clone() });
                }
            }
        }
        found
    }

    /// What somebody does while a step of the next build runs.
    pub fn order(&self, name: &str, when: &str, path: &str, node: &Node) {
        let Node::File { bytes, .. } = node else { panic!("{path} is no file") };
        let order = self.rig.at("meddle").join(format!("{name}.{when}.{}", self.rig.next_build()));
        fs::write(order, [path.as_bytes(), b"\n", bytes].concat()).expect("it is written");
    }
}
