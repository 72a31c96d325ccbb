//! Files that a depfile names by a way through links, or with `..`.

mod sandbox;

use std::fs;

use sandbox::Sandbox;

const RAN: &str = "0 fresh, 0 restored, 1 ran";
const RESTORED: &str = "0 fresh, 1 restored, 0 ran";

#[track_caller]
fn settled(sandbox: &Sandbox, task: &str) {
    for _ in 0..3 {
        sandbox.run(&format!("build {task}")).success();
    }
    assert!(!sandbox.run(&format!("build {task}")).said().contains("Running"));
}

fn turn(sandbox: &Sandbox, link: &str, target: &str) {
    sandbox.remove(link).link(link, target);
}

/// All headers are inputs; the link that leads to some of them is none.
const LINKED: &str = "
[tasks.cc]
inputs = ['src/**']
outputs = ['o']
depfile = 'o.d'
run = 'cat include/x.h > o; echo o: include/x.h > o.d'
";

fn linked(sandbox: &Sandbox, to: &str) {
    sandbox.tasks(LINKED).file("src/v1/x.h", "one").file("src/v2/x.h", "two").link("include", to);
}

#[test]
fn a_link_that_is_no_input_and_leads_to_one_is_turned_to_another() {
    let sandbox = Sandbox::new();
    linked(&sandbox, "src/v1");
    settled(&sandbox, "cc");
    turn(&sandbox, "include", "src/v2");
    sandbox.run("plan cc").answers("link include, which it read, changed").success();
    sandbox.run("build cc").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "two");
    settled(&sandbox, "cc");
    turn(&sandbox, "include", "src/v1");
    sandbox.run("build cc").counts(RESTORED).success();
    assert_eq!(sandbox.read("o"), "one");
    // What is behind it counts as the input that it is.
    sandbox.file("src/v1/x.h", "three").run("build cc").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "three");
}

#[test]
fn another_worktree_whose_link_leads_elsewhere_gets_a_result_of_its_own() {
    let sandbox = Sandbox::new();
    linked(&sandbox, "src/v1");
    let (other, same) = (sandbox.worktree("other"), sandbox.worktree("same"));
    linked(&other, "src/v2");
    linked(&same, "src/v1");
    sandbox.run("build cc").counts(RAN).success();
    other.run("build cc").counts(RAN).success();
    assert_eq!(other.read("o"), "two");
    same.run("build cc").counts(RESTORED).success();
    assert_eq!(same.read("o"), "one");
}

#[test]
fn what_lies_behind_a_link_that_a_need_has_made_is_edited() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.link]
inputs = ['version']
outputs = ['cur']
run = 'ln -s $(cat version) cur'
[tasks.use]
needs = ['link']
inputs = ['main']
outputs = ['o']
depfile = 'o.d'
run = 'cat cur/x.h > o; echo o: cur/x.h > o.d'
",
        )
        .file("version", "v1")
        .file("main", "")
        .file("v1/x.h", "one")
        .file("v2/x.h", "two");
    settled(&sandbox, "use");
    sandbox.file("v1/x.h", "three").run("build use").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "three");
    settled(&sandbox, "use");
    sandbox.file("version", "v2").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("o"), "two");
    // Also where neither link nor result is there yet.
    sandbox.remove("cur").remove("o");
    sandbox.run("build use").counts("0 fresh, 2 restored, 0 ran").success();
}

#[test]
fn a_link_between_two_output_directories_of_a_need_is_turned() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
outputs = ['g1/', 'g2/']
run = 'echo one > g1/x.h; echo two > g2/x.h'
[tasks.use]
needs = ['gen']
outputs = ['o']
depfile = 'o.d'
run = 'cat cur/x.h > o; echo o: cur/x.h > o.d'
",
        )
        .link("cur", "g1");
    settled(&sandbox, "use");
    turn(&sandbox, "cur", "g2");
    sandbox.run("build use").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "two\n");
}

#[test]
fn what_lies_behind_a_link_that_a_layer_holds_is_edited() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        sandbox
            .tasks(
                "
[sysroots.s]
path = 'p'
[tasks.lib]
sysroot = 's'
inputs = ['in']
run = 'ln -s ../dev p/include; echo lib > p/lib.h'
[tasks.use]
needs = ['lib']
inputs = ['in']
outputs = ['o']
depfile = 'o.d'
run = 'cat p/include/x.h p/lib.h > o; echo o: p/include/x.h p/lib.h > o.d'
[tasks.own]
sysroot = 's'
inputs = ['in']
depfile = 'own.d'
run = 'ln -s ../dev p/own; cat p/own/x.h > p/text; echo o: p/own/x.h > own.d'
",
            )
            .file("in", "")
            .file("dev/x.h", "one\n");
        settled(&sandbox, "use own");
        sandbox.file("dev/x.h", "two\n").run("build use own").counts("1 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("o"), "two\nlib\n");
        assert_eq!(sandbox.read("p/text"), "two\n");
        settled(&sandbox, "use own");
    }
}

#[test]
fn a_link_that_the_run_makes_is_followed_and_found_again_when_it_is_gone() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.pkg]
source = { path = 'pkg' }
outputs = ['out/']
depfile = '{{ step.build }}/*.d'
run = '''
here=$PWD; cd ../../../../..
ln -s ../cur out/inc; ln -s $PWD/src $here/src; cat out/inc/x.h $here/src/y.h > out/o
echo o: $PWD/out/inc/x.h $here/src/y.h out/o > $here/a.d
'''
",
        )
        .file("pkg/a", "")
        .file("src/y.h", "y")
        .file("v1/x.h", "one")
        .file("v2/x.h", "two")
        .link("cur", "v1");
    settled(&sandbox, "pkg");
    sandbox.remove("out").run("build pkg").counts(RESTORED).success();
    sandbox.file("src/y.h", "z").run("build pkg").counts(RAN).success();
    assert_eq!(sandbox.read("out/o"), "onez");
    turn(&sandbox, "cur", "v2");
    sandbox.run("build pkg").counts(RAN).success();
    assert_eq!(sandbox.read("out/o"), "twoz");
}

/// One that the run made, read by a way through a link.
const OWN: &str = "
[tasks.all]
inputs = ['in']
outputs = ['g1/', 'g2/', 'o']
depfile = 'o.d'
run = 'cp in g1/x.h; echo other > g2/x.h; cat WAY/x.h > o; echo o: WAY/x.h > o.d'
";

#[test]
fn a_link_to_what_the_run_itself_makes_counts_by_its_text() {
    let sandbox = Sandbox::new();
    sandbox.tasks(&OWN.replace("WAY", "cur")).file("in", "one").link("cur", "g1");
    settled(&sandbox, "all");
    sandbox.remove("g1").run("build all").counts(RESTORED).success();
    turn(&sandbox, "cur", "g2");
    sandbox.run("build all").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "other\n");
    settled(&sandbox, "all");
}

/// Goes into a directory and out of it again.
fn turning(inputs: &str) -> String {
    format!(
        "[tasks.cc]\ninputs = {inputs}\noutputs = ['o']\ndepfile = 'o.d'\nrun = '''\ncat lib/../x.h > o\necho o: lib/../x.h > o.d'''\n"
    )
}

#[test]
fn a_link_in_the_place_of_a_directory_that_two_dots_leave_leads_to_another_file() {
    for inputs in ["['main']", "['main', 'x.h']"] {
        let sandbox = Sandbox::new();
        sandbox
            .tasks(&turning(inputs))
            .file("main", "")
            .file("x.h", "one")
            .file("far/x.h", "two")
            .dir("lib")
            .dir("far/lib");
        settled(&sandbox, "cc");
        sandbox.remove("lib").link("lib", "far/lib");
        sandbox.run("plan cc").answers("lib").success();
        sandbox.run("build cc").counts(RAN).success();
        assert_eq!(sandbox.read("o"), "two", "{inputs}");
        settled(&sandbox, "cc");
        sandbox.remove("lib").dir("lib");
        sandbox.run("build cc").counts(RESTORED).success();
        assert_eq!(sandbox.read("o"), "one", "{inputs}");
        settled(&sandbox, "cc");
        // What else is in it, or that it is gone, means nothing for the name.
        sandbox.file("lib/new", "").run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
        sandbox.remove("lib").run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn a_file_that_two_dots_could_not_reach_is_missed_until_they_can() {
    let sandbox = Sandbox::new();
    let run = "run = 'cat lib/../x.h > o 2>/dev/null || echo none > o; echo o: lib/../x.h > o.d'";
    sandbox.tasks(&format!("[tasks.cc]\ninputs = ['main']\noutputs = ['o']\ndepfile = 'o.d'\n{run}\n"));
    sandbox.file("main", "").file("x.h", "one");
    settled(&sandbox, "cc");
    assert_eq!(sandbox.read("o"), "none\n");
    sandbox.dir("lib").run("build cc").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "one");
    settled(&sandbox, "cc");
}

#[test]
fn a_file_that_was_read_by_way_of_a_directory_that_the_run_took_away_counts() {
    let sandbox = Sandbox::new();
    let run = "run = 'mkdir tmp; cat tmp/../x.h > o; echo o: tmp/../x.h > o.d; rmdir tmp'";
    sandbox.tasks(&format!("[tasks.cc]\ninputs = ['main']\noutputs = ['o']\ndepfile = 'o.d'\n{run}\n"));
    sandbox.file("main", "").file("x.h", "one");
    assert!(!sandbox.run("build cc").counts(RAN).said().contains("warning"));
    settled(&sandbox, "cc");
    sandbox.file("x.h", "two").run("build cc").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "two");
}

#[test]
fn a_neighbour_of_the_workspace_that_is_named_from_there_is_another_worktrees_own() {
    let sandbox = Sandbox::new();
    let (one, two) = (sandbox.worktree("a/tree"), sandbox.worktree("b/tree"));
    for (tree, text) in [(&one, "one"), (&two, "two")] {
        tree.tasks("[tasks.cc]\ninputs = ['main']\noutputs = ['o']\ndepfile = 'o.d'\nrun = 'cat ../x.h > o; echo o: ../x.h > o.d'\n");
        tree.file("main", "").file("../x.h", text);
        tree.run("build cc").counts(RAN).success();
        assert_eq!(tree.read("o"), text);
        settled(tree, "cc");
    }
    two.file("../x.h", "one").run("build cc").counts(RESTORED).success();
    assert_eq!(two.read("o"), "one");
    // A worktree that moves has other neighbours.
    sandbox.dir("../c");
    fs::write(sandbox.root().join("c/x.h"), "three").unwrap();
    fs::rename(one.work(), sandbox.root().join("c/tree")).unwrap();
    let moved = sandbox.worktree("c/tree");
    moved.run("build cc").counts(RAN).success();
    assert_eq!(moved.read("o"), "three");
}

#[test]
fn a_neighbour_of_the_workspace_that_is_named_by_its_whole_path_answers_nowhere_else() {
    let sandbox = Sandbox::new();
    let (one, two) = (sandbox.worktree("a/tree"), sandbox.worktree("b/tree"));
    for (tree, text) in [(&one, "one"), (&two, "two")] {
        // Another name that begins like the neighbour's is not it.
        let longer = sandbox.root().join("a/x.hpp").display().to_string();
        tree.tasks(&
            format!("[tasks.cc]\ninputs = ['main']\noutputs = ['o']\ndepfile = 'o.d'\nrun = 'cat ../x.h > o; : {longer}; echo o: $(realpath ../x.h) > o.d'\n"),
        );
        tree.file("main", "").file("../x.h", text);
        tree.run("build cc").counts(RAN).success();
        assert_eq!(tree.read("o"), text);
        settled(tree, "cc");
    }
    one.file("../x.h", "three").run("build cc").counts(RAN).success();
    one.file("../x.h", "one").run("build cc").counts(RESTORED).success();
    assert_eq!(one.read("o"), "one");
}

#[test]
fn a_workspace_that_is_named_by_a_link_to_it_costs_no_run() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink(sandbox.work(), sandbox.root().join("alias")).unwrap();
    let way = sandbox.root().join("alias/g1");
    sandbox.tasks(&OWN.replace("WAY", way.to_str().unwrap())).file("in", "one");
    settled(&sandbox, "all");
    sandbox.remove("o").run("build all").counts(RESTORED).success();
    sandbox.file("in", "two").run("build all").counts(RAN).success();
    assert_eq!(sandbox.read("o"), "two");
}

#[test]
fn what_is_known_by_its_own_name_is_no_more_than_that() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for tree in [&sandbox, &other] {
        tree.tasks(
            "
[tasks.gen]
outputs = ['gen/*.h']
run = 'echo g > gen/g.h'
[tasks.cc]
needs = ['gen']
inputs = ['cur/*', 'way']
outputs = ['o', 'out/']
depfile = 'o.d'
run = 'cat gen/g.h cur/x.h way > out/o; cp out/o o; echo o: gen/g.h cur/x.h way out/o o.d > o.d'
",
        )
        .file("v1/x.h", "one")
        .link("cur", "v1")
        .link("way", "cur/x.h");
        fs::create_dir_all(tree.at("gen")).unwrap();
    }
    settled(&sandbox, "cc");
    other.run("build cc").counts("0 fresh, 2 restored, 0 ran").success();
    let why = sandbox.file("v1/x.h", "two").run("why cc").answered().to_owned();
    assert!(!why.contains("which it read"), "{why}");
    sandbox.run("build cc").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "g\ntwotwo");
}
