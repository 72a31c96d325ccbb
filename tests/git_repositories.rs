//! The identity of a working copy: repositories inside others, homes, commits, and what can go wrong.

mod git_rig;

use bcache::fingerprint::env::Outside;
use bcache::fingerprint::git::{Git, Scope};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use git_rig::*;

#[test]
fn submodules_count_by_their_commit_and_by_what_is_dirty_in_them() {
    let repo = Repo::new();
    let sub = repo.dir.path().join("lib");
    fs::create_dir(&sub).unwrap();
    repo.git_in(&sub, &["init", "-q", "-b", "main"]);
    fs::write(sub.join("f"), "1").unwrap();
    fs::write(sub.join(".gitignore"), "*.o\n").unwrap();
    repo.git_in(&sub, &["add", "-A"]);
    repo.git_in(&sub, &["commit", "-q", "-m", "x"]);
    repo.git(&["submodule", "--quiet", "add", sub.to_str().unwrap(), "vendor/lib"]);
    repo.commit();
    let clean = as_git(&repo);
    repo.write("vendor/lib/f", "2");
    let dirty = repo.tree();
    assert_ne!(dirty, clean);
    assert_eq!(repo.tree_anew(), dirty);
    repo.write("vendor/lib/g", "untracked");
    assert_ne!(repo.tree(), dirty);
    fs::remove_file(repo.at("vendor/lib/g")).unwrap();
    repo.write("vendor/lib/x.o", "ignored");
    assert_eq!(repo.tree(), dirty);
    repo.write("vendor/lib/f", "1");
    assert_eq!(as_git(&repo), clean);
    repo.write("vendor/lib/f", "3");
    repo.git_in(&repo.at("vendor/lib"), &["-c", "user.name=a", "commit", "-q", "-a", "-m", "y"]);
    let committed = as_git(&repo);
    assert_ne!(committed, clean);
    // Not fetched: its commit.
    repo.git(&["checkout", "-q", "--", "vendor"]);
    repo.git(&["submodule", "--quiet", "update"]);
    assert_eq!(as_git(&repo), clean);
    repo.git(&["submodule", "--quiet", "deinit", "-f", "vendor/lib"]);
    assert_eq!(as_git(&repo), clean);
}

#[test]
fn a_repository_inside_that_is_no_submodule_counts_as_one() {
    let repo = Repo::new();
    repo.write("a", "1");
    let inner = repo.at("inner");
    fs::create_dir(&inner).unwrap();
    repo.git_in(&inner, &["init", "-q", "-b", "main"]);
    fs::write(inner.join("f"), "1").unwrap();
    repo.git_in(&inner, &["add", "-A"]);
    let unborn = repo.tree();
    repo.git_in(&inner, &["commit", "-q", "-m", "x"]);
    let clean = as_git(&repo);
    assert_ne!(clean, unborn);
    fs::write(inner.join("f"), "2").unwrap();
    assert_ne!(repo.tree(), clean);
    fs::remove_dir_all(inner.join(".git")).unwrap();
    as_git(&repo);
}

#[test]
fn a_repository_that_comes_to_be_nearer_is_the_one_that_is_asked() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\n");
    repo.write("a/b/c/f", "1");
    repo.write("a/b/c/d/x.log", "1");
    let first = part(&repo, "a/b/c", &[]).unwrap();
    for nearer in ["a", "a/b", "a/b/c"] {
        repo.git_in(&repo.at(nearer), &["init", "-q"]);
        let second = part(&repo, "a/b/c", &[]).unwrap();
        assert_ne!(second, first, "{nearer}: its rules are no more");
        fs::remove_dir_all(repo.at(nearer).join(".git")).unwrap();
        assert_eq!(part(&repo, "a/b/c", &[]).unwrap(), first, "{nearer}");
    }
}

#[test]
fn another_home_has_other_ignore_rules() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write("b.log", "1");
    let all = repo.tree();
    let home = repo.dir.path().join("other home");
    fs::create_dir_all(home.join("git")).unwrap();
    fs::write(home.join("git/ignore"), "*.log\n").unwrap();
    let vars = [("HOME", repo.dir.path().join("home")), ("XDG_CONFIG_HOME", home)];
    let outside = Outside::new(vars.into_iter().map(|(name, path)| (name.into(), path.into_os_string())));
    let git = Git::new(repo.dir.path().join("memory"), &outside, Vec::new());
    assert_ne!(git.identity(&repo.scope()).unwrap().tree.to_string(), all);
    assert_eq!(repo.tree(), all);
}

#[test]
fn directories_as_deep_as_half_a_path_can_be_are_walked() {
    let repo = Repo::new();
    repo.write("d/".repeat(1000) + "f", "1");
    as_git(&repo);
}

#[test]
fn the_commit_counts_where_it_is_asked_for() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let scope = Scope { head: true, ..repo.scope() };
    let look = || repo.look(&scope, "memory").unwrap();
    let first = look();
    assert_eq!(first.head.unwrap().to_string(), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(look().digest(), first.digest());
    repo.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    let second = look();
    assert_eq!(second.head.unwrap().to_string(), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(second.tree, first.tree);
    assert_ne!(second.digest(), first.digest());
    repo.git(&["pack-refs", "--all"]);
    assert_eq!(look().digest(), second.digest());
    repo.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    assert_eq!(look().digest(), first.digest());
}

#[test]
fn tags_count_where_the_commit_does() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    let tree = repo.dir.path().join("tree");
    repo.git(&["worktree", "add", "-q", tree.to_str().unwrap()]);
    let (here, there) = (Scope { head: true, ..repo.scope() }, Scope { head: true, dir: tree.clone(), ..repo.scope() });
    // As one sees it that remembers, and as one that does not.
    let look = |scope: &Scope| {
        let later = repo.look(scope, "memory").unwrap().digest();
        let _ = fs::remove_dir_all(repo.dir.path().join("none"));
        assert_eq!(repo.look(scope, "none").unwrap().digest(), later);
        later
    };
    let mut last = look(&here);
    assert_eq!(look(&there), last);
    let mut expect = |args: &[&str], is_another: bool| {
        repo.git(args);
        let now = look(&here);
        assert_eq!(now != last, is_another, "{args:?}");
        assert_eq!(look(&there), now, "{args:?}: in the other working copy");
        last = now;
    };
    expect(&["tag", "v1"], true);
    expect(&["branch", "other"], false);
    expect(&["tag", "-a", "-m", "x", "deep/er/v2"], true);
    expect(&["tag", "-f", "v1", "HEAD~1"], true);
    expect(&["pack-refs", "--all"], false);
    expect(&["tag", "-f", "v1", "HEAD"], true);
    expect(&["tag", "-f", "v1", "HEAD~1"], true);
    expect(&["tag", "-a", "-f", "-m", "y", "v1", "HEAD~1"], true);
    expect(&["tag", "-d", "v1"], true);
    expect(&["symbolic-ref", "refs/tags/named", "refs/heads/other"], true);
    expect(&["update-ref", "refs/heads/other", "HEAD~1"], true);
    expect(&["tag", "-d", "deep/er/v2"], true);
    expect(&["branch", "-D", "other"], true);
    // As `git fetch --depth` leaves it.
    fs::write(repo.at(".git/shallow"), repo.git(&["rev-parse", "HEAD"]) + "\n").unwrap();
    expect(&["status"], true);
    assert_eq!(repo.look(&repo.scope(), "memory").unwrap().head, None);
}

#[test]
fn what_is_staged_counts_where_the_commit_does() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.write("new", "");
    let scope = Scope { head: true, ..repo.scope() };
    let look = || {
        let later = repo.look(&scope, "memory").unwrap().digest();
        let _ = fs::remove_dir_all(repo.dir.path().join("none"));
        assert_eq!(repo.look(&scope, "none").unwrap().digest(), later);
        (later, repo.git(&["describe", "--always", "--dirty"]))
    };
    let (clean, version) = look();
    for (there, back) in [
        (&["rm", "-q", "--cached", "a"][..], &["add", "a"][..]),
        (&["add", "new"], &["rm", "-q", "--cached", "new"]),
        (&["update-index", "--chmod=+x", "a"], &["update-index", "--chmod=-x", "a"]),
    ] {
        repo.git(there);
        let (dirty, other) = look();
        assert!(dirty != clean && other == format!("{version}-dirty"), "{there:?}: {other}");
        repo.git(back);
        assert_eq!(look(), (clean, version.clone()), "{back:?}");
    }
    // Stamps alone, which git writes down again.
    repo.write("a", "1");
    repo.git(&["status"]);
    assert_eq!(look(), (clean, version));
}

#[test]
fn what_git_is_told_not_to_look_at_counts_where_the_commit_does() {
    for form in [&["update-index", "--no-split-index"][..], &["update-index", "--split-index"]] {
        let repo = Repo::new();
        repo.write("a", "1");
        repo.commit();
        repo.write("a", "edited");
        repo.git(form);
        let (scope, without) = (Scope { head: true, ..repo.scope() }, repo.scope());
        let look = || {
            let later = repo.look(&scope, "memory").unwrap().digest();
            let _ = fs::remove_dir_all(repo.dir.path().join("none"));
            assert_eq!(repo.look(&scope, "none").unwrap().digest(), later);
            (later, repo.git(&["describe", "--always", "--dirty"]))
        };
        let (dirty, version) = look();
        let plain = repo.look(&without, "plain").unwrap().digest();
        for flag in ["assume-unchanged", "skip-worktree"] {
            repo.git(&["update-index", &format!("--{flag}"), "a"]);
            let (clean, other) = look();
            assert!(clean != dirty && version == format!("{other}-dirty"), "{form:?} {flag}: {other}");
            assert_eq!(repo.look(&without, "plain").unwrap().digest(), plain, "{flag}");
            repo.git(&["update-index", &format!("--no-{flag}"), "a"]);
            assert_eq!(look(), (dirty, version.clone()), "{form:?} {flag}");
        }
    }
}

#[test]
fn a_commit_behind_several_symbolic_names_is_followed() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let scope = Scope { head: true, ..repo.scope() };
    let expect = |args: &[&str]| {
        repo.git(args);
        let head = repo.look(&scope, "memory").unwrap().head.unwrap();
        assert_eq!(head.to_string(), repo.git(&["rev-parse", "HEAD"]), "{args:?}");
    };
    repo.git(&["symbolic-ref", "refs/heads/two", "refs/heads/main"]);
    repo.git(&["symbolic-ref", "refs/heads/one", "refs/heads/two"]);
    expect(&["symbolic-ref", "HEAD", "refs/heads/one"]);
    expect(&["commit", "-q", "--allow-empty", "-m", "y"]);
    expect(&["branch", "other", "HEAD~1"]);
    expect(&["symbolic-ref", "refs/heads/two", "refs/heads/other"]);
    expect(&["pack-refs", "--all"]);
    expect(&["commit", "-q", "--allow-empty", "-m", "z"]);
    expect(&["symbolic-ref", "refs/heads/one", "refs/heads/main"]);
}

#[test]
fn an_edit_that_is_taken_back_moves_the_stamps_and_not_the_tree() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let before = repo.look(&repo.scope(), "memory").unwrap();
    repo.write("a", "2");
    repo.write("a", "1");
    let after = repo.look(&repo.scope(), "memory").unwrap();
    assert_eq!(before.tree, after.tree);
    assert_ne!(before.stamps(), after.stamps());
    assert_eq!(before.first_moved(&after), Some(repo.at("a")));
}

#[test]
fn changes_are_named_with_what_happened_to_them() {
    let repo = Repo::new();
    for path in ["a", "d/b", "c", "odd\nname"] {
        repo.write(path, "1");
    }
    repo.commit();
    let before = repo.look(&repo.scope(), "memory").unwrap();
    assert!(before.holds(&repo.at("d/b")) && !before.holds(&repo.at("d")) && !before.holds(&repo.at("d/x")));
    assert_eq!(before.files().count(), 4);
    let listing = before.listing();
    repo.write("a", "2");
    fs::remove_file(repo.at("d/b")).unwrap();
    repo.write("new", "1");
    repo.write("staged", "1");
    repo.git(&["add", "staged"]);
    repo.write("odd\nname", "2");
    let after = repo.look(&repo.scope(), "memory").unwrap();
    let expected = ["a modified", "d/b deleted", "new untracked", "odd\\x0aname modified", "staged added"];
    assert_eq!(after.changes(&listing).unwrap(), expected);
    assert_eq!(before.changes(&listing).unwrap(), [""; 0]);
    assert!(before.changes(b"junk").is_none());
}

#[test]
fn settings_and_variables_of_the_user_have_no_effect() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let tree = as_git(&repo);
    for (name, value) in [
        ("diff.external", "false"),
        ("core.fsmonitor", "false"),
        ("core.hooksPath", "/nonexistent"),
        ("core.fileMode", "false"),
        ("core.untrackedCache", "true"),
        ("diff.x.textconv", "false"),
    ] {
        repo.git(&["config", name, value]);
        assert_eq!(repo.tree(), tree, "{name}");
        assert_eq!(repo.tree_anew(), tree, "{name}");
    }
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(repo.tree(), tree, "the bit on disk counts");
}

#[test]
fn a_repository_of_sha_256_is_an_error_that_says_so() {
    let repo = Repo::new();
    fs::remove_dir_all(repo.at(".git")).unwrap();
    repo.git(&["init", "-q", "--object-format=sha256"]);
    repo.write("a", "1");
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.ends_with("names its objects by SHA-256, which is not supported"), "{error}");
}

#[test]
fn a_partial_clone_is_like_others() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.git(&["config", "core.repositoryFormatVersion", "1"]);
    repo.git(&["config", "extensions.partialClone", "origin"]);
    as_git(&repo);
}

#[test]
fn a_memory_that_is_damaged_is_none() {
    let repo = Repo::new();
    repo.write("a", "1");
    let tree = as_git(&repo);
    for entry in fs::read_dir(repo.dir.path().join("memory")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(repo.tree(), tree);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let repo = Repo::new();
    repo.write("a", "1");
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.starts_with("cannot read `") && error.contains("/a`"), "{error}");
}
