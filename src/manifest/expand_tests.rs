//! What each kind of value becomes in each kind of string.

use super::*;
use crate::base::span::{FileId, Spanned};
use crate::manifest::tests::manifest;

fn text(value: &str) -> Text {
    // As if it stood between quotes, so that places inside can be told.
    Spanned::new(value.to_owned(), Span { file: FileId(0), start: 100, end: 102 + value.len() as u32 })
}

fn list(words: &[&str]) -> Var {
    Var::List(words.iter().map(|word| text(word)).collect())
}

/// In a task with a source in `/w/my src` and a sysroot in `/w/root`.
pub(in crate::manifest) fn expander(vars: &[(&str, Var)]) -> Expander<'static> {
    Expander::new(Scope {
        task_name: "glib",
        source: Some("/w/my src".into()),
        build: Some("/w/build".into()),
        target: TargetFacts::from_triple("arm", "aarch64-unknown-linux-gnu.2.28"),
        host_triple: "x86_64-unknown-linux-gnu".into(),
        prefix: Some("/w/root".into()),
        toolchain: None,
        vars: vars.iter().map(|(name, var)| ((*name).to_owned(), var.clone())).collect(),
        args: Some(vec!["--all".into(), "it's".into()]),
        jobs: "@jobs@".into(),
    })
}

fn shell(source: &str, vars: &[(&str, Var)]) -> String {
    expander(vars).shell(&text(source)).unwrap()
}

fn raw(source: &str, vars: &[(&str, Var)]) -> String {
    expander(vars).text(&text(source)).unwrap()
}

fn argv(words: &[&str], vars: &[(&str, Var)]) -> Vec<String> {
    let words: Vec<_> = words.iter().map(|word| text(word)).collect();
    expander(vars).argv(&words).unwrap()
}

fn problem(source: &str, vars: &[(&str, Var)]) -> (String, u32, u32) {
    let problem = expander(vars).shell(&text(source)).unwrap_err();
    (problem.message, problem.primary.start, problem.primary.end)
}

#[test]
fn every_name_has_its_value() {
    let all = "{{ task.name }} {{ step.build }} {{ target.name }} {{ target.triple }} {{ target.arch }} \
               {{ target.os }} {{ host.triple }} {{ sysroot.prefix }} {{ jobs }}";
    assert_eq!(
        shell(all, &[]),
        "glib /w/build arm aarch64-unknown-linux-gnu.2.28 aarch64 linux x86_64-unknown-linux-gnu /w/root @jobs@"
    );
}

#[test]
fn in_a_shell_string_paths_and_args_are_quoted_when_they_need_it() {
    assert_eq!(shell("{{ step.source }}/configure {{ args }}", &[]), r"'/w/my src'/configure --all 'it'\''s'");
    assert_eq!(shell("cd {{ step.build }}", &[]), "cd /w/build");
}

#[test]
fn in_a_shell_string_a_list_is_quoted_word_by_word_and_a_string_is_raw() {
    let vars = [("list", list(&["--a=b c", "-d"])), ("string", Var::Text(text("-x $HOME 'a b'")))];
    assert_eq!(shell("./c {{ vars.list }} {{ vars.string }}", &vars), "./c '--a=b c' -d -x $HOME 'a b'");
}

#[test]
fn an_empty_list_is_nothing() {
    let vars = [("none", list(&[]))];
    assert_eq!(shell("make {{ vars.none }}", &vars), "make ");
    assert_eq!(argv(&["make", "{{ vars.none }}", "all"], &vars), ["make", "all"]);
}

#[test]
fn in_argv_a_list_alone_is_spread_and_inside_a_word_is_joined() {
    let vars = [("list", list(&["a b", "c"])), ("string", Var::Text(text("d e")))];
    assert_eq!(
        argv(&["x", "{{ vars.list }}", "-l={{ vars.list }}", "{{ vars.string }}", "{{ args }}", ""], &vars),
        ["x", "a b", "c", "-l=a b c", "d e", "--all", "it's", ""]
    );
    assert_eq!(argv(&["{{ step.source }}/x"], &[]), ["/w/my src/x"]);
}

#[test]
fn elsewhere_paths_are_raw_and_lists_are_joined() {
    let vars = [("flags", list(&["-I{{ sysroot.prefix }}", "-g"]))];
    assert_eq!(raw("{{ vars.flags }} {{ step.source }}", &vars), "-I/w/root -g /w/my src");
}

#[test]
fn variables_may_use_names_and_other_variables() {
    let vars = [
        ("inner", list(&["{{ step.source }}", "2"])),
        ("outer", list(&["1", "{{ vars.inner }}", "--x={{ sysroot.prefix }}"])),
        ("piece", Var::Text(text("-C {{ step.source }}"))),
    ];
    assert_eq!(argv(&["{{ vars.outer }}"], &vars), ["1", "/w/my src", "2", "--x=/w/root"]);
    assert_eq!(shell("{{ vars.outer }}", &vars), "1 '/w/my src' 2 --x=/w/root");
    assert_eq!(shell("tar {{ vars.piece }}", &vars), "tar -C '/w/my src'");
    assert_eq!(raw("{{ vars.piece }}", &vars), "-C /w/my src");
}

#[test]
fn a_variable_used_in_both_ways_is_right_in_both() {
    let vars = [("p", Var::Text(text("{{ step.source }}")))];
    let mut expander = expander(&vars);
    for _ in 0..2 {
        assert_eq!(expander.shell(&text("{{ vars.p }}")).unwrap(), "'/w/my src'");
        assert_eq!(expander.text(&text("{{ vars.p }}")).unwrap(), "/w/my src");
    }
}

#[test]
fn variables_in_a_circle_are_shown_as_one() {
    let vars = [
        ("a", Var::Text(text("{{ vars.b }}"))),
        ("b", list(&["{{ vars.c ~ 'x' }}"])),
        ("c", Var::Text(text("{{ vars.b }}"))),
    ];
    let (message, ..) = problem("{{ vars.a }}", &vars);
    assert_eq!(message, "variables use each other in a circle: b -> c -> b");
    let mut expander = expander(&vars);
    assert!(expander.text(&text("{{ vars.a }}")).is_err());
    assert_eq!(expander.text(&text("{{ jobs }}")).unwrap(), "@jobs@");
}

#[test]
fn expressions_are_minijinja() {
    let vars = [("list", list(&["a b", "c"])), ("os", Var::Text(text("linux")))];
    assert_eq!(shell("{{ vars.list | join(',') }}", &vars), "a b,c");
    assert_eq!(shell("x{{ ' -m32' if target.arch == 'i686' else '' }}", &vars), "x");
    assert_eq!(shell("{{ vars.list + ['d e'] }}", &vars), "'a b' c 'd e'");
    assert_eq!(shell("{{ '-L' ~ step.source }}", &vars), "'-L/w/my src'");
    assert_eq!(shell("{{ vars.none | default('x') }}", &vars), "x");
    assert_eq!(shell("{{ args[0] }} {{ args | length }} {{ vars.os == target.os }}", &vars), "--all 2 true");
    assert_eq!(argv(&["{{ args[1:] }}", "{{ '{{' }}.Names}}"], &vars), ["it's", "{{.Names}}"]);
}

#[test]
fn what_looks_like_blocks_and_comments_is_left_alone() {
    for source in ["${#a} {% if %} {# x #}", "${a:-{}}", "awk '{print}}'", "a # b"] {
        assert_eq!(shell(source, &[]), source);
        assert_eq!(shell(&format!("{source}{{{{ jobs }}}}"), &[]), format!("{source}@jobs@"));
    }
}

#[test]
fn a_name_without_a_value_is_said_with_its_place() {
    let mut bare = expander(&[]);
    bare.scope.source = None;
    bare.scope.build = None;
    bare.scope.prefix = None;
    bare.scope.args = None;
    let mut said = |source: &str| {
        let problem = bare.shell(&text(source)).unwrap_err();
        (problem.message, problem.label.map(String::from).unwrap_or_default(), problem.primary.start)
    };
    assert_eq!(
        said("a {{ sysroot.prefix }}"),
        ("`sysroot.prefix` has no value here".into(), "the task has no `sysroot`".into(), 106)
    );
    assert_eq!(said("{{ step.source }}").1, "the task has no `source`");
    assert_eq!(said("{{ step.build ~ 'x' }}").1, "the task has no `source`, so it has no build directory");
    assert_eq!(bare.shell(&text("x {{ args }}")).unwrap(), "x ");
}

#[test]
fn a_variable_without_a_value_here_is_said() {
    let vars = [("optimize", list(&[]))];
    assert_eq!(problem("{{ vars.optimise }}", &vars), ("`vars.optimise` has no value for `glib@arm`".into(), 104, 117));
    let (message, ..) = problem("{{ vars.none ~ 'x' }}", &vars);
    assert_eq!(message, "`vars.none ~ 'x'` has no value for `glib@arm`: `vars.none` is undefined");
    let (message, ..) = problem("{{ {'a': 1} }}", &vars);
    assert_eq!(message, "`{'a': 1}` is no string and no list");
}

#[test]
fn a_path_that_is_not_utf_8_is_an_error_that_names_it() {
    use std::os::unix::ffi::OsStrExt;
    let mut expander = expander(&[]);
    expander.scope.source = Some(Path::new(std::ffi::OsStr::from_bytes(b"/w/\xff")).to_owned());
    let problem = expander.shell(&text("{{ step.source }}")).unwrap_err();
    assert_eq!(problem.message, "the path `/w/\\xff` is not UTF-8, so it can't stand in a command");
}

#[test]
fn the_use_of_args_is_noticed_even_through_a_variable() {
    let vars = [("v", list(&["{{ args }}"]))];
    let mut expander = expander(&vars);
    expander.shell(&text("plain {{ jobs }}")).unwrap();
    assert!(!expander.used_args());
    expander.shell(&text("{{ vars.v }}")).unwrap();
    assert!(expander.used_args());
}

#[test]
fn triples_say_arch_and_os() {
    let os = |triple| TargetFacts::from_triple("t", triple).os;
    for (triple, expected) in [
        ("x86_64-unknown-linux-musl", "linux"),
        ("aarch64-linux-musl", "linux"),
        ("aarch64-linux-android", "android"),
        ("aarch64-apple-darwin", "macos"),
        ("aarch64-macos", "macos"),
        ("aarch64-apple-ios-sim", "ios"),
        ("x86_64-pc-windows-msvc", "windows"),
        ("x86_64-unknown-freebsd", "freebsd"),
        ("wasm32-wasip1", "wasi"),
        ("thumbv7em-none-eabihf", "none"),
        ("x86_64-unknown-haiku", "haiku"),
        ("strange", "none"),
    ] {
        assert_eq!(os(triple), expected, "{triple}");
    }
    assert_eq!(TargetFacts::host().os, std::env::consts::OS);
}

#[test]
fn variables_of_the_task_are_stronger_than_the_target_s_and_these_than_global_ones() {
    let manifest = manifest(
        "[vars]\na = \"global\"\nb = \"global\"\nc = \"global\"\n\
         [targets.arm]\ntriple = \"aarch64-unknown-linux-gnu\"\nvars = { b = \"target\", c = \"target\" }\n\
         [templates.x]\nvars = { c = \"template\", d = \"template\" }\n\
         [tasks.t]\nextends = \"x\"\nvars.d = \"task\"\nrun = \"x\"\n",
    );
    let at = |target, task| {
        let vars = layered_vars(&manifest, target, task);
        let texts = vars.values().map(|var| if let Var::Text(text) = var { text.value.clone() } else { panic!() });
        texts.collect::<Vec<_>>().join(" ")
    };
    let task = manifest.tasks.get("t");
    assert_eq!(at("arm", task), "global target template task");
    assert_eq!(at("host", task), "global global template task");
    assert_eq!(at("arm", None), "global target target");
}
