//! Results that hold a path of the place where they were made answer there alone.

mod sandbox;

use std::path::Path;
use std::process::Command;

use sandbox::Sandbox;

fn commit_all(dir: &Path) {
    let script = "git init -q . && git add -A && git -c user.name=n -c user.email=e@example.org commit -qm first";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(dir).env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")] {
        shell.env(name, value);
    }
    assert!(shell.status().unwrap().success());
}

#[test]
fn the_path_of_a_working_copy_beside_the_workspace_binds_what_holds_it() {
    let tasks = "
[tasks.use]
inputs = [{ git = '../fork' }]
outputs = ['out']
run = '{ran} use; cd ../fork; pwd > \"$OLDPWD/out\"'
[tasks.plain]
inputs = [{ git = '../fork' }]
outputs = ['plain']
run = '{ran} plain; cat ../fork/x > plain'
";
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("below/work");
    for tree in [&sandbox, &other] {
        tree.tasks(tasks).file("../fork/x", "x\n");
        commit_all(&tree.work().join("../fork"));
        tree.run("build use plain").success();
        let fork = std::fs::canonicalize(tree.work().join("../fork")).unwrap();
        assert_eq!(tree.read("out"), format!("{}\n", fork.display()));
        tree.run("build use plain").counts("2 fresh, 0 restored, 0 ran").success();
        tree.remove("out").run("build use plain").counts("1 fresh, 1 restored, 0 ran").success();
    }
    sandbox.ran_times("use", 2).ran_times("plain", 1);
}

#[test]
fn the_real_place_of_a_state_behind_a_link_binds_what_holds_it() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("elsewhere");
    for (tree, disk) in [(&sandbox, "first"), (&other, "second")] {
        let fast = tree.root().join("fast").join(disk);
        std::fs::create_dir_all(&fast).unwrap();
        std::os::unix::fs::symlink(&fast, tree.work().join(".bcache")).unwrap();
        tree.tasks("[tasks.use]\noutputs = ['out']\nrun = 'cd $TMPDIR; pwd -P > \"$OLDPWD/out\"'\n");
        tree.run("build use").counts("0 fresh, 0 restored, 1 ran").success();
        assert!(tree.read("out").contains(&format!("/fast/{disk}/")), "{}", tree.read("out"));
    }
}

#[test]
fn a_step_with_a_sysroot_that_is_renamed_does_not_get_what_holds_its_old_name() {
    for relocatable in ["", "relocatable = true\n"] {
        let sandbox = Sandbox::new();
        let tasks = |name: &str| {
            let run = "mkdir -p {{ sysroot.prefix }}/share; echo $TMPDIR > {{ sysroot.prefix }}/share/x";
            let sysroot = format!("[sysroots.s]\npath = 'prefix'\n{relocatable}");
            sandbox.tasks(&format!("{sysroot}[tasks.{name}]\nsysroot = 's'\nrun = '{{ran}} it; {run}'\n"));
            sandbox.run(&format!("build {name}")).success();
            sandbox.read("prefix/share/x")
        };
        let [first, second, again] = ["one", "another", "one"].map(tasks);
        assert!(first.contains("one") && second.contains("another"), "{first}{second}");
        assert_eq!(again, first);
        sandbox.ran_times("it", 2);
    }
}
