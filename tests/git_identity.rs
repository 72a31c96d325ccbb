//! The identity of a working copy beside what git itself makes of it.

mod git_rig;

use bcache::fingerprint::git::{Scope, working_copy};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use git_rig::*;

#[test]
fn commits_branches_and_stashes_of_the_same_content_change_nothing() {
    let repo = Repo::new();
    repo.write("a/b", "1");
    let first = as_git(&repo);
    repo.commit();
    assert_eq!(as_git(&repo), first);
    repo.git(&["commit", "-q", "--amend", "-m", "y"]);
    assert_eq!(as_git(&repo), first);
    repo.git(&["checkout", "-q", "-b", "other"]);
    repo.write("a/b", "2");
    repo.write("c", "2");
    let second = as_git(&repo);
    assert_ne!(second, first);
    repo.git(&["stash", "-q", "-u"]);
    assert_eq!(as_git(&repo), first);
    repo.git(&["stash", "pop", "-q"]);
    assert_eq!(as_git(&repo), second);
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    assert_eq!(as_git(&repo), first);
}

#[test]
fn modes_links_renames_and_case_count() {
    let repo = Repo::new();
    repo.write("a", "1");
    symlink("a", repo.at("l")).unwrap();
    repo.commit();
    let mut seen = vec![as_git(&repo)];
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o755)).unwrap();
    seen.push(as_git(&repo));
    fs::remove_file(repo.at("l")).unwrap();
    symlink("b", repo.at("l")).unwrap();
    seen.push(as_git(&repo));
    fs::rename(repo.at("a"), repo.at("A")).unwrap();
    seen.push(as_git(&repo));
    fs::create_dir(repo.at("empty")).unwrap();
    assert_eq!(as_git(&repo), seen[3]);
    fs::remove_file(repo.at("l")).unwrap();
    repo.write("l/in", "1");
    seen.push(as_git(&repo));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[test]
fn a_directory_that_became_a_link_to_itself_has_no_files() {
    let repo = Repo::new();
    repo.write("a/b", "1");
    repo.git(&["add", "."]);
    assert_eq!(repo.tree(), repo.write_tree());
    fs::remove_dir_all(repo.at("a")).unwrap();
    symlink("a", repo.at("a")).unwrap();
    assert_eq!((repo.tree(), repo.tree_anew()), (repo.write_tree(), repo.write_tree()));
}

#[test]
fn an_edit_of_the_same_size_within_one_time_stamp_is_seen() {
    let repo = Repo::new();
    for round in 0..50 {
        repo.write("a", format!("{round:04}"));
        if round % 5 == 0 {
            repo.git(&["add", "a"]);
        }
        as_git(&repo);
        let before = fs::metadata(repo.at("a")).unwrap().modified().unwrap();
        repo.write("a", format!("{:04}", round + 1000));
        fs::File::options().write(true).open(repo.at("a")).unwrap().set_modified(before).unwrap();
        as_git(&repo);
    }
}

#[test]
fn ignore_rules_are_those_of_directories_the_repository_and_the_user() {
    let repo = Repo::new();
    for path in ["a.o", "b.log", "c.tmp", "d/a.o", "d/keep.o", "d/e/x.log", "out/x", "d/out/x"] {
        repo.write(path, path);
    }
    let mut seen = vec![as_git(&repo)];
    repo.write(".gitignore", "*.o\n/out/\n");
    seen.push(as_git(&repo));
    repo.write("d/.gitignore", "!keep.o\n");
    seen.push(as_git(&repo));
    fs::write(repo.at(".git/info/exclude"), "*.log\n").unwrap();
    seen.push(as_git(&repo));
    let home = repo.dir.path().join("home");
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::write(home.join(".config/git/ignore"), "*.tmp\n").unwrap();
    seen.push(as_git(&repo));
    // What is tracked counts, ignored or not.
    repo.git(&["add", "-f", "a.o", "out/x"]);
    seen.push(as_git(&repo));
    repo.git(&["rm", "-q", "--cached", "a.o"]);
    seen.push(as_git(&repo));
    fs::remove_file(repo.at("d/.gitignore")).unwrap();
    seen.push(as_git(&repo));
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
    fs::write(home.join(".config/git/ignore"), "").unwrap();
    assert!(!seen.contains(&as_git(&repo)));
}

#[test]
fn a_rule_file_that_is_ignored_itself_has_its_say() {
    let repo = Repo::new();
    repo.write("d/.gitignore", "*\n");
    repo.write("d/a", "1");
    repo.write("b", "1");
    let before = as_git(&repo);
    repo.write("d/.gitignore", ".gitignore\n");
    assert_ne!(as_git(&repo), before);
}

#[test]
fn a_subdirectory_is_its_own_tree_and_rules_above_it_hold() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.o\nd/skip\n");
    repo.write("d/a", "1");
    repo.write("d/a.o", "1");
    repo.write("d/skip/b", "1");
    repo.commit();
    let tree = repo.git(&["rev-parse", "HEAD:d"]);
    assert_eq!(part(&repo, "d", &[]).unwrap(), tree);
    repo.write("other", "1");
    assert_eq!(part(&repo, "d", &[]).unwrap(), tree);
    repo.write(".gitignore", "d/skip\n");
    assert_ne!(part(&repo, "d", &[]).unwrap(), tree);
}

#[test]
fn paths_choose_files_directories_and_globs_and_take_away() {
    let repo = Repo::new();
    for path in ["src/a.rs", "src/b.c", "src/gen/c.rs", "docs/x.md", "top.rs"] {
        repo.write(path, path);
    }
    repo.commit();
    let seen = part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap();
    assert_eq!(part(&repo, ".", &["src/a.rs"]).unwrap(), seen);
    assert_eq!(part(&repo, ".", &["src/", "!src/gen", "!**/*.c"]).unwrap(), seen);
    repo.write("docs/x.md", "edited");
    repo.write("src/gen/c.rs", "edited");
    assert_eq!(part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap(), seen);
    repo.write("src/new.rs", "untracked");
    assert_ne!(part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap(), seen);
    let error = part(&repo, ".", &["src/", "none/*.rs"]).unwrap_err();
    assert_eq!(error, "git input `r`: `none/*.rs` matches no file that git tracks or would add");
}

#[test]
fn a_directory_that_is_ignored_is_an_error_and_not_an_identity() {
    let repo = Repo::new();
    repo.write(".gitignore", "fork\n");
    repo.write("fork/a", "1");
    repo.commit();
    let error = part(&repo, "fork", &[]).unwrap_err();
    assert_eq!(error, "git input `r` holds no file that git tracks or would add: is it ignored?");
    // What is tracked there counts all the same, and nothing else does.
    repo.git(&["add", "-f", "fork/a"]);
    let tree = part(&repo, "fork", &[]).unwrap();
    repo.write("fork/b", "1");
    assert_eq!(part(&repo, "fork", &[]).unwrap(), tree);
    repo.write("fork/a", "2");
    assert_ne!(part(&repo, "fork", &[]).unwrap(), tree);
}

#[test]
fn a_directory_in_no_repository_is_an_error() {
    let repo = Repo::new();
    fs::rename(repo.at(".git"), repo.dir.path().join("away")).unwrap();
    repo.write("a", "1");
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.ends_with("/r/.` is not in a working copy of a git repository"), "{error}");
    assert!(working_copy(&repo.root()).unwrap().is_none());
    fs::rename(repo.dir.path().join("away"), repo.at(".git")).unwrap();
    assert_eq!(working_copy(&repo.root()).unwrap(), Some(repo.root().canonicalize().unwrap()));
}

#[test]
fn an_index_of_any_version_split_sparse_or_deleted_says_the_same() {
    let repo = Repo::new();
    for path in ["a", "d/b", "d/e/c", "f/g"] {
        repo.write(path, path);
    }
    repo.commit();
    let tree = as_git(&repo);
    for args in [
        &["update-index", "--index-version", "3"][..],
        &["update-index", "--index-version", "4"],
        &["update-index", "--split-index"],
        &["update-index", "--no-split-index"],
    ] {
        repo.git(args);
        assert_eq!(as_git(&repo), tree, "{args:?}");
    }
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "d"]);
    let sparse = repo.tree_anew();
    assert_eq!(repo.tree(), sparse);
    assert_eq!(sparse, part(&repo, ".", &["!f"]).unwrap());
    repo.git(&["sparse-checkout", "disable"]);
    fs::remove_file(repo.at(".git/index")).unwrap();
    assert_eq!(as_git(&repo), tree);
}

#[test]
fn what_lies_there_counts_whatever_the_index_pretends() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write("b", "1");
    repo.commit();
    let before = as_git(&repo);
    repo.git(&["update-index", "--assume-unchanged", "a"]);
    repo.git(&["update-index", "--skip-worktree", "b"]);
    repo.write("a", "22");
    let assumed = repo.tree();
    assert_ne!(assumed, before);
    assert_eq!(repo.tree_anew(), assumed);
    repo.write("b", "22");
    assert_ne!(repo.tree(), assumed);
    repo.write("c", "");
    repo.git(&["add", "-N", "c"]);
    repo.write("c", "intended");
    assert_eq!(repo.tree(), repo.tree_anew());
}

#[test]
fn a_repository_in_the_middle_of_a_merge_or_rebase_is_what_lies_there() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.git(&["checkout", "-q", "-b", "other"]);
    repo.write("a", "2");
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a", "3");
    repo.commit();
    assert!(!repo.try_git(&["merge", "-q", "other"]));
    as_git(&repo);
    repo.git(&["merge", "--abort"]);
    assert!(!repo.try_git(&["rebase", "-q", "other"]));
    as_git(&repo);
}

#[test]
fn an_unborn_branch_a_shallow_clone_and_a_lock_that_was_left_are_harmless() {
    let repo = Repo::new();
    repo.write("a", "1");
    as_git(&repo);
    fs::write(repo.at(".git/index.lock"), "").unwrap();
    let tree = repo.tree();
    assert_eq!(repo.tree_anew(), tree);
    fs::remove_file(repo.at(".git/index.lock")).unwrap();
    repo.commit();
    repo.write("a", "2");
    repo.commit();
    let (root, clone) = (repo.root(), repo.dir.path().join("clone"));
    let url = format!("file://{}", root.display());
    repo.git_in(repo.dir.path(), &["clone", "-q", "--depth", "1", &url, "clone"]);
    assert_eq!(elsewhere(&repo, &clone), repo.git(&["rev-parse", "HEAD^{tree}"]));
    // Objects that are missing matter to nobody.
    fs::remove_dir_all(clone.join(".git/objects")).unwrap();
    fs::create_dir_all(clone.join(".git/objects/pack")).unwrap();
    assert_eq!(elsewhere(&repo, &clone), repo.git(&["rev-parse", "HEAD^{tree}"]));
}

/// The tree of another directory.
#[track_caller]
fn elsewhere(repo: &Repo, dir: &Path) -> String {
    let scope = Scope { dir: dir.to_owned(), ..repo.scope() };
    repo.look(&scope, "memory").unwrap_or_else(|error| panic!("{error}")).tree.to_string()
}

#[test]
fn worktrees_and_repositories_elsewhere_are_found() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write(".gitignore", "*.o\n");
    repo.commit();
    let tree = as_git(&repo);
    let other = repo.dir.path().join("other worktree");
    repo.git(&["worktree", "add", "-q", other.to_str().unwrap(), "-b", "w"]);
    assert_eq!(elsewhere(&repo, &other), tree);
    fs::write(other.join("x.o"), "ignored").unwrap();
    assert_eq!(elsewhere(&repo, &other), tree);
    fs::write(other.join("a"), "2").unwrap();
    assert_ne!(elsewhere(&repo, &other), tree);
    assert_eq!(as_git(&repo), tree);
    // The repository lies beside, and says where the working copy is.
    let bare = repo.dir.path().join("bare.git");
    fs::rename(repo.at(".git"), &bare).unwrap();
    repo.git_in(&bare, &["config", "core.worktree", repo.root().to_str().unwrap()]);
    fs::write(repo.at(".git"), format!("gitdir: {}\n", bare.display())).unwrap();
    assert_eq!(repo.tree(), tree);
}

#[test]
fn raw_bytes_count_where_attributes_let_git_keep_others() {
    for (attributes, before, after) in [
        ("*.txt text\n", "a\nb\n", "a\r\nb\r\n"),
        ("* text=auto\n", "a\nb\n", "a\r\nb\r\n"),
        ("*.txt ident\n", "$Id$\n", "$Id: 0123$\n"),
        ("*.txt working-tree-encoding=UTF-16LE\n", "ab", "a\0b\0"),
    ] {
        let repo = Repo::new();
        repo.write(".gitattributes", attributes);
        repo.write("f.txt", before);
        repo.try_git(&["add", "-A"]);
        repo.try_git(&["commit", "-q", "-m", "x"]);
        let seen = repo.tree();
        repo.write("f.txt", after);
        repo.try_git(&["add", "-A"]);
        settle(&repo);
        assert_ne!(repo.tree(), seen, "{attributes}");
        assert_eq!(repo.tree_anew(), repo.tree(), "{attributes}");
        repo.write("f.txt", before);
        assert_eq!(repo.tree(), seen, "{attributes}");
    }
}

#[test]
fn a_file_from_before_the_attributes_changed_counts_by_its_bytes() {
    let repo = Repo::new();
    repo.write(".gitattributes", "*.txt text eol=crlf\n");
    repo.write("f.txt", "1\r\n2\r\n");
    repo.commit();
    settle(&repo);
    let raw = repo.tree_anew();
    repo.write(".gitattributes", "*.md text\n");
    let kept = repo.tree_anew();
    assert_ne!(kept, raw);
    assert_eq!(repo.tree(), kept);
    repo.write("f.txt", "1\n2\n");
    assert_ne!(repo.tree_anew(), kept);
    assert_ne!(repo.tree(), kept);
    // The same by a setting.
    let repo = Repo::new();
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.write("f.txt", "1\r\n2\r\n");
    repo.commit();
    settle(&repo);
    let kept = repo.tree_anew();
    repo.git(&["config", "core.autocrlf", "false"]);
    assert_eq!(repo.tree_anew(), kept);
    repo.write("f.txt", "1\n2\n");
    assert_ne!(repo.tree_anew(), kept);
}

/// To git the file is clean, and in its index is the id of other bytes: the reason is in no file any more.
#[test]
fn a_file_from_before_the_attributes_went_counts_by_its_bytes() {
    for remove in [&["rm", "-q", ".gitattributes"][..], &["rm", "-q", "--cached", ".gitattributes"]] {
        let repo = Repo::new();
        repo.write(".gitattributes", "* text=auto\n");
        repo.write("f.txt", "1\r\n2\r\n");
        // Old enough for the index to be sure of it.
        std::thread::sleep(std::time::Duration::from_millis(60));
        repo.commit();
        repo.git(remove);
        repo.git(&["commit", "-q", "-m", "no attributes"]);
        let _ = fs::remove_file(repo.at(".gitattributes"));
        let crlf = repo.tree_anew();
        repo.write("f.txt", "1\n2\n");
        assert_ne!(repo.tree_anew(), crlf);
        assert_eq!(repo.tree_anew(), as_git(&repo));
    }
}

#[test]
fn an_index_that_lies_about_a_file_is_not_asked() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    settle(&repo);
    let tree = as_git(&repo);
    let index = repo.at(".git/index");
    let mut bytes = fs::read(&index).unwrap();
    let oid = bytes.windows(20).position(|w| w == hex(&repo.git(&["hash-object", "a"]))).unwrap();
    bytes[oid] ^= 1;
    let modified = fs::metadata(&index).unwrap().modified().unwrap();
    fs::write(&index, &bytes).unwrap();
    fs::File::options().write(true).open(&index).unwrap().set_modified(modified).unwrap();
    assert_eq!(repo.tree_anew(), tree);
}
