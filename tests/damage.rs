//! Every kind of file that the program keeps, damaged in every way: never misread, never a panic, right in the end.
//!
//! What is damaged is found by building everything that `fault_rig/scenarios.rs` knows, so that no kind is forgotten.

#![cfg(target_os = "linux")]

mod fault_rig;
mod random;
mod sandbox;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fault_rig::scenarios::{SCENARIOS, Scenario};
use fault_rig::site::kind_of;
use sandbox::Sandbox;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    Empty,
    Half,
    Junk,
    /// One bit in the middle.
    Bit,
    OtherVersion,
    Directory,
    /// For everybody but root.
    Unreadable,
    Gone,
}

const DAMAGES: [Damage; 8] = [
    Damage::Empty,
    Damage::Half,
    Damage::Junk,
    Damage::Bit,
    Damage::OtherVersion,
    Damage::Directory,
    Damage::Unreadable,
    Damage::Gone,
];

impl Damage {
    fn happen(self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        match self {
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Half => fs::write(path, &bytes[..middle]).unwrap(),
            // As long as it was, and no two bytes of it alike.
            Self::Junk => fs::write(path, (0..bytes.len()).map(|i| (i * 167 + 13) as u8).collect::<Vec<_>>()).unwrap(),
            Self::Bit if bytes.is_empty() => fs::write(path, "x").unwrap(),
            Self::Bit => {
                fs::write(path, [&bytes[..middle], &[bytes[middle] ^ 1], &bytes[middle + 1..]].concat()).unwrap()
            }
            Self::OtherVersion if bytes.len() > 12 => {
                fs::write(path, [&bytes[..8], &[bytes[8] ^ 64], &bytes[9..]].concat()).unwrap()
            }
            Self::OtherVersion => fs::write(path, "2").unwrap(),
            Self::Directory => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
                fs::write(path.join("inside"), "x").unwrap();
            }
            Self::Unreadable => fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap(),
            Self::Gone => fs::remove_file(path).unwrap(),
        }
    }

    /// Something that people or other programs put there, and that may be said instead of mended.
    fn may_be_said(self) -> bool {
        matches!(self, Self::Directory | Self::Unreadable)
    }

    /// Takes away what it is fine to stumble over.
    fn undo(path: &Path) {
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else if path.exists() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// One file of each kind that lies in the state and in the store.
fn kinds(sandbox: &Sandbox) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![sandbox.at(".bcache"), sandbox.store()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = kind_of(path.strip_prefix(sandbox.root()).unwrap()).unwrap();
            match entry.file_type().unwrap() {
                // A target directory is cargo's own, and a build directory the step's.
                t if t.is_dir() && !["work/.bcache/cargo", "work/.bcache/work"].contains(&&*kind) => open.push(path),
                t if t.is_file() => drop(found.entry(kind).or_insert(path)),
                _ => {}
            }
        }
    }
    found
}

/// All outputs are gone, and with `state` all memory of them: what the store has must be read.
fn forget(sandbox: &Sandbox, scenario: &Scenario, state: bool) {
    for path in scenario.outputs.iter().filter(|path| sandbox.exists(path)) {
        sandbox.remove(path);
    }
    for path in [".bcache/proofs"].into_iter().chain(state.then_some(".bcache")).filter(|path| sandbox.exists(path)) {
        sandbox.remove(path);
    }
}

/// What the program says; as one whom permissions bind where that is what the damage is about.
fn said(sandbox: &Sandbox, words: &str, damage: Damage) -> String {
    let plain = sandbox.command(words);
    let mut command = Command::new("setpriv");
    if damage == Damage::Unreadable && rustix::process::geteuid().is_root() {
        command.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("panicked") && !text.contains("BUG:"), "{words}: {text}");
    text
}

/// Builds twice, the second time without outputs.
fn builds(sandbox: &Sandbox, scenario: &Scenario, wanted: &[String], damage: Damage) -> Result<(), String> {
    for lost in [false, true] {
        if lost {
            forget(sandbox, scenario, false);
        }
        let said = said(sandbox, scenario.command, damage);
        if !said.contains("Finished") {
            return Err(said);
        }
        let outputs = scenario.outputs_of(sandbox);
        assert_eq!(outputs, wanted, "a wrong answer:\n{said}");
    }
    Ok(())
}

/// Each kind of file in each of the ways that are chosen for it.
fn damage(name: &str, chosen: impl Fn(usize) -> Vec<Damage>) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    let sandbox = (scenario.prepare)();
    sandbox.run(scenario.command).success();
    let wanted = scenario.outputs_of(&sandbox);
    let kinds = kinds(&sandbox);
    for (number, (kind, path)) in kinds.iter().enumerate() {
        for damage in chosen(number) {
            // Another build may have given it another name. Without all its rights even root gets no view of this kind.
            let is_refused = damage == Damage::Unreadable && name == "moved" && rustix::process::geteuid().is_root();
            if is_refused || !path.is_file() {
                continue;
            }
            println!("{name}: {damage:?} {kind}");
            damage.happen(path);
            is_mended(&sandbox, scenario, &wanted, damage, path);
        }
    }
}

fn is_mended(sandbox: &Sandbox, scenario: &Scenario, wanted: &[String], damage: Damage, path: &Path) {
    forget(sandbox, scenario, path.starts_with(sandbox.store()));
    if ["v1/git", "v1/sources"].iter().any(|sources| path.starts_with(sandbox.store().join(sources))) {
        // They are read where a step runs.
        fs::remove_dir_all(sandbox.store().join("v1/results")).unwrap();
    }
    for question in ["plan", "cache list", "list"] {
        said(sandbox, question, damage);
    }
    if let Err(said) = builds(sandbox, scenario, wanted, damage) {
        assert!(damage.may_be_said() && said.contains(path.to_str().unwrap()), "{said}");
        println!("    it is said: {}", said.lines().find(|line| line.starts_with("error")).unwrap());
        Damage::undo(path);
        builds(sandbox, scenario, wanted, damage).unwrap_or_else(|said| panic!("with that mended: {said}"));
    }
    if damage.may_be_said() {
        Damage::undo(path);
    }
}

/// One way for each kind; all ways are seen.
fn some(number: usize) -> Vec<Damage> {
    vec![DAMAGES[number * 3 % DAMAGES.len()]]
}

#[test]
fn what_is_kept_of_a_chain_may_be_damaged() {
    damage("cold", some);
}

#[test]
fn what_is_kept_of_sources_may_be_damaged() {
    damage("sources", some);
}

#[test]
fn what_is_kept_of_a_relocatable_sysroot_may_be_damaged() {
    damage("moved", some);
}

#[test]
fn what_is_kept_of_a_commit_may_be_damaged() {
    damage("commit", some);
}

#[test]
#[ignore = "takes minutes: cargo bcache run faults"]
fn all_that_is_kept_may_be_damaged_in_every_way() {
    for name in ["cold", "sources", "commit", "moved", "zig", "cargo"] {
        damage(name, |_| DAMAGES.to_vec());
    }
}

/// Gives `bytes` to whoever asks, and counts them.
fn serve(bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, asked) = (format!("http://{}/x.tar", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            stream.write_all(&[head.as_bytes(), &bytes].concat()).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn an_archive_that_is_damaged_in_the_store_is_fetched_again_and_never_unpacked() {
    let sandbox = Sandbox::new();
    sandbox.file("top/x/a", "right\n");
    let tar =
        Command::new("tar").args(["-cf", "x.tar", "-C", "top", "x"]).current_dir(sandbox.work()).status().unwrap();
    assert!(tar.success());
    let bytes = fs::read(sandbox.at("x.tar")).unwrap();
    let sum = Command::new("sha256sum").arg(sandbox.at("x.tar")).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap()[..64].to_owned();
    let (url, asked) = serve(bytes.clone());
    sandbox.tasks(&format!(
        "[tasks.get]
source = {{ url = '{url}', sha256 = '{sum}' }}
inputs = ['in']
outputs = ['got']
run = 'cat {{{{ step.source }}}}/a > ../../../../../got'
"
    ));
    sandbox.file("in", "0").run("build get").counts("0 fresh, 0 restored, 1 ran").success();
    let kept = sandbox.store().join("v1/sources").join(sum);
    // To root nothing is unreadable.
    let is_real = |damage: &Damage| *damage != Damage::Unreadable || !rustix::process::geteuid().is_root();
    for (number, damage) in DAMAGES.into_iter().filter(is_real).enumerate() {
        damage.happen(&kept);
        sandbox.file("in", number.to_string()).run("build get --force=all").success();
        assert_eq!((sandbox.read("got").as_str(), fs::read(&kept).unwrap() == bytes), ("right\n", true), "{damage:?}");
        assert_eq!(asked.load(Ordering::SeqCst), number + 2, "{damage:?}");
    }
}

#[test]
fn what_others_put_into_the_store_stops_nothing() {
    let sandbox = fault_rig::scenarios::built();
    let store = sandbox.store().join("v1");
    for dir in ["", "results", "frames", "paths", "sources", "git"] {
        let dir = store.join(dir);
        fs::create_dir_all(dir.join("lost+found/deeper")).unwrap();
        for name in [".DS_Store", "notes.txt", "ab", "lost+found/ab"] {
            let _ = fs::write(dir.join(name), "not yours");
        }
    }
    // It says what is no result there, and takes it away.
    sandbox
        .run("cache verify")
        .stdout(
            "
damaged: [ROOT]/store/v1/results/lost+found/ab
damaged: [ROOT]/store/v1/results/lost+found/deeper
damaged: [ROOT]/store/v1/paths/lost+found/ab
damaged: [ROOT]/store/v1/paths/lost+found/deeper
4 results, 2 frames: 4 damaged
",
        )
        .exit(5);
    assert_eq!(sandbox.run("cache list").answered().lines().count(), 4);
    sandbox.run("cache verify").answers(": 0 damaged").success();
    sandbox.remove("out").run("build all").success();
    sandbox.run("cache gc").success();
    sandbox.remove("out").run("build all").counts("3 fresh, 1 restored, 0 ran").success();
    sandbox.env("BCACHE_LIMIT", "1kB").run("cache gc").success();
    sandbox.run("cache clean --yes").success();
    sandbox.run("build all").success();
}

#[test]
fn a_damaged_clone_in_the_store_never_makes_git_fetch_into_a_repository_around_it() {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == "commit").unwrap();
    let sandbox = (scenario.prepare)();
    let git = |words: &str| {
        let mut command = Command::new("git");
        command.args(words.split(' ')).current_dir(sandbox.root()).env("HOME", sandbox.root().join("home"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // As where somebody keeps their home in git.
    git("init -q -b mine");
    sandbox.run("build fetched").success();
    let clones = sandbox.store().join("v1/git");
    let clone = fs::read_dir(clones).unwrap().next().unwrap().unwrap().path();
    fs::write(clone.join("HEAD"), "damaged").unwrap();
    for path in fs::read_dir(clone.join("objects/pack")).unwrap() {
        fs::remove_file(path.unwrap().path()).unwrap();
    }
    let _ = sandbox.run("build fetched --force=all");
    assert_eq!(git("for-each-ref"), "", "fetched into what is not ours");
    sandbox.run("build fetched --force=all").success();
}
