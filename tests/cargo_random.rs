//! Random edits of a workspace that cargo builds: the program always says what its sources say, nothing is built that need
//! not be, and what was there once comes back. `BCACHE_TEST_EDITS` says how many edits.

mod cargo_rig;
mod random;
mod sandbox;

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use cargo_rig::{FRESH, RAN, RESTORED, package, run, with_macro, workspace};
use random::Random;
use rustix::process::Signal;
use sandbox::Sandbox;

const WORDS: [&str; 3] = ["red", "tan", "sky"];

/// The things that the program shows, each with a number of choices.
const CHOICES: [usize; 10] = [3, 6, 3, 4, 3, 3, 3, 2, 2, 2];

/// The file of those that have one of their own.
const FILES: [Option<&str>; CHOICES.len()] = [
    Some("ws/part/src/lib.rs"),
    None,
    Some("ws/beside.txt"),
    None,
    Some("ws/maybe.txt"),
    Some("ws/part/untold.txt"),
    None,
    None,
    Some("ws/.cargo/config.toml"),
    Some("ws/Cargo.toml"),
];

/// What each of them is. A world that was there before is not built again.
type World = [usize; CHOICES.len()];

fn said(world: &World) -> String {
    let [word, module, beside, watched, maybe, untold, variable, loud, flag, checked] = *world;
    let watched = ["", "red", "red,sky", "red,sky,tan"][watched];
    let or_none = |choice: usize| if choice == 0 { "none" } else { WORDS[choice] };
    format!(
        "{} {} {} [{watched}] {} {} {} {} {} {}\n",
        WORDS[word],
        WORDS[module % 3],
        WORDS[beside],
        or_none(maybe),
        WORDS[untold],
        or_none(variable),
        loud == 1,
        flag == 1,
        checked == 1
    )
}

const MAIN: &str = r#"
fn main() {
    println!(
        "{} {} {} [{}] {} {} {} {} {} {}",
        part::WORD, part::module::WORD, part::BESIDE.trim(), part::WATCHED, part::MAYBE, part::UNTOLD,
        option_env!("SAY").unwrap_or("none"), cfg!(feature = "loud"), cfg!(flag), cfg!(debug_assertions)
    );
}
"#;

const SCRIPT: &str = r#"
use std::fs;
use std::path::Path;

fn words(dir: &Path, found: &mut Vec<String>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { words(&path, found) } else { found.push(fs::read_to_string(path).unwrap()) }
    }
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../watched");
    println!("cargo:rerun-if-changed=../maybe.txt");
    let mut found = Vec::new();
    words(Path::new("../watched"), &mut found);
    found.sort();
    println!("cargo:rustc-env=WATCHED={}", found.join(","));
    let maybe = fs::read_to_string("../maybe.txt");
    println!("cargo:rustc-env=MAYBE={}", maybe.as_deref().unwrap_or("none"));
}
"#;

/// One worktree, and what is known of it.
struct Tree {
    sandbox: Sandbox,
    world: World,
    /// Of the last build that ended, and whether its program still lies there.
    last: Option<World>,
    is_whole: bool,
    made: HashSet<World>,
    /// Worlds of killed builds, which may have come to their end.
    maybe: HashSet<World>,
}

impl Tree {
    fn new(sandbox: Sandbox) -> Self {
        let lints = "[features]\nloud = []\n[lints.rust]\nunexpected_cfgs = 'allow'\n";
        sandbox
            .file(
                "ws/hello/Cargo.toml",
                package("hello", &format!("{lints}[dependencies]\npart = {{ path = '../part' }}\n")),
            )
            .file("ws/hello/src/main.rs", MAIN)
            .file("ws/other/Cargo.toml", package("other", ""))
            .file("ws/other/src/lib.rs", "")
            .file("ws/part/build.rs", SCRIPT)
            .dir("ws/watched");
        with_macro(&sandbox);
        let tree = Self {
            sandbox,
            world: World::default(),
            last: None,
            is_whole: false,
            made: HashSet::new(),
            maybe: HashSet::new(),
        };
        (0..CHOICES.len()).for_each(|thing| drop(tree.put(thing)));
        tree
    }

    /// Writes one thing down as it is. Gives the files that were written.
    fn put(&self, thing: usize) -> Vec<&'static str> {
        let (sandbox, choice) = (&self.sandbox, self.world[thing]);
        let put = |path: &'static str, text: String| {
            sandbox.file(path, text);
            vec![path]
        };
        let put_or_remove = |path: &'static str, is_there: bool, text: &str| {
            let was_there = sandbox.at(path).exists();
            match is_there {
                true => put(path, text.to_owned()),
                false if was_there => {
                    fs::remove_file(sandbox.at(path)).unwrap();
                    // Nor does its directory stay, where it was for this file alone: that would be a change.
                    for dir in Path::new(path).ancestors().skip(1) {
                        if dir.ends_with("watched") || fs::remove_dir(sandbox.at(dir)).is_err() {
                            break;
                        }
                    }
                    Vec::new()
                }
                false => Vec::new(),
            }
        };
        match thing {
            0 => put(
                "ws/part/src/lib.rs",
                format!(
                    "pub mod module;\npub const WORD: &str = \"{}\";\npub const BESIDE: &str = include_str!(\"../../beside.txt\");\n\
                     pub const WATCHED: &str = env!(\"WATCHED\");\npub const MAYBE: &str = env!(\"MAYBE\");\n\
                     pub const UNTOLD: &str = macros::text_of!(\"untold.txt\");\n",
                    WORDS[choice]
                ),
            ),
            1 => {
                let [one, other] = ["ws/part/src/module.rs", "ws/part/src/module/mod.rs"];
                let (path, gone) = if choice < 3 { (one, other) } else { (other, one) };
                put_or_remove(gone, false, "");
                put(path, format!("pub const WORD: &str = \"{}\";\n", WORDS[choice % 3]))
            }
            2 => put("ws/beside.txt", format!("{}\n", WORDS[choice])),
            3 => [("ws/watched/a", 1, "red"), ("ws/watched/deep/b", 2, "sky"), ("ws/watched/deep/er/c", 3, "tan")]
                .into_iter()
                .flat_map(|(path, least, text)| put_or_remove(path, choice >= least, text))
                .collect(),
            4 => put_or_remove("ws/maybe.txt", choice > 0, WORDS[choice]),
            5 => put("ws/part/untold.txt", WORDS[choice].to_owned()),
            6 | 7 => {
                let env = if self.world[6] == 0 { String::new() } else { format!("SAY = '{}'", WORDS[self.world[6]]) };
                let features = if self.world[7] == 1 { "'loud'" } else { "" };
                sandbox.tasks(&format!(
                    "[tasks.hello]\ncargo = {{ workspace = 'ws', package = 'hello', features = [{features}] }}\nenv = {{ {env} }}\n"
                ));
                Vec::new()
            }
            8 => put_or_remove("ws/.cargo/config.toml", choice == 1, "[build]\nrustflags = ['--cfg', 'flag']\n"),
            _ => put(
                "ws/Cargo.toml",
                format!(
                    "[workspace]\nmembers = ['hello', 'part', 'other', 'macros']\nresolver = '3'\n\
                     [profile.dev]\ndebug-assertions = {}\n",
                    choice == 1
                ),
            ),
        }
    }

    fn edit(&mut self, random: &mut Random, log: &mut Vec<String>) {
        let thing = random.below(CHOICES.len());
        let before = |path: &str| fs::metadata(self.sandbox.at(path)).and_then(|there| there.modified()).ok();
        let stamp = FILES[thing].and_then(before);
        self.world[thing] = random.below(CHOICES[thing]);
        let written = self.put(thing);
        let time = match random.below(4) {
            0 => stamp,
            1 => Some(SystemTime::now() - Duration::from_secs(100_000_000)),
            _ => None,
        };
        for path in written {
            if let Some(time) = time {
                File::options().write(true).open(self.sandbox.at(path)).unwrap().set_modified(time).unwrap();
            }
        }
        log.push(format!("thing {thing} is {}, stamp {time:?}", self.world[thing]));
    }

    /// What must change nothing, or is built for nobody.
    fn meddle(&mut self, random: &mut Random, log: &mut Vec<String>) {
        let program = self.sandbox.at(".bcache/out/host/hello/hello");
        let said = match random.below(5) {
            0 => {
                self.sandbox.file("ws/other/src/lib.rs", format!("// {}", random.next()));
                "another package"
            }
            1 => {
                self.sandbox.file("ws/notes.md", format!("{}", random.next()));
                "a file beside"
            }
            2 if program.exists() => {
                fs::write(&program, "not a program").unwrap();
                self.is_whole = false;
                "the program is written over"
            }
            3 if program.exists() => {
                fs::remove_file(&program).unwrap();
                self.is_whole = false;
                "the program goes"
            }
            4 if self.sandbox.exists(".bcache/cargo") => {
                self.sandbox.remove(".bcache/cargo");
                "the target directory goes"
            }
            _ => return,
        };
        log.push(said.to_owned());
    }

    fn build(&mut self, random: &mut Random, log: &mut Vec<String>) {
        if random.chance(15) {
            let moment = Duration::from_millis(random.below(1200) as u64);
            log.push(format!("a build is killed after {moment:?}"));
            let build = self.sandbox.start("build hello");
            std::thread::sleep(moment);
            // It may have ended.
            build.signal(Signal::KILL);
            let _ = build.wait();
            self.maybe.insert(self.world);
            self.last = None;
            return;
        }
        log.push(format!("build of {:?}", self.world));
        let outcome = self.sandbox.run("build hello");
        let told = outcome.said().to_owned();
        outcome.success();
        let does = [FRESH, RESTORED, RAN].into_iter().find(|counts| told.trim_end().ends_with(counts)).expect(&told);
        let may_do: &[&str] = match self.last {
            Some(last) if last == self.world && self.is_whole => &[FRESH],
            _ if self.maybe.contains(&self.world) => &[FRESH, RESTORED, RAN],
            Some(_) if self.made.contains(&self.world) => &[RESTORED],
            // After a kill the record may still be of the same world.
            None if self.made.contains(&self.world) => &[FRESH, RESTORED],
            _ => &[RAN],
        };
        let program = run(Path::new(&self.sandbox.at(".bcache/out/host/hello/hello")));
        assert_eq!(program, said(&self.world), "{told}\n{}", log.join("\n"));
        assert!(may_do.contains(&does), "it should be one of {may_do:?}: {told}\n{}", log.join("\n"));
        self.made.insert(self.world);
        self.maybe.remove(&self.world);
        (self.last, self.is_whole) = (Some(self.world), true);
    }
}

#[test]
fn the_program_says_what_its_sources_say_whatever_is_edited() {
    let mut random = Random::new(random::seed());
    let edits = std::env::var("BCACHE_TEST_EDITS").map_or(40, |text| text.parse().expect("a number"));
    let first = workspace();
    let second = first.worktree("other");
    let mut trees = [Tree::new(first), Tree::new(second)];
    let mut log = Vec::new();
    for _ in 0..edits {
        let at = usize::from(random.chance(20));
        log.push(format!("-- worktree {at}"));
        let tree = &mut trees[at];
        tree.edit(&mut random, &mut log);
        if random.chance(25) {
            tree.meddle(&mut random, &mut log);
        }
        if random.chance(70) {
            tree.build(&mut random, &mut log);
        }
    }
    for tree in &mut trees {
        // Nothing is killed that is not asked for: both end with a program.
        while tree.last != Some(tree.world) || !tree.is_whole {
            tree.build(&mut random, &mut log);
        }
    }
    let builds = log.iter().filter(|line| line.starts_with("build of")).count();
    println!("{edits} edits, {builds} builds: no lie");
}
