//! Changes that are easily missed: behind links, in scripts, on PATH, in what other tasks made.

mod sandbox;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sandbox::Sandbox;

/// Twice, so that the second time is answered by a proof.
#[track_caller]
fn settled(sandbox: &Sandbox, task: &str) {
    for _ in 0..3 {
        sandbox.run(&format!("build {task}")).success();
    }
}

#[test]
fn a_file_in_a_directory_behind_a_link_is_an_input() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.plain]
inputs = ['link']
outputs = ['a']
run = 'cat link/x > a'
[tasks.glob]
inputs = ['link/*']
outputs = ['b']
run = 'cat link/x > b'
[tasks.below]
inputs = ['dir/**']
outputs = ['c']
run = 'cat dir/inner/x > c'
",
        )
        .file("real/x", "1")
        .link("link", "real")
        .link("dir/inner", "../real");
    settled(&sandbox, "plain glob below");
    sandbox.file("real/x", "2").run("build plain glob below").counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(["a", "b", "c"].map(|path| sandbox.read(path)), ["2", "2", "2"]);
    sandbox.file("real/y", "new").run("build plain glob below").counts("0 fresh, 0 restored, 3 ran").success();
}

#[test]
fn a_link_on_the_way_of_a_link_that_is_turned_elsewhere_is_seen() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.copy]\ninputs = ['current']\noutputs = ['b']\nrun = 'cat current > b'\n")
        .file("v1/f", "1")
        .file("v2/f", "2")
        .link("version", "v1")
        .link("current", "version/f");
    settled(&sandbox, "copy");
    sandbox.remove("version").link("version", "v2").run("build copy").success();
    assert_eq!(sandbox.read("b"), "2");
}

#[test]
fn scripts_behind_links_outside_the_workspace_and_inside_sh_c_are_inputs() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.linked]
inputs = ['i']
outputs = ['a']
run = 'sh linked.sh > a'
[tasks.outside]
inputs = ['i']
outputs = ['b']
run = 'sh ../outside.sh > b'
[tasks.tool]
inputs = ['i']
outputs = ['c']
run = [['sh', '-ec', '../tool > c']]
[tasks.inner]
inputs = ['i']
outputs = ['d']
run = [['sh', '-c', './inner > d']]
",
    );
    sandbox.file("i", "").link("linked.sh", "real.sh");
    let write = |text: &str| {
        for path in ["real.sh", "../outside.sh", "../tool", "inner"] {
            sandbox.file(path, format!("#!/bin/sh\necho {text}\n"));
        }
        sandbox.chmod("../tool", 0o755).chmod("inner", 0o755);
    };
    write("1");
    settled(&sandbox, "linked outside tool inner");
    write("2");
    sandbox.run("build linked outside tool inner").counts("0 fresh, 0 restored, 4 ran").success();
    assert_eq!(["a", "b", "c", "d"].map(|path| sandbox.read(path)), ["2\n"; 4]);
}

#[test]
fn a_program_that_appears_behind_a_dangling_link_earlier_on_path_is_seen() {
    let sandbox = Sandbox::new();
    let late = sandbox.root().join("late");
    fs::create_dir(&late).unwrap();
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, format!("#!/bin/sh\necho {text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(&late.join("say"), "1");
    symlink("../to-come", sandbox.root().join("bin/say")).unwrap();
    sandbox
        .env("PATH", format!("{0}/bin:{0}/late:/usr/bin:/bin", sandbox.root().display()))
        .tasks("[tasks.say]\ninputs = ['i']\noutputs = ['o']\nrun = 'say > o'\n")
        .file("i", "");
    settled(&sandbox, "say");
    write(&sandbox.root().join("to-come"), "2");
    sandbox.run("build say").success();
    assert_eq!(sandbox.read("o"), "2\n");
}

#[test]
fn a_glob_that_begins_with_an_output_makes_its_task_a_need_with_or_without_a_slash() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.use]
inputs = ['dist/**']
outputs = ['b']
run = 'cat dist/x > b'
[tasks.make]
inputs = ['a']
outputs = ['dist']
run = 'mkdir dist; cat a > dist/x'
",
        )
        .file("a", "1");
    settled(&sandbox, "use");
    sandbox.file("a", "2").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("b"), "2");
}

#[test]
fn what_stands_in_the_place_of_an_output_that_is_made_no_more_is_gone_before_others_look() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.dir]
inputs = ['i']
outputs = ['d/', 'e*']
run = 'mkdir -p d; touch d/always e; [ $(cat i) = 1 ] || touch d/more emore'
[tasks.use]
inputs = ['d/', 'e*']
outputs = ['seen']
run = 'ls d e* > seen'
",
        )
        .file("i", "1");
    settled(&sandbox, "use");
    let seen = sandbox.read("seen");
    sandbox.file("i", "2");
    settled(&sandbox, "use");
    assert_ne!(sandbox.read("seen"), seen);
    for path in ["d/more", "emore"] {
        sandbox.remove(path).link(path, "elsewhere");
    }
    sandbox.file("i", "1").run("build use").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!(sandbox.read("seen"), seen);
    assert!(["d/more", "emore"].iter().all(|path| !sandbox.work().join(path).is_symlink()));
    sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn tasks_that_swap_their_outputs_do_not_remove_each_others() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.a]
inputs = ['i']
outputs = ['one']
run = 'echo a > one'
[tasks.b]
inputs = ['i']
outputs = ['two']
run = 'echo b > two'
";
    sandbox.tasks(tasks).file("i", "");
    settled(&sandbox, "a b");
    sandbox.tasks(&tasks.replace("one", "X").replace("two", "one").replace('X', "two"));
    sandbox.run("build a b").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!([sandbox.read("one"), sandbox.read("two")], ["b\n", "a\n"]);
    sandbox.run("build a b").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_task_whose_name_is_used_again_does_not_remove_what_it_once_made() {
    let sandbox = Sandbox::new();
    let first = "[tasks.a]\ninputs = ['i']\noutputs = ['one']\nrun = 'echo 1 > one'\n";
    sandbox.tasks(first).file("i", "").run("build a").success();
    let renamed = first.replace("tasks.a", "tasks.b");
    sandbox.tasks(&renamed).run("build b").success();
    sandbox.tasks(&format!("{renamed}[tasks.a]\ninputs = ['i']\noutputs = ['two']\nrun = 'echo 2 > two'\n"));
    sandbox.run("build b a").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!([sandbox.read("one"), sandbox.read("two")], ["1\n", "2\n"]);
}

#[test]
fn a_stray_in_an_output_is_seen_moved_aside_and_in_no_result() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.make]
inputs = ['a']
outputs = ['dist', 'src/*.gen']
run = 'mkdir dist; cat a > dist/x; cat a > src/x.gen'
[tasks.pack]
needs = ['make']
inputs = ['j']
outputs = ['b']
run = 'ls dist src > b'
",
        )
        .file("a", "1")
        .file("j", "");
    settled(&sandbox, "pack");
    let listed = sandbox.read("b");
    for stray in ["dist/stray", "src/stray.gen"] {
        sandbox.file(stray, "mine").file("j", stray).run("build pack").counts("0 fresh, 1 restored, 1 ran").success();
        assert_eq!(sandbox.read("b"), listed);
        settled(&sandbox, "pack");
    }
    assert_eq!(
        [sandbox.read(".bcache/aside/1/dist/stray"), sandbox.read(".bcache/aside/2/src/stray.gen")],
        ["mine"; 2]
    );
}

#[test]
fn what_the_user_makes_by_hand_after_a_failure_is_moved_aside() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.make]\ninputs = ['i']\noutputs = ['b']\nrun = 'cat i > b; test -s i'\n")
        .file("i", "")
        .run("build make")
        .exit(1);
    assert!(!sandbox.exists("b"));
    sandbox.file("b", "by hand").file("i", "1").run("build make").success();
    assert_eq!([sandbox.read("b"), sandbox.read(".bcache/aside/1/b")], ["1", "by hand"]);
}

#[test]
fn dependents_of_a_step_whose_input_was_edited_meanwhile_go_on_with_what_it_made() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.first]
inputs = ['i']
outputs = ['a']
run = '{ran} first; cat i > a; {gate edit}'
[tasks.second]
inputs = ['a']
outputs = ['b']
run = '{ran} second; cat a > b'
",
        )
        .file("i", "1");
    let running = sandbox.start("build second");
    sandbox.reached("edit");
    sandbox.file("i", "2").open("edit");
    running.wait().counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("b"), "1");
    let running = sandbox.start("build second");
    sandbox.reached("edit");
    sandbox.open("edit");
    running.wait().counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("b"), "2");
}

#[test]
fn shared_files_of_a_sysroot_come_back_when_they_are_taken_away_or_edited() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[sysroots.s]
path = 'sys'
shared-files = ['dir']
[tasks.a]
sysroot = 's'
inputs = ['i']
run = 'echo a >> {{ sysroot.prefix }}/dir; echo a > {{ sysroot.prefix }}/a'
[tasks.b]
sysroot = 's'
needs = ['a']
inputs = ['i']
run = 'echo b >> {{ sysroot.prefix }}/dir; echo b > {{ sysroot.prefix }}/b'
",
        )
        .file("i", "");
    settled(&sandbox, "b");
    sandbox.remove("sys/dir").run("build b").success();
    assert_eq!(sandbox.read("sys/dir"), "b\n");
    settled(&sandbox, "b");
    sandbox.file("sys/dir", "x\n").run("build b").success();
    assert_eq!(sandbox.read("sys/dir"), "b\n");
}

#[test]
fn a_sysroot_behind_a_link_that_leads_out_of_the_workspace_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[sysroots.s]
path = 'link/sys'
[tasks.a]
sysroot = 's'
inputs = ['i']
run = 'touch {{ sysroot.prefix }}/a'
",
        )
        .file("i", "")
        .file("../outside/here", "")
        .link("link", "../outside")
        .run("build a")
        .exit(5);
    assert!(!sandbox.exists("../outside/sys"));
}

/// Two steps that install into one prefix.
const TWO: &str = "
[sysroots.s]
path = 'sys'
[tasks.slow]
inputs = ['k']
outputs = ['slow']
run = 'cat k > slow'
[tasks.first]
sysroot = 's'
inputs = ['i', 'slow']
run = 'sh i {{ sysroot.prefix }}; echo > {{ sysroot.prefix }}/first'
[tasks.second]
sysroot = 's'
inputs = ['j']
run = 'sh j {{ sysroot.prefix }}; echo > {{ sysroot.prefix }}/second'
[tasks.both]
needs = ['second', 'first']
";

#[test]
fn a_file_that_two_steps_installed_stays_when_one_of_them_installs_it_no_more() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TWO).file("k", "").file("i", "echo same > $1/x").file("j", "echo same > $1/x");
    sandbox.run("build first").success();
    settled(&sandbox, "both");
    sandbox.file("i", ":").run("build first").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("sys/x"), "same\n");
    settled(&sandbox, "both");
    sandbox.remove("sys").run("build both").counts("1 fresh, 2 restored, 0 ran").success();
    assert_eq!(sandbox.read("sys/x"), "same\n");
}

#[test]
fn a_file_that_two_steps_installed_is_a_conflict_when_one_of_them_changes_it() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TWO).file("k", "").file("i", "echo same > $1/x").file("j", "echo same > $1/x");
    sandbox.run("build first").success();
    settled(&sandbox, "both");
    sandbox.file("i", "echo other > $1/x");
    let outcome = sandbox.run("build both");
    assert!(outcome.said().contains("`first@host` and `second@host` both installed `x`: they differ"));
    outcome.exit(1);
}

#[test]
fn a_file_can_move_from_one_step_to_another_in_either_order() {
    let sandbox = Sandbox::new();
    let (with, without) = (|who: &str| format!("echo {who} > $1/x"), ":");
    sandbox.tasks(TWO).file("k", "").file("i", with("first")).file("j", without);
    settled(&sandbox, "both");
    sandbox
        .file("i", without)
        .file("j", with("second"))
        .run("build both")
        .counts("1 fresh, 0 restored, 2 ran")
        .success();
    assert_eq!(sandbox.read("sys/x"), "second\n");
    sandbox
        .file("i", with("first"))
        .file("j", without)
        .run("build both")
        .counts("1 fresh, 2 restored, 0 ran")
        .success();
    assert_eq!(sandbox.read("sys/x"), "first\n");
    sandbox.file("j", with("second")).run("build both").exit(1);
}

#[test]
fn a_result_that_holds_the_path_of_the_workspace_answers_only_there() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.bound]
inputs = ['i']
outputs = ['a']
run = '{ran} bound; pwd > a'
[tasks.link]
inputs = ['i']
outputs = ['b']
run = '{ran} link; ln -s \"$PWD/i\" b'
[tasks.free]
inputs = ['i']
outputs = ['c']
run = '{ran} free; cat i > c'
";
    sandbox.tasks(tasks).file("i", "1");
    settled(&sandbox, "bound link free");
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("i", "1");
    other.run("build bound link free").counts("0 fresh, 1 restored, 2 ran").success();
    assert_eq!(other.read("a"), format!("{}\n", other.work().display()));
    settled(&other, "bound link free");
    // Both are in the store, each for its own place.
    for tree in [&sandbox, &other] {
        tree.remove("a").remove("b").run("build bound link free").counts("1 fresh, 2 restored, 0 ran").success();
        assert_eq!(tree.read("a"), format!("{}\n", tree.work().display()));
    }
}

#[test]
fn a_path_of_the_workspace_whose_slashes_are_escaped_is_found_in_a_result() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.bound]
inputs = ['i']
outputs = ['a']
run = '{ran} bound; pwd | sed \"s,/,\\\\\\\\/,g\" > a'
";
    sandbox.tasks(tasks).file("i", "1");
    settled(&sandbox, "bound");
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("i", "1").run("build bound").counts("0 fresh, 0 restored, 1 ran").success();
    let escaped = |tree: &Sandbox| format!("{}\n", tree.work().display()).replace('/', "\\/");
    for tree in [&sandbox, &other] {
        tree.remove("a").run("build bound").counts("0 fresh, 1 restored, 0 ran").success();
        assert_eq!(tree.read("a"), escaped(tree));
    }
}

#[test]
fn a_worktree_that_was_moved_makes_what_holds_its_path_anew() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.bound]
inputs = ['i']
outputs = ['a']
run = '{ran} bound; pwd > a'
[tasks.free]
inputs = ['i']
outputs = ['b']
run = '{ran} free; cat i > b'
";
    sandbox.tasks(tasks).file("i", "1");
    settled(&sandbox, "bound free");
    let moved = sandbox.worktree("moved");
    fs::remove_dir(moved.work()).unwrap();
    fs::rename(sandbox.work(), moved.work()).unwrap();
    let why = "setting-changed: place of the workspace changed: `[ROOT]/work` -> `[ROOT]/moved`";
    moved.run("why bound").stdout(&format!("bound@host would run now:\n  {why}\n")).success();
    moved.run("build bound free").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(moved.read("a"), format!("{}\n", moved.work().display()));
    settled(&moved, "bound free");
}

#[test]
fn a_layer_that_the_store_and_the_state_have_lost_is_had_from_the_prefix() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[sysroots.s]
path = 'sys'
[tasks.a]
sysroot = 's'
inputs = ['i']
run = '{ran} a; mkdir {{ sysroot.prefix }}/d; cat i > {{ sysroot.prefix }}/d/a; ln -s d/a {{ sysroot.prefix }}/l'
[tasks.b]
needs = ['a']
sysroot = 's'
inputs = ['j']
run = '{ran} b; cat j {{ sysroot.prefix }}/l > {{ sysroot.prefix }}/b'
",
        )
        .file("i", "1")
        .file("j", "2");
    settled(&sandbox, "b");
    sandbox.remove("sys").run("build b").counts("0 fresh, 2 restored, 0 ran").success();
    sandbox.run("cache clean --yes").success();
    sandbox.remove(".bcache/layers").file("j", "3").run("build b").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("sys/b"), "31");
}

#[test]
fn a_program_that_is_installed_anew_with_the_same_bytes_is_asked_for_its_version_again() {
    let sandbox = Sandbox::new();
    let module = sandbox.root().join("module");
    let script = format!(". {}", module.display());
    let tasks = "[tasks.say]\ninputs = ['i']\noutputs = ['o']\nrun = 'say > o'\n";
    fs::write(&module, "echo 1\n").unwrap();
    sandbox.tool("say", &script).tasks(tasks).file("i", "");
    settled(&sandbox, "say");
    fs::write(&module, "echo 2\n").unwrap();
    sandbox.tool("say", &script).run("build say").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "2\n");
}

#[test]
fn an_exclusion_counts_below_a_directory_that_is_an_input() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.list]\ninputs = ['dir', '!dir/made/**']\noutputs = ['o']\nrun = '{ran} list; ls dir > o'\n")
        .file("dir/a", "1")
        .file("dir/made/b", "1");
    settled(&sandbox, "list");
    sandbox.file("dir/made/b", "2").run("build list").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.file("dir/c", "2").run("build list").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn what_a_killed_run_left_is_cleared_under_another_manifest_too() {
    let sandbox = Sandbox::new();
    let tasks = |outputs: &str, run: &str| {
        format!(
            "
[tasks.make]
inputs = ['i']
outputs = ['{outputs}']
run = '{run}'
[tasks.use]
inputs = ['d/**']
outputs = ['o']
run = 'ls d > o'
"
        )
    };
    sandbox.tasks(&tasks("d/", "echo > d/a; {gate made}; echo > d/b")).file("i", "");
    let build = sandbox.start("build use");
    sandbox.reached("made");
    build.kill();
    assert!(sandbox.exists("d/a"));
    sandbox.tasks(&tasks("d/*.x", "echo > d/c.x")).run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("o"), "c.x\n");
}

#[test]
fn a_link_to_a_directory_that_a_glob_matches_counts_by_its_text() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.copy]\ninputs = ['src/*']\noutputs = ['o']\nrun = '{ran} copy; cp -P src/link o'\n")
        .file("one/a", "1")
        .file("two/a", "1")
        .link("src/link", "../one");
    settled(&sandbox, "copy");
    sandbox.remove("src/link").link("src/link", "../two").run("build copy").success();
    assert_eq!(fs::read_link(sandbox.at("o")).unwrap(), std::path::Path::new("../two"));
    sandbox.ran_times("copy", 2);
}

#[test]
fn an_included_manifest_in_a_directory_behind_a_link_that_is_turned_is_read_anew() {
    let sandbox = Sandbox::new();
    let task =
        |word: &str| format!("[tasks.copy]\ninputs = ['in']\noutputs = ['o']\nrun = 'echo {word} $(cat in) > o'\n");
    sandbox
        .tasks("include = ['first/a/more.toml']\n[bcache]\nversion = 1\n")
        .file("v1/more.toml", task("one"))
        .file("v2/more.toml", task("two"))
        // The same bytes, and other files beside them.
        .file("v3/more.toml", task("two"))
        .link("first", ".")
        .link("a", "cur")
        .link("cur", "v1");
    for v in ["v1", "v2", "v3"] {
        sandbox.file(format!("{v}/in"), v);
    }
    let turn = |to: &str| sandbox.remove("cur").link("cur", to);
    settled(&sandbox, "copy");
    for (to, wanted) in [("v2", "two v2\n"), ("v3", "two v3\n"), ("v1", "one v1\n")] {
        turn(to);
        sandbox.run("build copy").success();
        assert_eq!(sandbox.read(format!("{to}/o")), wanted);
        settled(&sandbox, "copy");
    }
    // A directory in the place of the link, with the same bytes.
    sandbox.remove("cur").file("cur/more.toml", task("one")).file("cur/in", "dir").run("build copy").success();
    assert_eq!(sandbox.read("cur/o"), "one dir\n");
}
