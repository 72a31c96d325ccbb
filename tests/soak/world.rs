//! Worktrees of one manifest on one store, and what each step makes of which state.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::random::Random;

pub const MOST_JOBS: usize = 4;
/// Inputs of the workspace, and how many texts each can have.
const INPUTS: usize = 5;
const STATES: usize = 3;

/// A step by its name, what it reads, and how many milliseconds it takes.
struct Step {
    name: &'static str,
    reads: &'static [Read],
    takes: u32,
}

#[derive(Clone, Copy)]
enum Read {
    Input(usize),
    Step(&'static str),
}

use Read::{Input, Step as Of};

const STEPS: &[Step] = &[
    Step { name: "a", reads: &[Input(0)], takes: 10 },
    Step { name: "b", reads: &[Input(1)], takes: 30 },
    Step { name: "c", reads: &[Of("a"), Of("b")], takes: 5 },
    Step { name: "d", reads: &[Input(2), Of("a")], takes: 50 },
    Step { name: "e", reads: &[Input(3)], takes: 20 },
    Step { name: "f", reads: &[Of("c"), Of("e")], takes: 5 },
    // More than is kept in a result itself.
    Step { name: "big", reads: &[Of("d"), Of("f")], takes: 15 },
    // What it reads is found by its depfile.
    Step { name: "found", reads: &[Input(4)], takes: 10 },
    // Both into the prefix: `q` sees the layer of `p`.
    Step { name: "p", reads: &[Input(0)], takes: 5 },
    Step { name: "q", reads: &[Input(1), Of("p")], takes: 10 },
];

/// `step KEY OUT MILLIS IN…`: makes of the texts of IN a text of its own, in two writes. What a run says of itself is one line, so it
/// is written at once.
const SCRIPT: &str = r#"#!/bin/sh
name=$1 out=$2 millis=$3
shift 3
text=$name
for in; do read -r first <"$in"; text="$text($first)"; done
echo "begin $$ $text" >>JOURNAL
case $name in found) printf '%s: %s\n' "$out" "$1" >"$out.d" ;; esac
echo "$text" >"$out"
sleep "0.0$millis"
case $name in
big) head -c 90000 /dev/zero | tr '\0' x >>"$out" ;;
esac
echo "$text" >>"$out"
echo "end $$ $text" >>JOURNAL
"#;

pub struct World {
    root: tempfile::TempDir,
    pub worktrees: Vec<Worktree>,
}

/// A worktree; nobody edits it while somebody builds.
pub struct Worktree {
    pub dir: PathBuf,
    pub state: RwLock<[usize; INPUTS]>,
    /// How often somebody began to clean it, or had ended: odd as long as somebody does. What is built meanwhile may be gone.
    pub cleaned: AtomicU64,
}

impl World {
    pub fn new(worktrees: usize, random: &mut Random) -> Self {
        let root = tempfile::Builder::new().prefix("bcache-soak-").tempdir().unwrap();
        let mut world = Self { root, worktrees: Vec::new() };
        for dir in ["home", "bin", "tmp"] {
            fs::create_dir(world.path().join(dir)).unwrap();
        }
        for dir in world.results() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
        }
        fs::write(world.journal(), "").unwrap();
        let script = world.path().join("bin/step");
        fs::write(&script, SCRIPT.replace("JOURNAL", world.journal().to_str().unwrap())).unwrap();
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        for i in 0..worktrees {
            let dir = world.path().join(format!("w{i}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("tasks.toml"), manifest()).unwrap();
            let state = [(); INPUTS].map(|()| random.below(STATES));
            let worktree = Worktree { dir, state: RwLock::new(state), cleaned: AtomicU64::new(0) };
            (0..INPUTS).for_each(|input| worktree.write(input, state[input]));
            world.worktrees.push(worktree);
        }
        world
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    pub fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    /// The directories of the store that results come into.
    pub fn results(&self) -> Vec<PathBuf> {
        let digits = "0123456789abcdef".chars();
        digits.map(|digit| self.path().join("store/v1/results").join(digit.to_string())).collect()
    }

    /// The program, with nothing of the machine's environment.
    pub fn program(&self, dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-bcache"));
        let path = |name: &str| self.path().join(name);
        command.current_dir(dir).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", format!("{}:/usr/bin:/bin", path("bin").display())).env("HOME", path("home"));
        command.env("BCACHE_HOME", path("store")).env("TMPDIR", path("tmp")).env("LANG", "C.UTF-8");
        command
    }

    pub fn dir(&self) -> &Path {
        self.path()
    }
}

impl Worktree {
    fn write(&self, input: usize, state: usize) {
        fs::write(self.dir.join(format!("in{input}")), format!("{input}.{state}\n")).unwrap();
    }

    /// One input gets another text, or that which it had once.
    pub fn edit(&self, random: &mut Random) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let input = random.below(INPUTS);
        state[input] = random.below(STATES);
        self.write(input, state[input]);
    }

    /// What is not as a build of this state leaves it.
    pub fn wrong(&self, state: &[usize; INPUTS]) -> Option<String> {
        STEPS.iter().find_map(|step| {
            let path = self.dir.join(out(step.name).replace("{{ sysroot.prefix }}", "prefix"));
            let text = self.text(step, state);
            let filling = if step.name == "big" { "x".repeat(90_000) } else { String::new() };
            let expected = format!("{text}\n{filling}{text}\n");
            let found = fs::read_to_string(&path).unwrap_or_else(|e| e.to_string());
            let show = |text: &str| text.chars().take(200).collect::<String>();
            (found != expected).then(|| format!("{}: {} instead of {}", path.display(), show(&found), show(&expected)))
        })
    }

    fn text(&self, step: &Step, state: &[usize; INPUTS]) -> String {
        let read = |read: &Read| match read {
            Input(at) => format!("({at}.{})", state[*at]),
            Of(name) => {
                let other = STEPS.iter().find(|step| step.name == *name).unwrap();
                format!("({})", self.text(other, state))
            }
        };
        // An installed file may hold the path of its prefix, so that is part of a key.
        let place = if is_installed(step.name) { self.dir.join("prefix").display().to_string() } else { String::new() };
        let name = format!("{}{place}", step.name);
        step.reads.iter().fold(name, |text, from| text + &read(from))
    }

    pub fn begin_to_clean(&self) {
        self.cleaned.fetch_add(1, Ordering::SeqCst);
    }

    pub fn end_to_clean(&self) {
        self.cleaned.fetch_add(1, Ordering::SeqCst);
    }
}

fn is_installed(name: &str) -> bool {
    matches!(name, "p" | "q")
}

fn out(name: &str) -> String {
    if is_installed(name) { format!("{{{{ sysroot.prefix }}}}/{name}") } else { format!("out/{name}") }
}

fn manifest() -> String {
    let mut text = "bcache = { version = 1, default = 'all' }\nsysroots.root.path = 'prefix'\n".to_owned();
    for Step { name, reads, takes } in STEPS {
        let path = |read: &Read| match read {
            Input(at) => format!("in{at}"),
            Of(name) => out(name),
        };
        let paths: Vec<String> = reads.iter().map(path).collect();
        let place = if is_installed(name) { "{{ sysroot.prefix }}" } else { "" };
        text += &format!(
            "[tasks.{name}]\ntools = ['step']\nrun = 'step {name}{place} {} {takes:02} {}'\n",
            out(name),
            paths.join(" ")
        );
        let needs: Vec<String> =
            reads.iter().filter_map(|r| if let Of(name) = r { Some(format!("'{name}'")) } else { None }).collect();
        text += &format!("needs = [{}]\n", needs.join(", "));
        let inputs: Vec<String> =
            reads.iter().filter_map(|r| if let Input(_) = r { Some(format!("'{}'", path(r))) } else { None }).collect();
        text += &match *name {
            "found" => "depfile = 'out/found.d'\noutputs = ['out/found']\n".to_owned(),
            _ if is_installed(name) => format!("sysroot = 'root'\ninputs = [{}]\n", inputs.join(", ")),
            _ => format!("inputs = [{}]\noutputs = ['{}']\n", inputs.join(", "), out(name)),
        };
    }
    let all: Vec<String> = STEPS.iter().map(|step| format!("'{}'", step.name)).collect();
    text + &format!("[tasks.all]\nneeds = [{}]\n", all.join(", "))
}
