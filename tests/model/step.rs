//! What a step does: a small language of words, which the program `mk` performs on the disk and the oracle in memory.
//!
//! `mk NAME WORLD WORD…` looks at what the words name, puts it all into a *report*, and makes its outputs out of that. So
//! what a step made shows what it saw. A line at its begin and one at its end go into a journal outside of the workspace.

use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::tree::{Disk, Look, Node, Noticed, Tree, glob, see};

/// Content that makes a step fail.
pub const POISON: &str = "FAIL";
/// Says which build a step is of. Variables that begin so are passed to every step, and are in no key.
pub const BUILD: &str = "CARGO_HTTP_MODEL_BUILD";
/// Bytes of a report that are shown: steps that read many outputs of others would make more and more.
const LONG: usize = 32 << 10;
/// Bytes of a large output: more than what results hold themselves.
const LARGE: usize = 80 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// A word that changes nothing but the command and the report.
    Say(String),
    /// A file, a link or a directory with all in it.
    See(String),
    /// Files in a directory whose names end so.
    Glob {
        dir: String,
        suffix: String,
        deep: bool,
    },
    /// A working copy, without its `.git` and what it ignores.
    Fork(String),
    Env(String),
    Tool(String),
    /// A file that nobody declares, and those that its lines `include NAME` name.
    Follow(String),
    /// What of the shared prefix is to be seen, and where the step sees it.
    Prefix(String),
    /// The directory in which it runs.
    Place,
    /// Of each thing only a little gets into the report.
    Brief,
    /// Whole names in the depfile.
    SpellOut,
    Out(Out),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    File(String),
    Program(String),
    Large(String),
    Link(String),
    /// A directory: how many files are in it depends on the report.
    Dir(String),
    /// A file and a directory in the prefix, named after the step.
    Install,
    Depfile(String),
}

impl Word {
    pub fn text(&self) -> String {
        match self {
            Self::Say(text) => format!("say={text}"),
            Self::See(path) => format!("see={path}"),
            Self::Glob { dir, suffix, deep: false } => format!("all={dir}:{suffix}"),
            Self::Glob { dir, suffix, deep: true } => format!("deep={dir}:{suffix}"),
            Self::Fork(dir) => format!("fork={dir}"),
            Self::Env(name) => format!("env={name}"),
            Self::Tool(name) => format!("tool={name}"),
            Self::Follow(path) => format!("follow={path}"),
            Self::Prefix(path) => format!("prefix={path}"),
            Self::Place => "place".to_owned(),
            Self::Brief => "brief".to_owned(),
            Self::SpellOut => "spell-out".to_owned(),
            Self::Out(Out::File(path)) => format!("to={path}"),
            Self::Out(Out::Program(path)) => format!("program={path}"),
            Self::Out(Out::Large(path)) => format!("large={path}"),
            Self::Out(Out::Link(path)) => format!("link={path}"),
            Self::Out(Out::Dir(path)) => format!("into={path}"),
            Self::Out(Out::Install) => "install".to_owned(),
            Self::Out(Out::Depfile(path)) => format!("depfile={path}"),
        }
    }

    fn parse(text: &str) -> Self {
        let (verb, rest) = text.split_once('=').unwrap_or((text, ""));
        let path = rest.to_owned();
        let pattern = |deep| {
            let (dir, suffix) = rest.split_once(':').expect("a directory and a suffix");
            Self::Glob { dir: dir.to_owned(), suffix: suffix.to_owned(), deep }
        };
        match verb {
            "say" => Self::Say(path),
            "see" => Self::See(path),
            "all" => pattern(false),
            "deep" => pattern(true),
            "fork" => Self::Fork(path),
            "env" => Self::Env(path),
            "tool" => Self::Tool(path),
            "follow" => Self::Follow(path),
            "prefix" => Self::Prefix(path),
            "place" => Self::Place,
            "brief" => Self::Brief,
            "spell-out" => Self::SpellOut,
            "to" => Self::Out(Out::File(path)),
            "program" => Self::Out(Out::Program(path)),
            "large" => Self::Out(Out::Large(path)),
            "link" => Self::Out(Out::Link(path)),
            "into" => Self::Out(Out::Dir(path)),
            "install" => Self::Out(Out::Install),
            "depfile" => Self::Out(Out::Depfile(path)),
            _ => panic!("mk does not know the word {text}"),
        }
    }
}

/// Where a step is: the disk and its environment, or what the oracle knows of both.
pub struct Around<'a> {
    pub look: &'a dyn Look,
    pub prefix: &'a dyn Look,
    /// The workspace's own path.
    pub place: &'a str,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub tool: &'a dyn Fn(&str) -> String,
}

/// What a step has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By its words `see`, `all` and `deep`.
    pub declared: Noticed,
    pub fork: Noticed,
    /// Undeclared: what opening each name gives.
    pub found: Noticed,
    pub report: String,
    /// Something that should be there is not.
    pub missing: bool,
    pub poisoned: bool,
}

pub fn look_around(words: &[Word], around: &Around) -> Seen {
    let mut seen = Seen::default();
    let mut said = String::new();
    for word in words {
        match word {
            Word::Say(text) => said += &format!("say {text}\n"),
            Word::See(path) => seen.missing |= !see(around.look, path, &mut seen.declared),
            Word::Glob { dir, suffix, deep } => glob(around.look, dir, suffix, *deep, &mut seen.declared),
            Word::Fork(dir) => fork(around.look, dir, &mut seen.fork),
            Word::Env(name) => said += &format!("{name} is {:?}\n", (around.env)(name)),
            Word::Tool(name) => said += &format!("{name} says {}\n", (around.tool)(name)),
            Word::Follow(path) => follow(around.look, path, &mut seen.found),
            Word::Prefix(_) => {
                let mut noticed = Noticed::new();
                for name in around.prefix.list("") {
                    see(around.prefix, &name, &mut noticed);
                }
                said += &format!("prefix {noticed:?}\n");
            }
            Word::Place => said += &format!("place {}\n", around.place),
            Word::Brief | Word::SpellOut | Word::Out(_) => {}
        }
    }
    let all = seen.declared.iter().chain(&seen.fork).chain(&seen.found);
    for (path, what) in all {
        seen.poisoned |= what.contains(POISON);
        writeln!(said, "{path} {what}").expect("a string takes all");
    }
    seen.report = match words.contains(&Word::Brief) {
        true => briefly(&said),
        false if said.len() > LONG => {
            // Where it depends on the place, it says so.
            let place: String = said.lines().filter(|line| line.starts_with("place ")).take(1).collect();
            format!("{} bytes, {:x}\n{place}\n", said.len(), hash(&said))
        }
        false => said,
    };
    seen
}

/// Only how often each letter from the middle of a line comes: most edits change nothing of it.
fn briefly(report: &str) -> String {
    let letters: Vec<char> = report.lines().filter_map(|line| line.rsplit(' ').next()?.chars().next()).collect();
    format!("{} lines {:?}\n", letters.len(), letters.last())
}

fn fork(look: &dyn Look, dir: &str, noticed: &mut Noticed) {
    for name in look.list(dir).into_iter().filter(|name| name != ".git") {
        let path = format!("{dir}/{name}");
        match look.node(&path) {
            Some(Node::Dir) => fork(look, &path, noticed),
            // What git ignores there.
            Some(_) if name.ends_with(".o") => {}
            Some(node) => drop(noticed.insert(path, crate::tree::said(&node))),
            None => {}
        }
    }
}

fn follow(look: &dyn Look, path: &str, found: &mut Noticed) {
    if found.contains_key(path) {
        return;
    }
    let (what, text) = match crate::tree::behind(look, path) {
        None => ("absent".to_owned(), Vec::new()),
        Some((_, Node::File { bytes, mode })) => (crate::tree::said(&Node::File { bytes: bytes.clone(), mode }), bytes),
        Some((_, node)) => (crate::tree::said(&node), Vec::new()),
    };
    found.insert(path.to_owned(), what);
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some(name) = line.strip_prefix("include ") {
            follow(look, name, found);
        }
    }
}

/// What a step makes: its outputs, and its layer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Made {
    pub outputs: Tree,
    pub layer: Option<Tree>,
}

impl Made {
    /// Does any of it hold this text?
    pub fn holds(&self, text: &str) -> bool {
        let trees = std::iter::once(&self.outputs).chain(&self.layer);
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        trees.flat_map(|tree| tree.0.values()).any(|node| match node {
            Node::File { bytes, .. } => holds(bytes),
            Node::Link(target) => target.contains(text),
            Node::Dir => false,
        })
    }
}

pub fn made(name: &str, words: &[Word], report: &str) -> Made {
    let mut made = Made::default();
    let number = hash(report);
    let text = format!("{name}\n{report}");
    for word in words {
        let Word::Out(out) = word else { continue };
        // Only the entries themselves: directories above an output are nobody's.
        let outputs = &mut made.outputs.0;
        let mut put = |path: &str, node| drop(outputs.insert(path.to_owned(), node));
        match out {
            Out::File(path) => put(path, Node::file(text.clone())),
            Out::Program(path) => put(path, Node::File { bytes: text.clone().into_bytes(), mode: 0o755 }),
            Out::Large(path) => put(path, Node::file(large(&text, number))),
            Out::Link(path) => put(path, Node::Link(format!("to-{number:x}"))),
            Out::Dir(path) => directory(path, &text, number).into_iter().for_each(|(path, node)| put(&path, node)),
            Out::Install => {
                let mut layer = Tree::default();
                layer.put(&format!("share/{name}.txt"), Node::file(text.clone()));
                directory(&format!("lib/{name}"), &text, number)
                    .into_iter()
                    .for_each(|(path, node)| layer.put(&path, node));
                made.layer = Some(layer);
            }
            Out::Depfile(_) => {}
        }
    }
    made
}

fn directory(path: &str, text: &str, number: u64) -> Vec<(String, Node)> {
    let mut entries = vec![
        (path.to_owned(), Node::Dir),
        (format!("{path}/report.t"), Node::file(text)),
        (format!("{path}/empty"), Node::Dir),
        (format!("{path}/sub"), Node::Dir),
        (format!("{path}/sub/program"), Node::File { bytes: format!("{number:x}").into_bytes(), mode: 0o755 }),
        (format!("{path}/sub/link"), Node::Link(format!("../n{}", number % 3))),
    ];
    entries.extend((0..=number % 3).map(|n| (format!("{path}/n{n}"), Node::file(format!("{n} of {number:x}")))));
    entries
}

/// Bytes that no packer makes small.
fn large(text: &str, number: u64) -> Vec<u8> {
    let mut random = crate::random::Random::new(number);
    let mut bytes = text.as_bytes().to_vec();
    while bytes.len() < LARGE {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes
}

/// FNV-1a: the same in the program `mk` and in the oracle.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    of.hash(&mut hasher);
    // Its low bits alone are poor ones.
    crate::random::Random::new(hasher.finish()).next()
}

/// The program `mk`.
pub fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (name, world) = (args.next().expect("a name"), PathBuf::from(args.next().expect("a world")));
    let words: Vec<Word> = args.map(|word| Word::parse(&word)).collect();
    let here = std::env::current_dir().expect("a directory");
    let place = here.to_str().expect("a path in UTF-8");
    let mut journal = Journal::open(&world, &name, &here);
    journal.write("begin");
    let prefix = words.iter().find_map(|word| if let Word::Prefix(at) = word { Some(PathBuf::from(at)) } else { None });
    let around = Around {
        look: &Disk(PathBuf::new()),
        prefix: &Disk(prefix.clone().unwrap_or_default()),
        place,
        env: &|name| std::env::var(name).ok(),
        tool: &|name| {
            let output = std::process::Command::new(name).output().expect("the tool starts");
            String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
        },
    };
    meddle(&world, &name, "before");
    let seen = look_around(&words, &around);
    meddle(&world, &name, "after");
    if seen.poisoned || seen.missing {
        eprintln!("{name} fails");
        return ExitCode::FAILURE;
    }
    let made = made(&name, &words, &seen.report);
    write(&made.outputs, &Disk(PathBuf::new()));
    if let (Some(layer), Some(prefix)) = (&made.layer, prefix) {
        write(layer, &Disk(prefix));
    }
    for word in &words {
        if let Word::Out(Out::Depfile(path)) = word {
            let whole = words.contains(&Word::SpellOut);
            let spelled = |name: &String| if whole { spelled_out(place, name) } else { name.clone() };
            let names: Vec<String> = seen.found.keys().map(spelled).collect();
            fs::write(path, format!("{name}: {}\n", names.join(" \\\n  "))).expect("the depfile is written");
        }
    }
    journal.write("end");
    ExitCode::SUCCESS
}

/// The whole name of a file; a neighbour's as a person writes it, without `..`.
fn spelled_out(place: &str, name: &str) -> String {
    match name.strip_prefix("../") {
        Some(beside) => format!("{}/{beside}", place.rsplit_once('/').expect("a directory above").0),
        None => format!("{place}/{name}"),
    }
}

/// In two writes: who is killed in between leaves half of it.
fn write(tree: &Tree, disk: &Disk) {
    for (path, node) in &tree.0 {
        if let Node::File { bytes, mode } = node {
            disk.put(path, &Node::File { bytes: bytes[..bytes.len() / 2].to_vec(), mode: *mode })
                .expect("it is written");
        }
        disk.put(path, node).expect("it is written");
    }
}

struct Journal {
    file: fs::File,
    line: String,
}

impl Journal {
    fn open(world: &Path, name: &str, here: &Path) -> Self {
        // So an orphan of a killed build says that one's number, whenever it gets that far.
        let build = std::env::var(BUILD).expect("the number of the build");
        let worktree = here.file_name().and_then(|name| name.to_str()).expect("a directory with a name");
        let file = fs::OpenOptions::new().append(true).open(world.join("journal")).expect("the journal");
        Self { file, line: format!("{name} {worktree} {build}\n") }
    }

    fn write(&mut self, what: &str) {
        self.file.write_all(format!("{what} {}", self.line).as_bytes()).expect("a line");
    }
}

/// Does to the workspace what somebody does while a step runs: the first line is a path, the rest goes there.
/// Before it has looked around, or after.
fn meddle(world: &Path, name: &str, when: &str) {
    // An orphan of a killed build is not meant.
    let build = std::env::var(BUILD).expect("the number of the build");
    let order = world.join("meddle").join(format!("{name}.{when}.{build}"));
    let Ok(text) = fs::read_to_string(&order) else { return };
    let (path, bytes) = text.split_once('\n').expect("a path and a text");
    fs::remove_file(&order).expect("it is done once");
    fs::write(path, bytes).expect("it is written");
}
