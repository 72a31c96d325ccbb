//! Which files are read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::manifest::tests::{Dir, problems_of};

const HEAD: &str = "[bcache]\nversion = 1\n";

fn first(includes: &str) -> String {
    format!("include = {includes}\n{HEAD}")
}

fn task(name: &str) -> String {
    format!("[tasks.{name}]\nrun = \"x\"\n")
}

#[test]
fn a_file_without_bcache_is_passed_over_in_the_search_upwards() {
    let dir = Dir::new(&[
        ("tasks.toml", HEAD),
        ("a/tasks.toml", "[tasks.x]\nrun = '''\n[bcache]\n'''\n"),
        ("a/b/tasks.toml", "# [bcache] is above\n[tasks.y]\n"),
        ("a/b/c/file", ""),
    ]);
    assert_eq!(find(&dir.path().join("a/b/c")), Some(dir.path().join("tasks.toml")));
    fs::write(dir.path().join("a/tasks.toml"), " [ bcache ] # here\nversion = 1\nx = '''\n'''\n").unwrap();
    assert_eq!(find(&dir.path().join("a/b/c")), Some(dir.path().join("a/tasks.toml")));
}

#[test]
fn a_file_that_cannot_be_read_ends_the_search_and_is_said_by_load() {
    let dir = Dir::new(&[("tasks.toml", HEAD), ("a/b/file", "")]);
    fs::create_dir(dir.path().join("a/tasks.toml")).unwrap();
    let found = find(&dir.path().join("a/b")).unwrap();
    assert_eq!(found, dir.path().join("a/tasks.toml"));
    assert_eq!(
        problems_of(&load(&found).unwrap_err()),
        "tasks.toml:1:1 io: `tasks.toml` can't be read: it is a directory\n"
    );
}

#[test]
fn settings_are_seen_in_every_way_in_which_toml_writes_them() {
    for yes in [
        "[bcache]",
        "  [bcache]",
        "[ \"bcache\" ]\n",
        "bcache = {}",
        "bcache.version = 1",
        "\u{feff}[bcache]",
        "['bcache']",
    ] {
        assert!(has_settings(yes), "{yes:?}");
    }
    for no in ["", "[tasks.bcache]", "# [bcache]", "[bcachex]", "x = '''\n[bcache]\n'''", "x = \"bcache\""] {
        assert!(!has_settings(no), "{no:?}");
    }
}

#[test]
fn includes_are_relative_to_their_file_and_read_in_order() {
    let dir = Dir::new(&[
        ("tasks.toml", &first("[\"sub/a.toml\", \"b.toml\"]")),
        ("sub/a.toml", &format!("include = \"deep/c.toml\"\n{}", task("a"))),
        ("sub/deep/c.toml", &task("c")),
        ("b.toml", &task("b")),
    ]);
    let manifest = dir.load().unwrap();
    assert_eq!(manifest.tasks.keys().collect::<Vec<_>>(), ["a", "c", "b"]);
    let shown: Vec<_> = manifest.files.iter().map(|file| file.shown.as_str()).collect();
    assert_eq!(shown, ["tasks.toml", "sub/a.toml", "sub/deep/c.toml", "b.toml"]);
    let root = dir.path().canonicalize().unwrap();
    assert_eq!(manifest.root, root);
    assert_eq!(manifest.dir_of(manifest.tasks["c"].span.file), root.join("sub/deep"));
}

#[test]
fn a_file_included_from_two_places_is_read_once() {
    let dir = Dir::new(&[
        ("tasks.toml", &first("[\"a.toml\", \"b.toml\", \"./b.toml\", \"link.toml\"]")),
        ("a.toml", "include = \"sub/../c.toml\"\n"),
        ("b.toml", "include = \"c.toml\"\n"),
        ("c.toml", &task("c")),
        ("sub/x", ""),
    ]);
    symlink("c.toml", dir.path().join("link.toml")).unwrap();
    assert_eq!(dir.load().unwrap().files.len(), 4);
}

#[test]
fn files_that_include_each_other_are_shown_as_a_circle() {
    let dir = Dir::new(&[
        ("tasks.toml", &first("\"a.toml\"")),
        ("a.toml", "include = [\"sub/b.toml\", \"a.toml\"]\n"),
        ("sub/b.toml", "include = [\"../a.toml\", \"../tasks.toml\"]\n"),
    ]);
    insta::assert_snapshot!(problems_of(&dir.load().unwrap_err()));
}

#[test]
fn what_is_wrong_with_a_file_is_a_problem_like_others() {
    let dir = Dir::new(&[
        ("tasks.toml", &first("[\"none.toml\", \"dir\", \"latin1.toml\", \"good.toml\", \"whole.toml\"]")),
        ("dir/x", ""),
        ("good.toml", "[tasks.a]\nrunn = 1\n"),
        ("whole.toml", HEAD),
    ]);
    fs::write(dir.path().join("latin1.toml"), b"[tasks.b]\ndesc = \"caf\xe9\"\n").unwrap();
    insta::assert_snapshot!(problems_of(&dir.load().unwrap_err()));
}

#[test]
fn a_first_file_that_is_not_there_is_said_with_its_path() {
    let dir = Dir::new(&[]);
    let errors = dir.load().unwrap_err();
    let path = dir.path().join("tasks.toml");
    let message = format!("`{}` can't be read: there is no such file", path.display());
    assert_eq!(errors.problems[0].message, message);
    assert!(errors.render(false, 1000).contains(&message));
}

#[test]
fn a_file_without_permission_to_read_is_said() {
    let dir = Dir::new(&[("tasks.toml", HEAD)]);
    let path = dir.path().join("tasks.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        return; // root reads everything
    }
    assert_eq!(
        problems_of(&dir.load().unwrap_err()),
        "tasks.toml:1:1 io: `tasks.toml` can't be read: permission denied\n"
    );
    assert_eq!(find(dir.path()), Some(path));
}

#[test]
fn the_workspace_of_a_manifest_that_is_a_link_is_where_the_link_lies() {
    let dir = Dir::new(&[("real/my tasks.toml", HEAD), ("work/x", "")]);
    symlink("../real/my tasks.toml", dir.path().join("work/tasks.toml")).unwrap();
    symlink("work", dir.path().join("other")).unwrap();
    let manifest = load(&dir.path().join("other/tasks.toml")).unwrap();
    assert_eq!(manifest.root, dir.path().canonicalize().unwrap().join("work"));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_move_no_place() {
    let text = "\u{feff}[bcache]\r\nversion = 1\r\n[tasks.a]\r\nrun = \"\"\"\r\nmake {{ vars.é }}\r\n\"\"\"\r\n";
    let dir = Dir::new(&[("tasks.toml", text)]);
    assert_eq!(find(dir.path()), Some(dir.path().join("tasks.toml")));
    let errors = dir.load().unwrap_err();
    assert_eq!(problems_of(&errors).lines().next(), Some("tasks.toml:5:9 template: unexpected character"));
}
