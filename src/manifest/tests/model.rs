//! What the merged model says.

use super::super::error::place;
use super::super::expand::{Expander, Scope, TargetFacts, host_triple, layered_vars};
use super::super::model::{Command, SourceFrom, Task, Var};
use super::manifest;

fn shell(task: &Task) -> Vec<&str> {
    let commands = task.commands();
    commands.map(|c| if let Command::Shell(text) = c { text.as_str() } else { panic!("{c:?}") }).collect()
}

fn names<T: std::ops::Deref<Target = String>>(list: &[T]) -> Vec<&str> {
    list.iter().map(|name| name.as_str()).collect()
}

#[test]
fn templates_are_laid_over_each_other_and_the_task_over_all() {
    let manifest = manifest(
        r#"
[sysroots.s]
path = "s"
[templates.base]
needs = ["n1"]
env = { A = "base", B = "base" }
vars = { v = "base", w = ["base"] }
run = ["one", "two"]
tools = ["gcc", { name = "make", install = "apt-get install make" }]
inputs = "i1"
env-pass = ["X"]
clean = false
timeout = "1m"
[templates.left]
extends = "base"
env = { B = "left" }
[templates.right]
extends = ["base"]
before = "first"
needs = ["n2"]
inputs = ["!i2"]
[tasks.n1]
[tasks.n2]
[tasks.t]
extends = ["left", "right"]
needs = ["n2", "n1@host"]
env.C = "task"
vars.w = []
tools = [{ name = "make", version = "make -v" }]
env-pass = { name = "X", key = false }
after = ["last"]
sysroot = "s"
timeout = "1h30m"
"#,
    );
    let task = &manifest.tasks["t"];
    assert_eq!(names(&task.needs), ["n1", "n2", "n1@host"]);
    let env: Vec<_> = task.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("A", "base"), ("B", "left"), ("C", "task")]);
    assert_eq!(shell(task), ["first", "one", "two", "last"]);
    assert!(matches!(&task.vars["w"], Var::List(list) if list.is_empty()));
    assert!(matches!(&task.vars["v"], Var::Text(text) if text.value == "base"));
    let make = &task.tools[1];
    assert_eq!(
        (make.install.as_deref(), make.version.as_ref().map(|v| v.as_str())),
        (Some("apt-get install make"), Some("make -v"))
    );
    let inputs: Vec<_> = task.inputs.iter().map(|i| (i.pattern.as_str(), i.exclude)).collect();
    assert_eq!(inputs, [("i1", false), ("i2", true)]);
    assert_eq!(task.env_pass.iter().map(|p| (p.name.as_str(), p.key)).collect::<Vec<_>>(), [("X", false)]);
    assert!(!task.clean && task.cache);
    assert_eq!(task.timeout.map(|t| t.as_secs()), Some(5400));
}

#[test]
fn an_empty_run_in_a_task_takes_the_template_s_commands_away() {
    let manifest = manifest("[templates.t]\nrun = \"x\"\n[tasks.a]\nextends = \"t\"\nrun = []\n");
    assert!(manifest.tasks["a"].is_group());
}

#[test]
fn one_string_does_for_a_list() {
    let manifest = manifest(
        r#"rebuild-env = "R"
[tasks.b]
[tasks.a]
needs = "b"
targets = "host"
inputs = { glob = "a", optional = true }
outputs = "o"
tools = "make"
env-pass = "E"
secrets = "S"
path = "bin"
run = "make"
"#,
    );
    let task = &manifest.tasks["a"];
    assert_eq!((names(&task.needs), names(&task.targets)), (vec!["b"], vec!["host"]));
    assert!(task.inputs[0].optional && task.inputs[0].pattern.value == "a");
    assert_eq!((task.outputs.len(), task.tools.len(), task.env_pass.len()), (1, 1, 1));
    assert_eq!((names(&task.secrets), names(&task.path)), (vec!["S"], vec!["bin"]));
    assert_eq!(manifest.settings.rebuild_env, ["R"]);
}

#[test]
fn commands_may_be_strings_and_lists_mixed() {
    let manifest = manifest("[tasks.a]\nrun = [\"make\", [\"echo\", \"\", \"a b\"]]\n");
    let [Command::Shell(shell), Command::Argv(argv)] = &manifest.tasks["a"].run[..] else { panic!() };
    assert_eq!((shell.as_str(), names(argv)), ("make", vec!["echo", "", "a b"]));
    assert!(manifest.warnings.is_empty());
}

#[test]
fn a_list_of_words_for_run_draws_a_warning() {
    let manifest = manifest("[tasks.a]\nrun = [\"cargo\", \"build\"]\n[tasks.b]\nrun = [\"make\", \"make install\"]\n");
    let texts: Vec<_> = manifest.warnings.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(
        texts,
        ["`run` runs `cargo` and `build` as commands of their own: did you mean [[\"cargo\", \"build\"]]?"]
    );
    assert_eq!(place(&manifest.files, manifest.warnings[0].span), "tasks.toml:4:7");
}

#[test]
fn numbers_and_booleans_in_vars_and_env_are_their_text() {
    let manifest = manifest("[vars]\na = 1_000\nb = true\nc = [1.5, \"x\", 0x1F]\n[tasks.t]\nrun = \"x\"\nenv.N = 3\n");
    assert!(matches!(&manifest.vars["a"], Var::Text(text) if text.value == "1000"));
    assert!(matches!(&manifest.vars["b"], Var::Text(text) if text.value == "true"));
    assert!(matches!(&manifest.vars["c"], Var::List(list) if names(list) == ["1.5", "x", "0x1F"]));
    assert_eq!(manifest.tasks["t"].env["N"].value, "3");
}

#[test]
fn the_order_of_the_file_is_kept() {
    let manifest = manifest("[tasks.z]\n[tasks.a]\n[tasks.m]\nrun = \"x\"\nenv = { Z = \"1\", A = \"2\" }\n");
    assert_eq!(manifest.tasks.keys().collect::<Vec<_>>(), ["z", "a", "m"]);
    assert_eq!(manifest.tasks["m"].env.keys().collect::<Vec<_>>(), ["Z", "A"]);
}

#[test]
fn host_may_have_env_and_vars_and_has_the_triple_of_this_machine() {
    let manifest = manifest("[targets.host]\nenv.CC = \"gcc-12\"\nvars.a = \"b\"\n[tasks.t]\nrun = \"{{ vars.a }}\"\n");
    assert_eq!(manifest.targets["host"].triple.value, host_triple());
}

#[test]
fn sources_are_read_with_their_patches() {
    let sum = "AB".repeat(32);
    let manifest = manifest(&format!(
        "[tasks.u]\nrun = \"x\"\nsource = {{ url = \"https://x/{{{{ task.name }}}}\", sha256 = \"{sum}\", patches = [\"b\", \"a\"] }}
[tasks.a]\nrun = \"x\"\nsource = {{ archive = \"f\" }}
[tasks.g]\nrun = \"x\"\nsource = {{ git = \"r\", rev = \"D48A2D0\" }}
[tasks.p]\nrun = \"x\"\nsource.path = \"../p\"
"
    ));
    let source = |task: &str| manifest.tasks[task].source.clone().unwrap();
    let SourceFrom::Url { sha256, .. } = source("u").from else { panic!() };
    assert_eq!(sha256.value, "ab".repeat(32));
    assert_eq!(names(&source("u").patches), ["b", "a"]);
    assert!(matches!(source("a").from, SourceFrom::Archive { sha256: None, .. }));
    assert!(matches!(source("g").from, SourceFrom::Git { rev, .. } if rev.value == "d48a2d0"));
    assert!(matches!(source("p").from, SourceFrom::Path { path } if path.value == "../p"));
}

/// Besides being a test of correctness in the large: a square in the number of tasks would take minutes.
#[test]
fn five_thousand_tasks_load_and_expand() {
    let mut body = String::from(
        "[vars]\nopt = \"-O2\"\n[sysroots.s]\npath = \"s\"\n[templates.t]\nsysroot = \"s\"\nvars.c = []\n\
         run = [\"{{ step.source }}/configure --prefix={{ sysroot.prefix }} {{ vars.c }}\", \"make\", \"make install\"]\n",
    );
    for i in 0..5000 {
        body += &format!("[tasks.t{i}]\nextends = \"t\"\nneeds = [\"t{}\"]\n", i / 2);
        body += &format!("vars.c = [\"--a={{{{ vars.opt }}}}\", \"{{{{ task.name }}}}\"]\ninputs = [\"src/{i}/**\"]\n");
    }
    let manifest = manifest(&body);
    for (i, (name, task)) in manifest.tasks.iter().enumerate() {
        let mut expander = Expander::new(Scope {
            task_name: name,
            source: Some("/w/src".into()),
            build: Some("/w/build".into()),
            target: TargetFacts::host(),
            host_triple: host_triple(),
            prefix: Some("/p".into()),
            toolchain: None,
            vars: layered_vars(&manifest, "host", Some(task)),
            args: None,
            jobs: "1".into(),
        });
        let Command::Shell(configure) = &task.run[0] else { panic!("{:?}", task.run) };
        assert_eq!(expander.shell(configure).unwrap(), format!("/w/src/configure --prefix=/p --a=-O2 t{i}"));
    }
}
