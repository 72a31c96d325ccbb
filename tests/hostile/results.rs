//! Results of a store that somebody else can write to: whole by their checksums, and hostile. Each is a right one that
//! was changed and sealed again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bcache::action::{ActionKey, Content, Cost, Frame, Place, Places, SharedFile, Slice};
use bcache::base::digest::Digest;
use bcache::base::ids::StepId;
use bcache::base::sealed::Format;
use bcache::base::tree::{Entry, Node};
use serde::{Deserialize, Serialize};

use crate::sandbox::Sandbox;

const RESULT: Format = Format { magic: b"bc-reslt", version: 4 };

/// As `action::ActionResult`, with trees that nobody checks.
#[derive(Serialize, Deserialize)]
struct Result {
    key: ActionKey,
    step: StepId,
    bound_to: Option<String>,
    outputs: Vec<Entry>,
    layer: Option<Vec<Entry>>,
    shared: Vec<SharedFile>,
    places: Places,
    cost: Cost,
    created: u64,
    content: Content,
}

impl Result {
    /// Puts an empty file into the outputs, wherever that is in their order.
    fn add(&mut self, path: &str) {
        self.put(path, Node::File { mode: 0o644, size: 0, digest: Digest::of(b"") });
        self.content.files.insert(0, Slice { start: 0, len: 0 });
    }

    fn put(&mut self, path: &str, node: Node) {
        self.outputs.push(Entry { path: path.into(), node });
        self.outputs.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    }

    fn file(&mut self) -> &mut Node {
        &mut self.outputs.iter_mut().find(|entry| matches!(entry.node, Node::File { .. })).unwrap().node
    }
}

const TASKS: &str = "
[tasks.gen]
inputs = ['in']
outputs = ['out/']
run = '{ran} gen; mkdir -p out/sub; cp in out/a; cp in out/sub/b; echo said'
";

const LAYER: &str = "
[sysroots.main]
path = 'sysroot'
shared-files = ['share/dir']

[tasks.lib]
inputs = ['in']
sysroot = 'main'
run = '{ran} gen; mkdir -p sysroot/share; cp in sysroot/a; cp in sysroot/share/dir'
";

fn results(sandbox: &Sandbox) -> Vec<PathBuf> {
    let dirs = fs::read_dir(sandbox.store().join("v1/results")).unwrap().map(|dir| dir.unwrap().path());
    dirs.flat_map(|dir| fs::read_dir(dir).unwrap().map(|file| file.unwrap().path())).collect()
}

/// A worktree whose step ran, whose outputs and records are gone, and whose stored result was spoiled.
fn spoiled(tasks: &str, spoil: impl FnOnce(&mut Result)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "text").file("victim", "mine").file("dir/victim", "mine");
    let task = if tasks == LAYER { "lib" } else { "gen" };
    sandbox.run(&format!("build {task}")).success();
    let paths = results(&sandbox);
    assert_eq!(paths.len(), 1);
    let mut result: Result = RESULT.open(&fs::read(&paths[0]).unwrap()).unwrap();
    spoil(&mut result);
    fs::write(&paths[0], RESULT.seal(&result)).unwrap();
    forget(&sandbox);
    sandbox
}

fn forget(sandbox: &Sandbox) {
    for dir in ["out", ".bcache", "sysroot"].map(|dir| sandbox.at(dir)).iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).unwrap();
    }
}

/// All but the outputs, the state, the store and the log of what ran.
fn outside(sandbox: &Sandbox) -> Vec<String> {
    let ours = ["work/.bcache", "work/out", "work/sysroot", "store/", "ran "];
    let mut tree = sandbox.tree("..");
    tree.retain(|line| !ours.iter().any(|name| line.starts_with(name)));
    tree
}

const DROPPED: &str = "what the cache had for gen@host was damaged, or is not what it makes: dropped";

/// It is no answer: the step runs again, says why, and nothing else of the machine changes.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut Result)) {
    let sandbox = spoiled(TASKS, spoil);
    let before = outside(&sandbox);
    sandbox.limit_memory(2 << 30);
    sandbox.run("build gen").says(DROPPED).counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(outside(&sandbox), before);
    assert_eq!((sandbox.read("out/a"), sandbox.ran("gen")), ("text".to_owned(), 2));
}

#[test]
fn a_result_that_was_not_spoiled_is_restored() {
    let sandbox = spoiled(TASKS, |_| {});
    sandbox.run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    let sandbox = spoiled(LAYER, |_| {});
    sandbox.run("build lib").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.read("sysroot/share/dir"), "text");
}

#[test]
fn a_path_that_leads_out_is_no_path_of_a_result() {
    for path in ["../new", "out/../../new", "/tmp/bcache-new", "out//new", "out/./new", "out/new/", "", "out/a\0b"] {
        refused(|result| result.add(path));
    }
}

#[test]
fn a_path_that_the_step_does_not_declare_is_no_path_of_its_result() {
    for path in ["new", "dir/new", "victim", "tasks.toml", ".git/hooks/pre-commit", ".bcache/records/x", "out-new"] {
        refused(|result| result.add(path));
    }
    refused(|result| result.outputs.clear());
    refused(|result| result.layer = Some(Vec::new()));
    let dir = SharedFile { path: "../victim".into(), mode: 0o644, bytes: b"mine".to_vec() };
    refused(|result| result.shared.push(dir));
}

#[test]
fn a_tree_that_is_none_is_no_part_of_a_result() {
    let link = |to: &str| Node::Symlink { target: to.into() };
    refused(|result| {
        result.put("out/dir", link("../../dir"));
        result.add("out/dir/victim");
    });
    refused(|result| result.add("out/a/below"));
    refused(|result| result.add("out/a"));
    refused(|result| result.outputs.reverse());
    refused(|result| result.put("out/l", link("")));
    refused(|result| result.put("out/d", Node::Dir { mode: 0o10_0777 }));
    refused(|result| {
        result.put("out/sub", Node::Symlink { target: "../../dir".into() });
    });
}

#[test]
fn lengths_that_lie_are_no_part_of_a_result() {
    let frame = |result: &mut Result| result.content.frames[0].clone();
    refused(|result| result.content.files[0].start = u64::MAX);
    refused(|result| result.content.files[0].len = u64::MAX);
    refused(|result| result.content.files[1].start -= 1);
    refused(|result| result.content.files.truncate(1));
    refused(|result| result.content.frames.clear());
    refused(|result| result.content.frames[0].size = u64::MAX);
    refused(|result| result.content.frames[0].size = 5 << 20);
    refused(|result| {
        let frame = Frame { size: u64::MAX / 2, ..frame(result) };
        result.content.frames.extend([frame.clone(), frame.clone(), frame]);
    });
    refused(|result| {
        let log = result.content.log.as_mut().unwrap();
        log.len = u64::MAX - log.start;
    });
    refused(|result| {
        if let Node::File { size, .. } = result.file() {
            *size = 1 << 40;
        }
    });
}

#[test]
fn places_that_lie_are_no_part_of_a_result() {
    let spoil = |place: Place, entry: u32| {
        move |result: &mut Result| {
            result.layer = Some(Vec::new());
            let files = vec![bcache::action::FilePlaces { entry, is_text: false, places: vec![place] }];
            result.places = Places { placeholders: vec!["/x".repeat(96)], files };
        }
    };
    let place = Place { offset: 0, of: 0, start: 0, len: 1 };
    refused(spoil(place, 7));
    refused(spoil(Place { start: u32::MAX, len: u32::MAX, ..place }, 0));
    refused(spoil(Place { offset: u64::MAX, ..place }, 0));
    refused(spoil(Place { of: 9, ..place }, 0));
}

/// A log of many frames is small in a result, and was 4 GiB in memory.
#[test]
fn a_log_that_is_a_bomb_is_no_part_of_a_result() {
    refused(|result| {
        let zeros = vec![0; 4 << 20];
        let inline = Some(zstd::bulk::compress(&zeros, 1).unwrap());
        let frame = Frame { digest: Digest::of(&zeros), size: 4 << 20, inline };
        let log = result.content.log.as_mut().unwrap();
        log.len += 1024 * frame.size;
        result.content.frames.extend(std::iter::repeat_n(frame, 1024));
    });
}

/// What only the bytes can tell is found when they are used.
#[test]
fn bytes_that_are_not_what_the_tree_says_are_never_kept() {
    let spoils: [fn(&mut Result); 4] = [
        |result| {
            if let Node::File { digest, .. } = result.file() {
                *digest = Digest::of(b"other");
            }
        },
        |result| {
            let bytes = vec![0; 100 << 20];
            // Says that it is small.
            result.content.frames[0].inline = Some(zstd::bulk::compress(&bytes, 1).unwrap());
        },
        |result| result.content.frames[0].inline = Some(b"no zstd".to_vec()),
        |result| result.content.frames[0].inline = None,
    ];
    for spoil in spoils {
        let sandbox = spoiled(TASKS, spoil);
        sandbox.limit_memory(2 << 30);
        let before = outside(&sandbox);
        sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!((outside(&sandbox), sandbox.read("out/a")), (before, "text".to_owned()));
    }
}

#[test]
fn names_that_would_write_on_the_terminal_are_no_part_of_a_result() {
    refused(|result| result.step = StepId::new("\x1b]0;gotcha\x07", "host"));
    refused(|result| result.bound_to = Some("a\nb".to_owned()));
}

/// Legit: a link leads wherever it says, and set-user-id is kept. But nothing follows the link, then or later.
#[test]
fn a_link_out_is_restored_as_text_and_never_followed() {
    let sandbox = spoiled(TASKS, |result| {
        result.put("out/dir", Node::Symlink { target: "../dir".into() });
        result.put("out/root", Node::Symlink { target: "/".into() });
        result.put("out/up", Node::Symlink { target: "../..".into() });
        if let Node::File { mode, .. } = result.file() {
            *mode = 0o4755;
        }
    });
    let before = outside(&sandbox);
    sandbox.run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    assert!(sandbox.tree("out").contains(&"a 4755 text".to_owned()), "{:?}", sandbox.tree("out"));
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.run("cache verify").answers("0 damaged").success();
    sandbox.file("in", "more").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("in", "text").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.run("clean").success();
    assert!(!sandbox.exists("out/dir"));
    sandbox.file("in", "text");
    assert_eq!(outside(&sandbox), before);
}

/// Shared files of a prefix are written beside the layers, and a layer may hold a link there.
#[test]
fn a_shared_file_is_not_written_through_a_link_of_a_layer() {
    let sandbox = spoiled(LAYER, |result| {
        let layer = result.layer.as_mut().unwrap();
        layer.retain(|entry| !entry.path.starts_with("share"));
        layer.push(Entry { path: "share".into(), node: Node::Symlink { target: "../dir".into() } });
    });
    let before = outside(&sandbox);
    sandbox.run("build lib").says("is a symbolic link").success();
    assert_eq!(outside(&sandbox), before);
    assert!(!sandbox.exists("dir/dir"));
    // A file of somebody else with the same bytes is not removed through it either.
    sandbox.file("dir/dir", "text").run("clean").success();
    assert_eq!(sandbox.read("dir/dir"), "text");
}

#[test]
fn a_layer_that_leads_out_is_no_part_of_a_result() {
    for path in ["../victim", "a/../../victim", "/tmp/bcache-victim", "a/below"] {
        let sandbox = spoiled(LAYER, |result| {
            let node = Node::File { mode: 0o644, size: 0, digest: Digest::of(b"") };
            result.layer.as_mut().unwrap().push(Entry { path: path.into(), node });
            let end = result.content.files.last().map_or(0, |slice| slice.start + slice.len);
            result.content.files.push(Slice { start: end, len: 0 });
        });
        let before = outside(&sandbox);
        sandbox
            .run("build lib")
            .says("was damaged, or is not what it makes")
            .counts("0 fresh, 0 restored, 1 ran")
            .success();
        assert_eq!(outside(&sandbox), before);
    }
}

/// Where a result or a frame should be: nothing is followed, waited for or read without end.
#[test]
fn what_stands_in_the_place_of_a_result_and_is_no_file_is_dropped() {
    let stand_ins: [fn(&Path, &Path); 4] = [
        |at, victim| symlink(victim, at).unwrap(),
        |at, victim| symlink(victim.parent().unwrap(), at).unwrap(),
        |at, _| fs::create_dir_all(at.join("sub")).unwrap(),
        |at, _| rustix::fs::mkfifoat(rustix::fs::CWD, at, rustix::fs::Mode::from_raw_mode(0o600)).unwrap(),
    ];
    for stand_in in stand_ins {
        let sandbox = spoiled(TASKS, |_| {});
        let path = results(&sandbox).remove(0);
        fs::remove_file(&path).unwrap();
        stand_in(&path, &sandbox.at("dir/victim"));
        let before = outside(&sandbox);
        sandbox.run("cache stats").answers("results").success();
        sandbox.run("build gen").says(DROPPED).counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(outside(&sandbox), before);
    }
}

/// A collection has no business behind a link, and verification none.
#[test]
fn a_link_in_the_store_is_not_followed_by_collections() {
    let sandbox = spoiled(TASKS, |_| {});
    fs::create_dir(sandbox.at("dir/deep")).unwrap();
    for name in ["deep/.tmp-1", ".tmp-2", "a file"] {
        fs::write(sandbox.at("dir").join(name), "mine").unwrap();
    }
    for part in ["results", "frames", "paths"] {
        symlink(sandbox.at("dir"), sandbox.store().join("v1").join(part).join("link")).unwrap();
    }
    symlink(sandbox.at("dir/victim"), sandbox.store().join("v1/sources/link")).unwrap();
    symlink(sandbox.at("dir"), sandbox.store().join("v1/incoming-link")).unwrap();
    fs::create_dir_all(sandbox.store().join("v1/incoming")).unwrap();
    symlink(sandbox.at("dir"), sandbox.store().join("v1/incoming/1-1")).unwrap();
    let before = outside(&sandbox);
    sandbox.run("cache verify").answers("0 damaged").success();
    sandbox.env("BCACHE_LIMIT", "1kB").run("cache gc").success();
    sandbox.run("cache clean --yes").success();
    assert_eq!(outside(&sandbox), before);
}

/// A source is known by its checksum, not by its name.
#[test]
fn a_fetched_source_that_is_another_is_fetched_again() {
    let sandbox = Sandbox::new();
    let sum = "a".repeat(64);
    let url = "http://127.0.0.1:1/pkg.tar";
    sandbox.tasks(&format!("[tasks.pkg]\nsource = {{ url = '{url}', sha256 = '{sum}' }}\noutputs = ['o']\nrun = 'cp {{{{ step.source }}}}/a ../../../../o'\n"));
    fs::create_dir_all(sandbox.store().join("v1/sources")).unwrap();
    let tar = crate::tarball::Tar::new().file("pkg/a", "theirs").end();
    fs::write(sandbox.store().join("v1/sources").join(&sum), tar).unwrap();
    sandbox.run("build pkg").says("cannot fetch `http://127.0.0.1:1/pkg.tar`").exit(1);
    assert!(!sandbox.exists("o"));
}
