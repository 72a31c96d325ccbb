//! What a worktree declares: tasks as data, and the `tasks.toml` that says them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::random::Random;
use crate::step::{Made, Out, Word, made};
use crate::tree::Node;

/// Names of variables from outside that some step may be passed.
pub const PASSED: [&str; 2] = ["MODEL_A", "MODEL_B"];
pub const TOOLS: [&str; 2] = ["toola", "toolb"];
/// Where the shared prefix lies in a worktree.
pub const PREFIX: &str = "prefix";
/// What lies beside a worktree, and is its own.
pub const NEIGHBOURS: [&str; 4] = ["../near", "../dep", "../dep-a", "../dep-b"];
/// Targets that are declared.
const TARGETS: [&str; 2] = ["one", "two"];
/// Each step at one of them has this variable, where its task does not say otherwise.
const OF_TARGET: &str = "V0";

/// What a manifest says of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub triple: &'static str,
    pub value: String,
}

pub const TRIPLES: [&str; 3] = ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl", "x86_64-pc-windows-gnu"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    pub name: String,
    pub desc: String,
    /// What it declares and looks at; each pattern that may match nothing is `optional`.
    pub inputs: Vec<Word>,
    /// Earlier tasks, by their place in the list.
    pub needs: Vec<Need>,
    pub say: String,
    pub env: BTreeMap<String, String>,
    pub pass: Vec<String>,
    pub tools: Vec<String>,
    pub follow: Option<String>,
    /// Its depfile says whole names.
    pub spells_out: bool,
    pub outs: Vec<Out>,
    pub brief: bool,
    pub place: bool,
    /// Its outputs have checksums.
    pub fixed: bool,
    pub sysroot: bool,
    /// By `sh`, not as a list of words.
    pub shell: bool,
    /// How it is written down; it means the same.
    pub style: usize,
    pub is_removed: bool,
    /// Its last output is not declared, where it has others.
    pub hides: bool,
    /// Where not the host's: which one of the manifest's.
    pub target: Option<usize>,
}

impl Task {
    /// The name of its step.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.target.map_or("host", |target| TARGETS[target]))
    }

    /// What it makes and does not declare.
    pub fn hidden_outs(&self) -> impl Iterator<Item = &str> {
        self.outs[self.declared_outs().len()..].iter().filter_map(|out| match out {
            Out::File(path) | Out::Program(path) | Out::Large(path) | Out::Link(path) | Out::Dir(path) => {
                Some(path.as_str())
            }
            Out::Install | Out::Depfile(_) => None,
        })
    }

    /// What it makes and declares.
    pub fn declared_outs(&self) -> &[Out] {
        let is_output = |out: &Out| !matches!(out, Out::Install | Out::Depfile(_));
        let is_hidden = self.hides
            && !self.place
            && self.outs.iter().filter(|out| is_output(out)).count() > 1
            && self.outs.last().is_some_and(is_output);
        &self.outs[..self.outs.len() - usize::from(is_hidden)]
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Need {
    pub task: usize,
    pub is_declared: bool,
    /// Its outputs are inputs.
    pub is_read: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    pub tasks: Vec<Task>,
    /// In which order the tables are written.
    pub order: Vec<usize>,
    pub relocatable: bool,
    /// Do installed packages count?
    pub host: bool,
    pub targets: [Target; TARGETS.len()],
}

impl Manifest {
    pub fn present(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.tasks.len()).filter(|ix| !self.tasks[*ix].is_removed)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.present().find(|ix| self.tasks[*ix].name == name)
    }

    /// Needs in the order in which the program has them: declared ones, then those found by their paths.
    pub fn needs(&self, ix: usize) -> Vec<usize> {
        let needs = self.tasks[ix].needs.iter().filter(|need| !self.tasks[need.task].is_removed);
        let (declared, found): (Vec<&Need>, Vec<&Need>) = needs.partition(|need| need.is_declared);
        let is_reached = |need: &&Need| need.is_read && !self.declared(need.task).is_empty();
        declared.into_iter().chain(found.into_iter().filter(is_reached)).map(|need| need.task).collect()
    }

    /// All that it needs, directly or not.
    pub fn all_needs(&self, ix: usize) -> Vec<usize> {
        let mut all = Vec::new();
        let mut open = vec![ix];
        while let Some(at) = open.pop() {
            for need in self.needs(at) {
                if !all.contains(&need) {
                    all.push(need);
                    open.push(need);
                }
            }
        }
        all.sort_unstable();
        all
    }

    pub fn has_view(&self, ix: usize) -> bool {
        self.tasks[ix].sysroot || self.all_needs(ix).iter().any(|need| self.tasks[*need].sysroot)
    }

    /// The target that it is at, unless that is the host.
    pub fn target(&self, ix: usize) -> Option<&Target> {
        self.tasks[ix].target.map(|target| &self.targets[target])
    }

    /// What it and its target say of variables.
    pub fn env(&self, ix: usize) -> BTreeMap<String, String> {
        let of_target = self.target(ix).map(|target| (OF_TARGET.to_owned(), target.value.clone()));
        of_target.into_iter().chain(self.tasks[ix].env.clone()).collect()
    }

    /// What it declares: its own inputs, then outputs of others that it reads.
    pub fn inputs(&self, ix: usize) -> Vec<Word> {
        let task = &self.tasks[ix];
        let mut inputs = task.inputs.clone();
        let needs = task.needs.iter().filter(|need| need.is_read && !self.tasks[need.task].is_removed);
        for need in needs {
            let outs = self.tasks[need.task].declared_outs().iter();
            inputs.extend(outs.filter_map(|out| match out {
                Out::File(path) | Out::Program(path) | Out::Large(path) => Some(Word::See(path.clone())),
                Out::Dir(path) if ix.is_multiple_of(2) => Some(Word::See(path.clone())),
                Out::Dir(path) => Some(Word::Glob { dir: path.clone(), suffix: ".t".to_owned(), deep: false }),
                // It leads nowhere.
                Out::Link(path) => Some(Word::See(path.clone())),
                Out::Install | Out::Depfile(_) => None,
            }));
        }
        inputs
    }

    /// All words of a step; `prefix` is how it names the shared prefix.
    pub fn words(&self, ix: usize, prefix: &str) -> Vec<Word> {
        let task = &self.tasks[ix];
        let mut words = vec![Word::Say(task.say.clone())];
        if !task.fixed {
            words.extend(self.inputs(ix));
            words.extend(self.env(ix).into_keys().chain(task.pass.iter().cloned()).map(Word::Env));
            words.extend(task.tools.iter().cloned().map(Word::Tool));
            words.extend(task.follow.iter().cloned().map(Word::Follow));
            words.extend(task.spells_out.then_some(Word::SpellOut));
            // Without a sysroot of its own it has no name for a prefix that is elsewhere.
            let sees = task.sysroot || self.has_view(ix) && !self.relocatable;
            words.extend(sees.then(|| Word::Prefix(prefix.to_owned())));
            words.extend(task.place.then_some(Word::Place));
            words.extend(task.brief.then_some(Word::Brief));
        }
        words.extend(task.outs.iter().cloned().map(Word::Out));
        words
    }

    /// Outputs as they are declared.
    pub fn declared(&self, ix: usize) -> Vec<String> {
        let outs = self.tasks[ix].declared_outs().iter();
        outs.filter_map(|out| match out {
            Out::File(path) | Out::Program(path) | Out::Large(path) | Out::Link(path) => Some(path.clone()),
            Out::Dir(path) => Some(format!("{path}/")),
            Out::Install | Out::Depfile(_) => None,
        })
        .collect()
    }

    /// What a step with checksums makes, whatever there is.
    pub fn fixed(&self, ix: usize) -> Made {
        let words = self.words(ix, PREFIX);
        let around = crate::step::Around {
            look: &crate::tree::Tree::default(),
            prefix: &crate::tree::Tree::default(),
            place: "",
            env: &|_| None,
            tool: &|_| String::new(),
        };
        made(&self.tasks[ix].name, &words, &crate::step::look_around(&words, &around).report)
    }

    pub fn text(&self, world: &str) -> String {
        let mut text = "[bcache]\nversion = 1\ndefault = \"all\"\n".to_owned();
        if self.tasks.iter().any(|task| task.sysroot) {
            write!(text, "\n[sysroots.main]\npath = \"{PREFIX}\"\nrelocatable = {}\n", self.relocatable).unwrap();
        }
        for (name, Target { triple, value }) in TARGETS.iter().zip(&self.targets) {
            let env = format!("{{ {OF_TARGET} = {} }}", quoted(value));
            write!(text, "\n[targets.{name}]\ntriple = {}\nenv = {env}\n", quoted(triple)).unwrap();
        }
        for ix in self.order.iter().copied().filter(|ix| !self.tasks[*ix].is_removed) {
            self.write_task(ix, world, &mut text);
        }
        let names: Vec<String> = self.present().map(|ix| quoted(&self.tasks[ix].id())).collect();
        write!(text, "\n[tasks.all]\nneeds = [{}]\n", names.join(", ")).unwrap();
        text
    }

    fn write_task(&self, ix: usize, world: &str, text: &mut String) {
        let task = &self.tasks[ix];
        let name = &task.name;
        let by_template = task.style & 1 == 1;
        let mut env: Vec<String> = task.env.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        if by_template {
            env.reverse();
            write!(text, "\n[templates.of-{name}]\nenv = {{ {} }}\n", env.join(", ")).unwrap();
        }
        write!(text, "\n[tasks.{name}]\ndesc = {}\n", quoted(&task.desc)).unwrap();
        if by_template {
            writeln!(text, "extends = \"of-{name}\"").unwrap();
        } else {
            writeln!(text, "env = {{ {} }}", env.join(", ")).unwrap();
        }
        if task.sysroot {
            text.push_str("sysroot = \"main\"\n");
        }
        if !self.host {
            text.push_str("host = false\n");
        }
        if let Some(target) = task.target {
            writeln!(text, "targets = [{}]", quoted(TARGETS[target])).unwrap();
        }
        let needs = task.needs.iter().filter(|need| need.is_declared && !self.tasks[need.task].is_removed);
        let needs: Vec<String> = needs.map(|need| quoted(&self.tasks[need.task].id())).collect();
        let inputs: Vec<String> = if task.fixed { Vec::new() } else { self.inputs(ix).iter().map(input).collect() };
        let list = |of: &[String]| of.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        writeln!(text, "needs = [{}]\ninputs = [{}]", needs.join(", "), inputs.join(", ")).unwrap();
        writeln!(text, "outputs = [{}]", self.outputs(ix).join(", ")).unwrap();
        writeln!(text, "env-pass = [{}]\ntools = [{}]", list(&task.pass), list(&task.tools)).unwrap();
        if let Some(depfile) = self.depfile(ix) {
            writeln!(text, "depfile = {}", quoted(&depfile)).unwrap();
        }
        self.write_command(ix, world, text);
    }

    fn outputs(&self, ix: usize) -> Vec<String> {
        let declared = self.declared(ix);
        if !self.tasks[ix].fixed {
            return declared.iter().map(|path| quoted(path)).collect();
        }
        let fixed = self.fixed(ix);
        let sum = |path: &String| {
            let Some(Node::File { bytes, .. }) = fixed.outputs.0.get(path) else { panic!("{path} has no checksum") };
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        declared.iter().map(|path| format!("{{ path = {}, sha256 = \"{}\" }}", quoted(path), sum(path))).collect()
    }

    pub fn depfile(&self, ix: usize) -> Option<String> {
        self.tasks[ix].outs.iter().find_map(|out| if let Out::Depfile(path) = out { Some(path.clone()) } else { None })
    }

    fn write_command(&self, ix: usize, world: &str, text: &mut String) {
        let task = &self.tasks[ix];
        let mut words = vec!["mk".to_owned(), task.name.clone(), world.to_owned()];
        words.extend(self.words(ix, "{{ sysroot.prefix }}").iter().map(Word::text));
        if self.has_view(ix) && !task.sysroot {
            // Without a sysroot of its own it has no word for the prefix; from its directory it sees it.
            words
                .iter_mut()
                .filter(|word| word.starts_with("prefix="))
                .for_each(|word| *word = format!("prefix={PREFIX}"));
        }
        if task.style & 2 == 2 {
            let say = words.iter_mut().find(|word| word.starts_with("say=")).expect("each step says something");
            let value = say["say=".len()..].to_owned();
            *say = "say={{ vars.said }}".to_owned();
            writeln!(text, "vars.said = {}", quoted(&value)).unwrap();
        }
        if task.shell {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            // A word in quotes is no program to the scanner.
            writeln!(text, "run = {}", quoted(&format!("mk {}", words[1..].join(" ")))).unwrap();
        } else {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            writeln!(text, "run = [[{}]]", words.join(", ")).unwrap();
        }
    }
}

fn input(word: &Word) -> String {
    match word {
        Word::See(path) => quoted(path),
        Word::Glob { dir, suffix, deep } => {
            let pattern = if *deep { format!("{dir}/**/*{suffix}") } else { format!("{dir}/*{suffix}") };
            format!("{{ glob = {}, optional = true }}", quoted(&pattern))
        }
        Word::Fork(dir) => format!("{{ git = {} }}", quoted(dir)),
        _ => panic!("{word:?} is no input"),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// What worlds differ in.
#[derive(Clone, Debug)]
pub struct Kind {
    pub views: bool,
    pub git: bool,
    pub host: bool,
    pub tasks: usize,
}

impl Kind {
    pub fn draw(random: &mut Random) -> Self {
        Self { views: random.chance(25), git: random.chance(20), host: random.chance(20), tasks: 3 + random.below(9) }
    }
}

impl Manifest {
    pub fn draw(kind: &Kind, random: &mut Random) -> Self {
        let mut manifest = Self {
            tasks: Vec::new(),
            order: (0..kind.tasks).collect(),
            relocatable: random.chance(40),
            host: kind.host,
            targets: [0, 1].map(|n| Target { triple: TRIPLES[n], value: "of a target".to_owned() }),
        };
        for ix in 0..kind.tasks {
            let task = draw_task(ix, &manifest.tasks, kind, random);
            manifest.tasks.push(task);
        }
        manifest
    }
}

fn draw_task(ix: usize, earlier: &[Task], kind: &Kind, random: &mut Random) -> Task {
    let name = format!("t{ix}");
    let mut task = Task {
        desc: "as drawn".to_owned(),
        inputs: draw_inputs(&name, kind, random),
        needs: draw_needs(ix, earlier, random),
        say: "hello".to_owned(),
        env: (0..random.below(3)).map(|n| (format!("V{n}"), format!("value {n}"))).collect(),
        pass: PASSED.iter().filter(|_| random.chance(20)).map(|name| (*name).to_owned()).collect(),
        tools: TOOLS.iter().filter(|_| random.chance(20)).map(|name| (*name).to_owned()).collect(),
        follow: None,
        spells_out: false,
        outs: Vec::new(),
        brief: random.chance(30),
        place: false,
        fixed: false,
        sysroot: kind.views && random.chance(50),
        shell: random.chance(30),
        style: random.below(4),
        is_removed: false,
        hides: false,
        target: None,
        name,
    };
    draw_outs(&mut task, random);
    // One prefix is for one target.
    if !kind.views && random.chance(20) {
        task.target = Some(random.below(TARGETS.len()));
    }
    if random.chance(25) {
        task.follow = Some(format!("inc/{}.h", task.name));
        task.spells_out = random.chance(30);
        task.outs.push(Out::Depfile(format!("out/{}.d", task.name)));
    } else if random.chance(10) && !task.sysroot {
        (task.fixed, task.shell, task.target) = (true, false, None);
        task.needs.clear();
        task.inputs.clear();
        task.tools.clear();
        task.env.clear();
        task.pass.clear();
        task.outs = vec![Out::File(format!("out/{}.txt", task.name))];
    } else if random.chance(10) && !kind.views {
        task.place = true;
        // By that it is known to depend on the place.
        let file = Out::File(format!("out/{}.txt", task.name));
        task.outs.retain(|out| *out != file);
        task.outs.push(file);
    }
    task
}

fn draw_inputs(name: &str, kind: &Kind, random: &mut Random) -> Vec<Word> {
    let src = format!("src/{name}");
    let mut inputs = vec![Word::See(format!("{src}/a b"))];
    let glob = |dir: &str, deep| Word::Glob { dir: format!("{src}/{dir}"), suffix: ".t".to_owned(), deep };
    let may = [
        Word::See(format!("{src}/dir")),
        Word::See(format!("{src}/link")),
        glob("flat", false),
        glob("deep", true),
        Word::See("src/shared/one".to_owned()),
        Word::Glob { dir: "src/shared".to_owned(), suffix: ".t".to_owned(), deep: true },
    ];
    inputs.extend(may.into_iter().filter(|_| random.chance(35)));
    if kind.git && random.chance(50) {
        inputs.push(Word::Fork("fork".to_owned()));
    }
    inputs
}

fn draw_needs(ix: usize, earlier: &[Task], random: &mut Random) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for _ in 0..random.below(4).min(ix) {
        let task = random.below(ix);
        let is_read = !earlier[task].outs.is_empty() && random.chance(75);
        if needs.iter().all(|need| need.task != task) {
            needs.push(Need { task, is_read, is_declared: !is_read || random.chance(40) });
        }
    }
    needs
}

fn draw_outs(task: &mut Task, random: &mut Random) {
    let path = |kind: &str| format!("out/{}.{kind}", task.name);
    if task.sysroot {
        task.outs.push(Out::Install);
    }
    let all = [Out::File(path("txt")), Out::Program(path("bin")), Out::Dir(path("dir")), Out::Link(path("link"))];
    task.outs.extend(all.into_iter().filter(|_| random.chance(35)));
    if random.chance(4) {
        task.outs.push(Out::Large(path("large")));
    }
    if task.outs.is_empty() {
        task.outs.push(Out::File(path("txt")));
    }
}
