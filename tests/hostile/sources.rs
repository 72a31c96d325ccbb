//! Commits and patches that came from elsewhere.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::sandbox::Sandbox;

/// Git, with nothing of the machine's settings.
fn git(sandbox: &Sandbox, words: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("git");
    command.current_dir(sandbox.root().join("remote")).args(words).env_clear().env("PATH", "/usr/bin:/bin");
    for who in ["AUTHOR", "COMMITTER"] {
        for (what, value) in [("NAME", "a"), ("EMAIL", "a@b"), ("DATE", "1000000000 +0000")] {
            command.env(format!("GIT_{who}_{what}"), value);
        }
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {words:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An object as it is, which no git would write by itself.
fn object(sandbox: &Sandbox, kind: &str, bytes: &[u8]) -> String {
    git(sandbox, &["hash-object", "-w", "--literally", "-t", kind, "--stdin"], bytes)
}

fn raw(id: &str) -> Vec<u8> {
    (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect()
}

type Entries<'a> = &'a [(&'a str, &'a [u8], &'a str)];

fn tree(sandbox: &Sandbox, entries: Entries) -> String {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(mode.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend(raw(id));
    }
    object(sandbox, "tree", &bytes)
}

/// A sandbox with an empty repository to fetch from.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.root().join("remote")).unwrap();
    git(&sandbox, &["init", "-q", "--bare", "."], b"");
    sandbox.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    sandbox.file("victim", "mine").file("dir/victim", "mine");
    sandbox
}

/// A step that takes this tree as its source, and says what it sees of it.
fn commit(sandbox: &Sandbox, tree: &str) {
    let text = format!("tree {tree}\nauthor a <a@b> 1000000000 +0000\ncommitter a <a@b> 1000000000 +0000\n\nx\n");
    let id = object(sandbox, "commit", text.as_bytes());
    git(sandbox, &["update-ref", "refs/heads/main", &id], b"");
    let url = sandbox.root().join("remote");
    sandbox.tasks(&format!(
        "[tasks.pkg]\nsource = {{ git = '{}', rev = '{id}' }}\noutputs = ['o']\nrun = 'cd {{{{ step.source }}}}; ls -A | tee {}'\n",
        url.display(),
        sandbox.at("o").display()
    ));
}

fn outside(sandbox: &Sandbox) -> Vec<String> {
    let mut tree = sandbox.tree("..");
    let ours = ["work/.bcache", "work/o ", "store/", "work/tasks.toml "];
    tree.retain(|line| !ours.iter().any(|name| line.starts_with(name)));
    tree
}

/// Nothing is written outside, and the step is told or does not see it.
#[track_caller]
fn refused(make: impl FnOnce(&Sandbox, &str) -> String) {
    let sandbox = sandbox();
    let blob = object(&sandbox, "blob", b"theirs");
    let tree = make(&sandbox, &blob);
    commit(&sandbox, &tree);
    let before = outside(&sandbox);
    sandbox.run("build pkg").says("error: pkg@host failed: ").exit(1);
    assert_eq!(outside(&sandbox), before);
}

#[test]
fn names_in_a_commit_that_lead_out_are_refused() {
    let names: [&[u8]; 6] = [b"..", b".", b"../victim", b"a/../../victim", b"/tmp/bcache-victim", b".git"];
    for name in names {
        refused(|sandbox, blob| tree(sandbox, &[("100644", name, blob)]));
        refused(|sandbox, blob| {
            let inner = tree(sandbox, &[("100644", b"victim", blob)]);
            tree(sandbox, &[("40000", name, &inner)])
        });
    }
    // As other file systems would read it.
    for name in [&b".GIT"[..], b"git~1", b".g\xe2\x80\x8cit"] {
        refused(|sandbox, blob| tree(sandbox, &[("100644", name, blob)]));
    }
}

#[test]
fn nothing_of_a_commit_is_written_through_its_links() {
    for target in ["../../../../dir", "/tmp", "."] {
        refused(|sandbox, blob| {
            let link = object(sandbox, "blob", target.as_bytes());
            let inner = tree(sandbox, &[("100644", b"victim", blob)]);
            tree(sandbox, &[("120000", b"a", &link), ("40000", b"a", &inner)])
        });
    }
}

#[test]
fn links_and_submodules_of_a_commit_are_text_and_an_empty_directory() {
    let sandbox = sandbox();
    let blob = object(&sandbox, "blob", b"x");
    let link = object(&sandbox, "blob", b"../../../../dir");
    let modules =
        object(&sandbox, "blob", b"[submodule \"../../x\"]\n\tpath = sub\n\turl = --upload-pack=touch /tmp/x\n");
    let id = "1".repeat(40);
    let entries: Entries = &[
        ("100644", b".gitmodules", &modules),
        ("100755", b"a", &blob),
        ("120000", b"l", &link),
        ("160000", b"sub", &id),
    ];
    let top = tree(&sandbox, entries);
    commit(&sandbox, &top);
    let before = outside(&sandbox);
    sandbox.run("build pkg").success();
    assert_eq!(sandbox.read("o"), ".gitmodules\na\nl\nsub\n");
    assert_eq!(outside(&sandbox), before);
}

#[test]
fn a_name_of_a_commit_or_of_its_place_is_never_an_option_of_git() {
    let sandbox = sandbox();
    let evil = format!("--upload-pack=touch {};", sandbox.at("evil").display());
    for (url, rev) in [(evil.as_str(), "a".repeat(40)), ("ext::sh -c touch% evil", "a".repeat(40))] {
        let source = format!("source = {{ git = \"{url}\", rev = \"{rev}\" }}");
        sandbox.tasks(&format!("[tasks.pkg]\n{source}\noutputs = ['o']\nrun = 'true'\n"));
        sandbox.run("build pkg").exit(1);
        assert!(!sandbox.exists("evil"));
    }
}

/// A step whose archive has a link `l` out of it and a file `f`, with a patch.
fn patched(patch: &str) -> Sandbox {
    let tar = crate::tarball::Tar::new()
        .file("pkg/f", "old\n")
        .symlink("pkg/l", "../../../..")
        .symlink("pkg/v", "../../../../victim");
    let sandbox = sandbox();
    sandbox.file("pkg.tar", tar.end()).file("p.patch", patch).file("victim", "old\n").file("dir/victim", "old\n");
    let source = "source = { archive = 'pkg.tar', patches = ['p.patch'] }";
    let run = format!("cp {{{{ step.source }}}}/f {}", sandbox.at("o").display());
    sandbox.tasks(&format!("[tasks.pkg]\n{source}\noutputs = ['o']\nrun = '{run}'\n"));
    sandbox
}

#[test]
fn a_patch_writes_in_its_source_alone() {
    let change = "@@ -1 +1 @@\n-old\n+new\n";
    let good = patched(&format!("--- a/f\n+++ b/f\n{change}"));
    good.run("build pkg").success();
    assert_eq!(good.read("o"), "new\n");
    let names = ["a/../../../../../victim", "a/l/victim", "a/v", "a/l/dir/victim", "a/l/new", "a/../../../../../new"];
    for name in names {
        for (old, change) in [(name, change), ("/dev/null", "@@ -0,0 +1 @@\n+new\n")] {
            let sandbox = patched(&format!("--- {old}\n+++ {name}\n{change}"));
            let before = outside(&sandbox);
            let said = sandbox.run("build pkg").said().to_owned();
            assert!(said.contains("patch `p.patch` does not apply"), "{old} {name}: {said}");
            assert_eq!(outside(&sandbox), before, "{name}");
        }
    }
    for header in [
        "rename from f\nrename to ../../../../dir/new\n",
        "copy from f\ncopy to ../../../../dir/new\n",
        "deleted file mode 100644\n--- a/../../../../victim\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n",
        "new file mode 120000\n--- /dev/null\n+++ b/l2\n@@ -0,0 +1 @@\n+../../../..\n\\ No newline at end of file\ndiff --git a/l2/new b/l2/new\nnew file mode 100644\n--- /dev/null\n+++ b/l2/new\n@@ -0,0 +1 @@\n+new\n",
    ] {
        let sandbox = patched(&format!("diff --git a/f b/../../../../dir/new\n{header}"));
        let before = outside(&sandbox);
        // Some it takes for a change of `f`, which is there.
        sandbox.run("build pkg").exit(1);
        assert_eq!(outside(&sandbox), before, "{header}");
    }
}
