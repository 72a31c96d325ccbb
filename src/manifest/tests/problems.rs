//! What people get for each mistake, as they see it.

use super::{Dir, HEAD, problems_of};

fn problems(body: &str) -> String {
    let text = format!("{HEAD}{body}");
    problems_of(&Dir::new(&[("tasks.toml", &text)]).load().expect_err("the manifest is good"))
}

#[test]
fn a_problem_is_shown_with_its_line_its_code_and_its_help() {
    let text = format!("{HEAD}[tasks.a]\noutptus = \"x\"\nrun = \"make\"\n");
    let errors = Dir::new(&[("tasks.toml", &text)]).load().unwrap_err();
    insta::assert_snapshot!(errors.render(false, 80));
}

#[test]
fn a_second_definition_in_another_file_is_shown_with_both_places() {
    let first = format!("include = \"sub/more.toml\"\n{HEAD}[tasks.a]\nrun = \"x\"\n");
    let errors = Dir::new(&[("tasks.toml", &first), ("sub/more.toml", "[tasks.a]\nrun = \"y\"\n")]).load().unwrap_err();
    insta::assert_snapshot!(errors.render(false, 80));
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let first = "include = [\"more.toml\"]
[bcache]
version = 1
default = \"al\"
[vars]
opt = 2020-01-01
[targets.arm]
[tasks.all]
needs = [\"glib\", \"a@arm64\"]
sysroot = \"utm\"
jobs = 0
timeout = \"10 minutes\"
run = \"make {{ vars.otp }}\"
[tasks.\"a/b\"]
";
    let more = "[tasks.a]\nextends = \"nothing\"\noutput = \"x\"\nrun = [[]]\ncargo = \"d\"\n";
    let errors = Dir::new(&[("tasks.toml", first), ("more.toml", more)]).load().unwrap_err();
    insta::assert_snapshot!(problems_of(&errors));
    assert_eq!(errors.problems.len(), 14);
}

#[test]
fn syntax_errors_come_all_at_once_and_hide_no_others() {
    insta::assert_snapshot!(problems(
        "[tasks.a]\nrun = \nneeds = [\"nothing-known\"]\nrunn = \"x\"\ndesc = \"open\n[tasks.b]\ndesk = 1\n"
    ));
}

#[test]
fn a_key_or_table_defined_twice_is_shown_with_both_places() {
    insta::assert_snapshot!(problems(
        "[tasks.a]\nrun = \"x\"\nrun = \"y\"\n[tasks.b]\nrun = \"z\"\n[tasks.a]\ndesc = \"again\"\n[tasks.c]\nenv = { A = \"1\", A = \"2\" }\n"
    ));
}

#[test]
fn a_wrong_type_says_what_is_wanted_and_what_is_there() {
    insta::assert_snapshot!(problems(
        "vars = 1
[targets]
arm = \"x\"
[tasks.a]
desc = 1
needs = [1, \"a\"]
cache = \"no\"
retries = \"2\"
run = [[\"a\", 1], 2]
env = { A = [] }
vars = { a = { b = 1 } }
inputs = [1]
outputs = true
tools = { }
env-pass = 5
source = \"x\"
jobserver = true
confirm = 1.5
[tasks.b]
jobserver = \"tcp\"
"
    ));
}

#[test]
fn a_value_that_cannot_be_is_explained() {
    insta::assert_snapshot!(problems(
        "[targets.host]
triple = \"x86_64-unknown-linux-gnu\"
[targets.arm]
triple = \"aarch64 linux\"
[sysroots.s]
path = \" \"
shared-files = [\"/abs\", \"../out\", \"share/info/dir\"]
[tasks.a]
targets = [\"host\", \"host\"]
timeout = \"0s\"
retries = 99999999999
jobs = -1
inputs = [\"!\", \"a\\u0000b\", \"\"]
outputs = [{ path = \"d/\", sha256 = \"abc\" }, \"!x\"]
secrets = [\"A-B\"]
env-pass = { name = \"1A\" }
env = { \"A B\" = \"x\" }
vars = { \"a-b\" = \"x\" }
tools = [\"{{ vars.a }}\", { name = \"x\", version = \"{{ vars.a }} -v\" }]
run = [\"\", [\"\"]]
source = { git = \"x\", rev = \"main\" }
"
    ));
}

#[test]
fn a_source_is_of_one_kind_with_the_keys_of_that_kind() {
    let sum = "0".repeat(64);
    insta::assert_snapshot!(problems(&format!(
        "[tasks.a]\nrun = \"x\"\nsource = {{ url = \"u\" }}
[tasks.b]\nrun = \"x\"\nsource = {{ url = \"u\", path = \"p\", sha256 = \"{sum}\" }}
[tasks.c]\nrun = \"x\"\nsource = {{ patches = [\"p\"] }}
[tasks.d]\nrun = \"x\"\nsource = {{ git = \"g\" }}
[tasks.e]\nrun = \"x\"\nsource = {{ path = \"p\", sha256 = \"{sum}\", rev = \"abcdef0\" }}
[tasks.f]\nrun = \"x\"\n[tasks.f.source]\npatches = \"x\"
"
    )));
}

#[test]
fn an_input_is_a_glob_or_of_git_with_the_keys_of_that_kind() {
    insta::assert_snapshot!(problems(
        "[tasks.a]
run = \"x\"
inputs = [
  { git = \"a\", glob = \"b\" },
  { optional = true },
  { glob = \"a\", head = true, paths = \"b\" },
  { git = \"a\", optional = true },
  { git = \"a/*\" },
  { git = \"a\", paths = [\"/etc\", \"!\"] },
]
"
    ));
}

#[test]
fn keys_that_are_missing_or_misplaced_are_named() {
    insta::assert_snapshot!(problems(
        "include = [\"x.toml\"]
[sysroots.s]
[tasks.a]
sysroot = \"s\"
outputs = [{ sha256 = \"\" }]
env-pass = [{ key = false }]
[tasks.b]
build = \"x\"
"
    ));
}

#[test]
fn names_that_do_not_exist_are_said_with_what_was_meant() {
    insta::assert_snapshot!(problems(
        "[targets.linux-arm64]
triple = \"aarch64-unknown-linux-gnu\"
[sysroots.utm]
path = \"s\"
[templates.autotools]
needs = [\"qemuu\"]
[tasks.qemu]
extends = [\"autotool\"]
needs = [\"glib\", \"qmeu\", \"qemu@linux-arm\", \"a@b@c\"]
targets = [\"hots\"]
sysroot = \"utn\"
run = \"x\"
"
    ));
}

#[test]
fn templates_that_extend_each_other_are_shown_as_a_circle() {
    insta::assert_snapshot!(problems(
        "[templates.a]\nextends = \"b\"\n[templates.b]\nextends = [\"c\"]\n[templates.c]\nextends = \"a\"\n[templates.d]\nextends = \"d\"\n[tasks.t]\nextends = \"a\"\nrun = \"x\"\n"
    ));
}

#[test]
fn names_with_an_at_or_a_slash_or_a_dot_first_are_refused() {
    insta::assert_snapshot!(problems(
        "[tasks.\"a@b\"]\n[tasks.\"a/b\"]\n[tasks.\".a\"]\n[tasks.\"\"]\n[templates.\"-t\"]\n[tasks.\"libstdc++_1.2\"]\n"
    ));
}

#[test]
fn mistakes_in_templates_are_shown_inside_the_string() {
    insta::assert_snapshot!(problems(
        r#"[vars]
opt = "{{ vars.otp }}"
[sysroots.s]
path = "s-{{ task.name }}-{{ target.name }}"
env = { A = "{{ sysroot.prefx }}" }
[templates.unused]
run = "{{ nothing }}"
[tasks.a]
run = [
  "make {{ vars.opt",
  "a \"b\" {{ vars.opt }} {{ vars.none }}",
  '''
  docker ps --format '{{.Names}}'
''',
  ["x", "{{ vars.opt | join( }}", "{{ }}"],
  "{{ vars.opt ~ foo }}",
]
cwd = "{{ step.sorce }}"
"#
    ));
}

#[test]
fn an_unknown_variable_of_a_template_is_said_once_for_all_tasks() {
    let body = "[templates.t]\nrun = \"{{ vars.x }}\"\n[tasks.a]\nextends = \"t\"\n[tasks.b]\nextends = \"t\"\n";
    insta::assert_snapshot!(problems(body));
}

#[test]
fn a_variable_of_one_task_is_unknown_in_another() {
    insta::assert_snapshot!(problems(
        "[tasks.a]\nvars.own = \"1\"\nrun = \"{{ vars.own }}\"\n[tasks.b]\nrun = \"{{ vars.own }}\"\n"
    ));
}

#[test]
fn outputs_outside_the_workspace_are_refused() {
    insta::assert_snapshot!(problems(
        "[tasks.a]\nrun = \"x\"\noutputs = [\"/abs\", \"../x\", \"a/../../x\", \".\", \"a/../b\", \"{{ task.name }}/../../x\"]\n"
    ));
}

#[test]
fn an_included_file_may_have_outputs_above_its_directory_but_inside_the_workspace() {
    let first = format!("include = \"sub/m.toml\"\n{HEAD}");
    let dir = Dir::new(&[
        ("tasks.toml", &first),
        ("sub/m.toml", "[tasks.a]\nrun = \"x\"\noutputs = [\"../gen/\", \"../../out\"]\n"),
    ]);
    insta::assert_snapshot!(problems_of(&dir.load().unwrap_err()));
}

#[test]
fn tasks_that_cannot_work_as_a_whole_are_refused() {
    let sum = "0".repeat(64);
    insta::assert_snapshot!(problems(&format!(
        "[tasks.silent]\noutputs = \"x\"
[tasks.mixed]\nrun = \"x\"\noutputs = [{{ path = \"a\", sha256 = \"{sum}\" }}, \"b\"]
[tasks.fixed]\nrun = \"x\"\noutputs = [{{ path = \"a\", sha256 = \"{sum}\" }}]
[tasks.maybe]\nrun = \"x\"\noutputs = [{{ path = \"c\", sha256 = \"{sum}\", optional = true }}]
[tasks.many]\nrun = \"x\"\noutputs = [{{ path = \"d/*\", sha256 = \"{sum}\" }}]
"
    )));
}

#[test]
fn another_version_is_the_only_problem_said() {
    let dir = Dir::new(&[("tasks.toml", "[bcache]\nversion = 2\n[steps.a]\nrun = 1\n")]);
    insta::assert_snapshot!(problems_of(&dir.load().unwrap_err()));
}

#[test]
fn a_first_file_needs_a_bcache_table_with_a_version() {
    let said = |text| problems_of(&Dir::new(&[("tasks.toml", text)]).load().unwrap_err());
    insta::assert_snapshot!(
        said("[tasks.a]\nrun = \"x\"\n") + &said("[bcache]\n") + &said("[bcache]\nversion = \"1\"\n")
    );
}

#[test]
fn a_toolchain_is_zig_and_its_triple_is_one_that_zig_has() {
    insta::assert_snapshot!(problems(
        "[targets.a]
triple = \"x86_64-pc-windows-msvc\"
toolchain = \"zig\"
[targets.b]
triple = \"mars-unknown-linux-gnu\"
toolchain = \"zig\"
[targets.c]
triple = \"aarch64-linux-musl.2.28\"
toolchain = \"zig\"
[targets.d]
triple = \"aarch64-linux-musl\"
toolchain = \"gcc\"
[targets.e]
triple = \"aarch64-unknown-linux-gnu.2.28\"
toolchain = \"zig\"
[targets.host]
toolchain = \"zig\"
[tasks.a]
run = \"x {{ toolchain.meson }}\"
"
    ));
}
