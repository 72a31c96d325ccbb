use super::*;

#[test]
fn what_was_committed_is_found_and_another_key_is_a_miss() {
    let rig = Rig::new();
    rig.write("out/a", "text");
    let committed = rig.save("one", &["out"]);
    assert_eq!(rig.hit("one"), committed);
    assert!(!rig.has("two"));
}

#[test]
fn a_small_entry_is_one_file_in_the_store() {
    let rig = Rig::new();
    rig.write("a", noise("a", 60_000));
    let result = rig.save("one", &["a"]);
    assert!(result.content.frames[0].inline.is_some());
    assert_eq!(listing(&rig.store.root().join("frames")), [""; 0]);
    assert_eq!(listing(&rig.store.root().join("results")).len(), 1);
}

#[test]
fn equal_big_files_and_equal_groups_are_stored_once() {
    let rig = Rig::new();
    for i in 0..40 {
        rig.write(&format!("one/small/{i}"), noise(&i.to_string(), 10_000));
        rig.write(&format!("two/small/{i}"), noise(&i.to_string(), 10_000));
    }
    rig.write("one/big", noise("big", 9 << 20));
    rig.write("two/big", noise("big", 9 << 20));
    let one = rig.save("one", &["one"]);
    let frames = listing(&rig.store.root().join("frames"));
    // 4 + 4 + 1 MiB, and a group.
    assert_eq!((one.content.frames.len(), frames.len()), (4, 4));
    rig.save("two", &["two"]);
    assert_eq!(listing(&rig.store.root().join("frames")), frames);
    assert_eq!(fs::read_dir(rig.store.root().join("incoming")).unwrap().count(), 0);
}

#[test]
fn frames_are_at_most_4_mib_and_groups_at_most_1() {
    let rig = Rig::new();
    for i in 0..30 {
        rig.write(&format!("out/{i}"), noise(&i.to_string(), 100_000 + 40_000 * (i % 7)));
    }
    rig.write("out/5-big", noise("big", (5 << 20) + 1));
    let result = rig.save("one", &["out"]);
    let sizes: Vec<u64> = result.content.frames.iter().map(|f| f.size).collect();
    assert_eq!(sizes.iter().filter(|s| **s > 1 << 20).collect::<Vec<_>>(), [&(4u64 << 20), &((1 << 20) + 1)]);
    assert_eq!(sizes.iter().sum::<u64>(), result.made.outputs.size());
}

#[test]
fn a_snapshot_says_the_same_as_a_capture_and_stores_nothing() {
    let rig = Rig::new();
    rig.write("out/a", noise("a", 200_000));
    rig.write("out/b", noise("b", 3 << 20));
    symlink("nowhere", rig.path("out/link")).unwrap();
    fs::create_dir(rig.path("out/empty")).unwrap();
    let outputs = [PathBuf::from("out")];
    let snapshot = rig.sources(&outputs).snapshot().unwrap();
    assert_eq!(listing(rig.store.root()), [""; 0]);
    let capture = rig.sources(&outputs).capture(&rig.store).unwrap();
    assert_eq!(snapshot.made, capture.snapshot.made);
    let seen: Vec<_> = snapshot.outputs.iter().map(|s| s.stat).collect();
    assert_eq!(seen, capture.snapshot.outputs.iter().map(|s| s.stat).collect::<Vec<_>>());
    assert_eq!(seen.len(), snapshot.made.outputs.entries().len());
}

#[test]
fn a_dropped_capture_leaves_nothing() {
    let rig = Rig::new();
    rig.write("out", noise("a", 2 << 20));
    drop(rig.capture(&["out"]).unwrap());
    assert_eq!(listing(rig.store.root()), [""; 0]);
}

#[test]
fn the_tree_holds_modes_links_and_empty_directories_in_byte_order() {
    let rig = Rig::new();
    set_mode(&rig.write("d/a-b", "1"), 0o755).unwrap();
    set_mode(&rig.write("d/a/x", "2"), 0o444).unwrap();
    fs::create_dir(rig.path("d/empty")).unwrap();
    set_mode(&rig.path("d/empty"), 0o755).unwrap();
    set_mode(&rig.path("d/a"), 0o2750).unwrap();
    set_mode(&rig.path("d"), 0o755).unwrap();
    symlink("../else where", rig.path("d/link")).unwrap();
    let tree = rig.capture(&["d"]).unwrap().snapshot.made.outputs;
    let shown: Vec<String> = tree.entries().iter().map(|e| format!("{} {:?}", e.path.display(), e.node)).collect();
    assert_eq!(
        shown.iter().map(|s| s.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["d/a", "d/a-b", "d/a/x", "d/empty", "d/link"]
    );
    assert_eq!(shown[0], format!("d/a Dir {{ mode: {} }}", 0o2750));
    assert_eq!(shown[4], "d/link Symlink { target: \"../else where\" }");
}

#[test]
fn overlapping_outputs_are_captured_once() {
    let rig = Rig::new();
    rig.write("out/a/b", "1");
    let tree = rig.capture(&["out/a/b", "out", "out/a", "out"]).unwrap().snapshot.made.outputs;
    assert_eq!(tree.file_count(), 1);
}

#[test]
fn what_is_absent_special_or_behind_a_link_is_an_error_with_its_path() {
    let rig = Rig::new();
    rig.write("real/a", "1");
    symlink("real", rig.path("linked")).unwrap();
    let error = |outputs: &[&str]| rig.capture(outputs).unwrap_err().to_string();
    assert!(error(&["none"]).ends_with("none` was not made"));
    assert!(error(&["linked/a"]).ends_with("linked` is a symbolic link"));
    assert!(error(&["../a"]).starts_with("`../a` is not a path below"));
    let _socket = std::os::unix::net::UnixListener::bind(rig.path("real/s")).unwrap();
    assert!(error(&["real"]).ends_with("real/s` is neither a file, a directory nor a symbolic link"));
}

#[test]
fn a_file_that_changes_between_the_look_and_the_read_is_an_error() {
    let rig = Rig::new();
    let path = rig.write("out/a", "1234");
    let mut walk = walk::Walk::of(rig.root(), &["out".into()]).unwrap();
    walk.check_unchanged(rig.root()).unwrap();
    rig.write("out/b", "new in a listed directory");
    assert!(matches!(walk.check_unchanged(rig.root()), Err(StoreError::Changed(p)) if p == rig.path("out")));
    walk = walk::Walk::of(rig.root(), &["out/a".into()]).unwrap();
    fs::write(&path, "12345").unwrap();
    assert!(matches!(walk.check_unchanged(rig.root()), Err(StoreError::Changed(p)) if p == path));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error_or_a_beginning_of_it() {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    let rig = Rig::new();
    let whole = noise("a log of a process that nobody waited for", 64 << 20);
    let path = rig.write("out/log", &whole[..9 << 20]);
    let is_over = AtomicBool::new(false);
    let (mut changed, mut kept) = (0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            for bytes in whole[9 << 20..].chunks(4096) {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all(bytes).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        for round in 0..10 {
            match rig.capture(&["out"]) {
                Err(StoreError::Changed(which)) => {
                    assert_eq!(which, path);
                    changed += 1;
                }
                captured => kept.push(rig.commit(&format!("round {round}"), captured.unwrap())),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(changed > 0, "{} captures of a growing file, and none noticed", kept.len());
    kept.push(rig.save("at rest", &["out"]));
    for result in kept {
        fs::remove_file(&path).unwrap();
        rig.restore(&result, Before { tree: None, seen: &[] });
        assert!(whole.starts_with(&fs::read(&path).unwrap()), "another file came back");
    }
}

#[test]
fn names_that_are_not_utf_8_and_newlines_come_back() {
    let rig = Rig::new();
    let odd = OsStr::from_bytes(b"a\n \xff'b");
    fs::create_dir(rig.path("out")).unwrap();
    fs::write(rig.path("out").join(odd), "odd").unwrap();
    symlink(odd, rig.path("out/link")).unwrap();
    let result = rig.save("one", &["out"]);
    fs::remove_dir_all(rig.path("out")).unwrap();
    rig.restore(&rig.hit("one"), Before::default());
    assert_eq!(fs::read(rig.path("out").join(odd)).unwrap(), b"odd");
    assert_eq!(fs::read_link(rig.path("out/link")).unwrap(), odd);
    assert_eq!(rig.capture(&["out"]).unwrap().snapshot.made, result.made);
}

#[test]
fn the_log_comes_back_small_and_big() {
    let rig = Rig::new();
    rig.write("a", "x");
    for (name, log) in [("small", noise("s", 10)), ("big", noise("b", 6 << 20)), ("empty", Vec::new())] {
        let outputs = [PathBuf::from("a")];
        let capture = Sources { log: Some(&log), ..rig.sources(&outputs) }.capture(&rig.store).unwrap();
        rig.commit(name, capture);
        assert_eq!(rig.store.log(&rig.hit(name)).unwrap(), Some(log), "{name}");
    }
    let none = rig.save("none", &["a"]);
    assert_eq!(rig.store.log(&none).unwrap(), None);
}

#[test]
fn shared_files_are_no_part_of_a_captured_layer() {
    let rig = Rig::new();
    let upper = rig.path("upper");
    rig.write("upper/share/info/dir", "1");
    rig.write("upper/bin/x", "2");
    let except = [PathBuf::from("share/info/dir")];
    let sources = Sources { upper: Some(&upper), except: &except, ..rig.sources(&[]) };
    let layer = sources.snapshot().unwrap().made.layer.unwrap();
    assert_eq!(layer.entries().iter().map(|e| e.path.to_str().unwrap()).collect::<Vec<_>>(), ["bin/x"]);
}

#[test]
fn a_damaged_result_is_a_miss_and_gone() {
    let rig = Rig::new();
    rig.write("a", "x");
    rig.save("one", &["a"]);
    let path = rig.store.result_path(&key("one"));
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    rig.miss("one");
    assert!(!path.exists());
}

#[test]
fn a_result_of_another_version_is_a_miss_and_stays() {
    let rig = Rig::new();
    rig.write("a", "x");
    let result = rig.save("one", &["a"]);
    let path = rig.store.result_path(&key("one"));
    let newer = crate::base::sealed::Format { version: 99, ..results::RESULT };
    fs::write(&path, newer.seal(&result)).unwrap();
    rig.miss("one");
    assert!(path.exists());
    rig.save("one", &["a"]);
    assert_eq!(rig.hit("one").made, result.made);
}

#[test]
fn a_result_under_anothers_name_is_a_miss() {
    let rig = Rig::new();
    rig.write("a", "x");
    rig.save("one", &["a"]);
    let (from, to) = (rig.store.result_path(&key("one")), rig.store.result_path(&key("two")));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    rig.miss("two");
}

#[test]
fn a_result_that_would_write_outside_is_a_miss() {
    let rig = Rig::new();
    rig.write("a", "x");
    let mut result = rig.save("one", &["a"]);
    let mut entry = result.made.outputs.entries()[0].clone();
    entry.path = "../a".into();
    result.made.outputs = crate::base::tree::Tree::new(vec![entry]);
    fs::write(rig.store.result_path(&key("one")), results::RESULT.seal(&result)).unwrap();
    rig.miss("one");
}

#[test]
fn a_result_without_its_frames_is_a_miss() {
    let rig = Rig::new();
    rig.write("a", noise("a", 100_000));
    let result = rig.save("one", &["a"]);
    fs::remove_file(rig.store.frame_path(&result.content.frames[0].digest)).unwrap();
    rig.miss("one");
    rig.save("one", &["a"]);
    assert!(rig.has("one"));
}

#[test]
fn the_format_of_a_result_is_pinned() {
    use crate::action::*;
    use crate::base::tree::{Entry, Node, Tree};
    let node = Node::File { mode: 0o644, size: 1, digest: Digest::of(b"x") };
    let outputs = Tree::new(vec![Entry { path: "a".into(), node }]);
    let frame = Frame { digest: Digest::of(b"x"), size: 1, inline: Some(vec![1, 2]) };
    let result = ActionResult {
        key: key("k"),
        step: step("s"),
        bound_to: None,
        made: Made { outputs, ..Made::default() },
        cost: Cost { millis: 7, peak_memory: Some(8) },
        created: 9,
        content: Content { frames: vec![frame], log: None, files: vec![Slice { start: 0, len: 1 }] },
    };
    assert_eq!(Digest::of(&results::RESULT.seal(&result)).short(), "d955a5a76e50");
}

#[test]
fn many_threads_save_and_find_the_same_things() {
    let rig = Rig::new();
    for i in 0..8 {
        rig.write(&format!("{i}"), noise(&(i % 2).to_string(), 300_000));
    }
    std::thread::scope(|scope| {
        for i in 0..8 {
            let rig = &rig;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("{}", (i + round) % 4);
                    if let Lookup::Miss(permit) = rig.store.lookup(&key(&name)).unwrap() {
                        let output = ((i + round) % 4).to_string();
                        let capture = rig.capture(&[&output]).unwrap();
                        rig.store.commit(permit, capture, &step(&name), Cost::default()).unwrap();
                    }
                    assert!(rig.has(&name));
                }
            });
        }
    });
    assert_eq!(listing(&rig.store.root().join("frames")).len(), 2);
    assert_eq!(rig.store.verify().unwrap().damaged, []);
}

/// A commit of what `capture` found that can't write its result.
fn commit_in_vain(rig: &Rig, name: &str, capture: Capture) {
    let permit = rig.miss(name);
    let shelf = rig.store.result_path(&key(name)).parent().unwrap().to_owned();
    fs::create_dir_all(shelf.parent().unwrap()).unwrap();
    fs::write(&shelf, "in the way").unwrap();
    assert!(rig.store.commit(permit, capture, &step(name), Cost::default()).is_err());
    fs::remove_file(shelf).unwrap();
}

#[test]
fn a_commit_that_fails_leaves_the_frames_that_another_result_needs_and_takes_its_own_away() {
    let rig = Rig::new();
    rig.write("a", noise("a", 100_000));
    let (mine, other) = (rig.capture(&["a"]).unwrap(), rig.capture(&["a"]).unwrap());
    // Results of the two lie in different directories.
    let names = ["one", "two", "three", "four"];
    let shelf = |name: &str| rig.store.result_path(&key(name)).parent().unwrap().to_owned();
    let apart = names.into_iter().find(|name| shelf(name) != shelf("one")).unwrap();
    rig.commit(apart, other);
    commit_in_vain(&rig, "one", mine);
    assert!(rig.has(apart), "its frame is gone");
    rig.write("a", noise("b", 100_000));
    commit_in_vain(&rig, "one", rig.capture(&["a"]).unwrap());
    assert_eq!(listing(&rig.store.root().join("frames")).len(), 1);
}
