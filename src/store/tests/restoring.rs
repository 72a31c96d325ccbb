use super::super::files::entries_of;
use super::*;

/// Outputs of many kinds; the same each time.
fn fill(rig: &Rig) {
    for i in 0..50 {
        rig.write(&format!("out/small/{i}"), noise(&i.to_string(), 40_000));
    }
    rig.write("out/big", noise("big", 9_000_000));
    rig.write("out/zero", "");
    set_mode(&rig.write("out/ro/file", "read only"), 0o444).unwrap();
    set_mode(&rig.write("out/tool", "#!/bin/sh\n"), 0o4755).unwrap();
    fs::create_dir_all(rig.path("out/empty")).unwrap();
    set_mode(&rig.path("out/ro"), 0o555).unwrap();
    symlink("small/1", rig.path("out/link")).unwrap();
    symlink("/none", rig.path("out/dangling")).unwrap();
}

fn wipe(rig: &Rig, path: &str) {
    files::remove_tree(&rig.path(path)).unwrap();
}

#[test]
fn a_restored_tree_is_exact() {
    let rig = Rig::new();
    fill(&rig);
    let result = rig.save("one", &["out"]);
    wipe(&rig, "out");
    let placed = rig.restore(&result, Before::default());
    let again = rig.capture(&["out"]).unwrap().snapshot;
    assert_eq!(again.made, result.made);
    assert_eq!(
        again.outputs.iter().map(|s| s.stat).collect::<Vec<_>>(),
        placed.seen.iter().map(|s| s.stat).collect::<Vec<_>>()
    );
    assert_eq!((placed.written, placed.bytes), (result.made.outputs.file_count(), result.made.outputs.size()));
    assert_eq!(
        entries_of(&rig.state.dir().join("tmp")).unwrap().iter().flat_map(|d| entries_of(&d.path()).unwrap()).count(),
        0
    );
    wipe(&rig, "out");
}

#[test]
fn what_is_there_already_keeps_its_file_and_mtime() {
    let rig = Rig::new();
    fill(&rig);
    let result = rig.save("one", &["out"]);
    let old = rig.restore(&result, Before::default());
    assert_eq!(old.written, 0);
    let begun = std::cell::Cell::new(0);
    let mut begin = || {
        begun.set(begun.get() + 1);
        Ok(())
    };
    let place = |begin: &mut dyn FnMut() -> _| {
        rig.store.materialize(&result, Part::Outputs, &rig.state, rig.root(), before(&result, &old), begin).unwrap()
    };
    place(&mut begin);
    assert_eq!(begun.get(), 0);
    let inode = stat(&rig.path("out/small/1")).ino;
    rig.write("out/small/7", noise("other", 40_000));
    set_mode(&rig.path("out/small/1"), 0o600).unwrap();
    let placed = place(&mut begin);
    assert_eq!((placed.written, begun.get()), (1, 1));
    let one = stat(&rig.path("out/small/1"));
    assert_eq!((one.ino, one.mode & 0o111), (inode, 0));
    assert_eq!(rig.capture(&["out"]).unwrap().snapshot.made, result.made);
    wipe(&rig, "out");
}

#[test]
fn recorded_files_that_are_no_longer_part_go_with_their_emptied_directories() {
    let rig = Rig::new();
    rig.write("out/a/b/gone", "1");
    rig.write("out/stays", "1");
    rig.write("gen/x", "1");
    let old = rig.save("old", &["out", "gen"]);
    let placed = rig.restore(&old, Before::default());
    wipe(&rig, "out/a");
    let new = rig.save("new", &["out"]);
    rig.restore(&old, Before::default());
    rig.write("out/a/mine", "of the user");
    let placed = rig.restore(&new, before(&old, &placed));
    assert_eq!(placed.removed, 2);
    assert_eq!(listing(&rig.path("out")), ["a/mine", "stays"]);
    assert!(!rig.path("out/a/b").exists() && !rig.path("gen").exists());
    assert_eq!(placed.aside, []);
}

#[test]
fn what_nobody_owns_is_set_aside_and_said_and_equal_files_are_taken_over() {
    let rig = Rig::new();
    rig.write("out/a", "made");
    rig.write("out/b", "made");
    let result = rig.save("one", &["out/a", "out/b"]);
    rig.write("out/a", "by the user");
    let inode = stat(&rig.path("out/b")).ino;
    let placed = rig.restore(&result, Before::default());
    assert_eq!(moved(&placed.aside), [(rig.path("out/a").as_path(), "by the user".to_owned())]);
    assert!(placed.aside[0].to.starts_with(rig.state.dir().join("aside")));
    assert_eq!((rig.read("out/a"), stat(&rig.path("out/b")).ino), ("made".to_owned(), inode));
}

#[test]
fn a_recorded_file_that_was_edited_is_replaced_without_ado() {
    let rig = Rig::new();
    rig.write("out/a", "made");
    let result = rig.save("one", &["out"]);
    let placed = rig.restore(&result, Before::default());
    rig.write("out/a", "edited");
    let placed = rig.restore(&result, before(&result, &placed));
    assert_eq!((placed.aside, rig.read("out/a")), (vec![], "made".to_owned()));
}

#[test]
fn files_directories_and_links_change_places() {
    let rig = Rig::new();
    rig.write("out/x", "file");
    rig.write("out/y/in/side", "dir");
    symlink("x", rig.path("out/z")).unwrap();
    let one = rig.save("one", &["out"]);
    let seen_one = rig.restore(&one, Before::default());
    wipe(&rig, "out");
    rig.write("out/x/deep/er", "dir");
    symlink("x", rig.path("out/y")).unwrap();
    rig.write("out/z", "file");
    let two = rig.save("two", &["out"]);
    let seen_two = rig.restore(&two, Before::default());
    for (result, old, seen) in [(&one, &two, &seen_two), (&two, &one, &seen_one), (&one, &two, &seen_two)] {
        let placed = rig.restore(result, before(old, seen));
        assert_eq!(placed.aside, []);
        assert_eq!(rig.capture(&["out"]).unwrap().snapshot.made, result.made);
    }
}

#[test]
fn a_directory_of_the_user_where_a_file_must_be_goes_aside_whole() {
    let rig = Rig::new();
    rig.write("out", "file");
    let result = rig.save("one", &["out"]);
    wipe(&rig, "out");
    rig.write("out/of/user", "kept");
    let placed = rig.restore(&result, Before::default());
    assert_eq!(fs::read_to_string(placed.aside[0].to.join("of/user")).unwrap(), "kept");
    assert_eq!(rig.read("out"), "file");
}

#[test]
fn a_file_of_the_user_where_a_directory_must_be_goes_aside() {
    let rig = Rig::new();
    rig.write("a/b/c", "made");
    let result = rig.save("one", &["a"]);
    wipe(&rig, "a");
    rig.write("a", "mine");
    let placed = rig.restore(&result, Before::default());
    assert_eq!(moved(&placed.aside), [(rig.path("a").as_path(), "mine".to_owned())]);
    assert_eq!(rig.read("a/b/c"), "made");
}

#[test]
fn nothing_is_written_or_removed_through_a_link() {
    let rig = Rig::new();
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    rig.write("out/a", "made");
    let result = rig.save("one", &["out/a"]);
    let placed = rig.restore(&result, Before::default());
    wipe(&rig, "out");
    fs::write(outside.join("a"), "precious").unwrap();
    symlink(&outside, rig.path("out")).unwrap();
    let error = rig.try_restore(&result, before(&result, &placed)).unwrap_err();
    assert!(matches!(error, StoreError::ThroughLink { link, .. } if link == rig.path("out")));
    remove_recorded(rig.root(), before(&result, &placed)).unwrap();
    assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "precious");
    // At the end of a path the link itself is replaced.
    fs::remove_file(rig.path("out")).unwrap();
    fs::create_dir(rig.path("out")).unwrap();
    symlink(outside.join("a"), rig.path("out/a")).unwrap();
    let placed = rig.restore(&result, Before::default());
    assert_eq!((placed.aside.len(), rig.read("out/a")), (1, "made".to_owned()));
    assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "precious");
}

#[test]
fn read_only_directories_are_filled_and_emptied_and_stay_read_only() {
    let rig = Rig::new();
    rig.write("out/ro/a", "1");
    rig.write("out/ro/b", "1");
    set_mode(&rig.path("out/ro"), 0o555).unwrap();
    let one = rig.save("one", &["out"]);
    let seen = rig.restore(&one, Before::default());
    set_mode(&rig.path("out/ro"), 0o755).unwrap();
    rig.write("out/ro/a", "2");
    fs::remove_file(rig.path("out/ro/b")).unwrap();
    set_mode(&rig.path("out/ro"), 0o555).unwrap();
    let two = rig.save("two", &["out"]);
    rig.restore(&one, Before::default());
    assert_eq!(stat(&rig.path("out/ro")).mode, 0o555);
    rig.restore(&two, before(&one, &seen));
    assert_eq!((rig.read("out/ro/a"), stat(&rig.path("out/ro")).mode), ("2".to_owned(), 0o555));
    let last = rig.restore(&two, Before::default());
    assert_eq!(remove_recorded(rig.root(), before(&two, &last)).unwrap(), 1);
    assert!(!rig.path("out").exists());
}

#[test]
fn a_directory_with_a_mode_of_its_own_becomes_plain_again() {
    let rig = Rig::new();
    rig.write("out/d/a", "1");
    set_mode(&rig.path("out/d"), 0o700).unwrap();
    let one = rig.save("one", &["out"]);
    let seen = rig.restore(&one, Before::default());
    set_mode(&rig.path("out/d"), 0o755).unwrap();
    let two = rig.save("two", &["out"]);
    set_mode(&rig.path("out/d"), 0o700).unwrap();
    rig.restore(&two, before(&one, &seen));
    assert_eq!(stat(&rig.path("out/d")).mode, 0o755);
}

#[test]
fn a_damaged_frame_is_noticed_dropped_and_no_half_file_is_seen() {
    for (name, len) in [("grouped", 100_000), ("alone", 2 << 20), ("in parts", 9 << 20)] {
        let rig = Rig::new();
        rig.write("out", noise("x", len));
        let result = rig.save(name, &["out"]);
        fs::remove_file(rig.path("out")).unwrap();
        let frame = rig.store.frame_path(&result.content.frames.last().unwrap().digest);
        let other = zstd::bulk::compress(&noise("y", result.content.frames.last().unwrap().size as usize), 1).unwrap();
        fs::write(&frame, other).unwrap();
        let error = rig.try_restore(&result, Before::default()).unwrap_err();
        assert!(error.is_lost(), "{name}: {error}");
        assert!(!rig.path("out").exists() && !frame.exists());
        rig.miss(name);
    }
}

#[test]
fn the_record_is_written_after_things_went_aside_and_before_anything_else_changes() {
    let rig = Rig::new();
    rig.write("out/a", "made");
    rig.write("out/b", "made");
    let result = rig.save("one", &["out"]);
    rig.write("out/a", "mine");
    fs::remove_file(rig.path("out/b")).unwrap();
    let mut begin = || {
        assert!(!rig.path("out/a").exists() && !rig.path("out/b").exists());
        Err(StoreError::Changed("stop".into()))
    };
    let error = rig.store.materialize(&result, Part::Outputs, &rig.state, rig.root(), Before::default(), &mut begin);
    assert!(error.is_err() && !rig.path("out/b").exists());
}

#[test]
fn a_layer_of_a_result_with_outputs_has_its_own_bytes() {
    let rig = Rig::new();
    rig.write("o/1", "output 1");
    rig.write("o/2", "output 2");
    rig.write("upper/lib/x", "layer x");
    rig.write("upper/lib/y", "layer y");
    let (outputs, upper) = ([PathBuf::from("o")], rig.path("upper"));
    let capture = Sources { upper: Some(&upper), log: Some(b"log"), ..rig.sources(&outputs) }.capture(&rig.store);
    let result = rig.commit("one", capture.unwrap());
    let dest = rig.path("prefix");
    let none = Before::default();
    rig.store.materialize(&result, Part::Layer, &rig.state, &dest, none, &mut || Ok(())).unwrap();
    assert_eq!((rig.read("prefix/lib/x"), rig.read("prefix/lib/y")), ("layer x".into(), "layer y".into()));
    assert_eq!(rig.store.log(&result).unwrap().unwrap(), b"log");
}
