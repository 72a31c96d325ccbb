//! What is asked and answered without building: `list`, `graph`, `log`, `clean`, `cache`, `schema`, `completions`.

mod sandbox;

use sandbox::Sandbox;

const TASKS: &str = "
[bcache]
version = 1
default = 'all'
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.gen]
desc = 'makes b'
inputs = ['a']
outputs = ['b']
run = 'echo to stdout; echo to stderr >&2; cat a > b'
[tasks.use]
targets = ['host', 'arm']
inputs = ['b']
outputs = ['c-{{ target.name }}']
run = 'cat b > c-{{ target.name }}'
[tasks.lint]
desc = '''first line
second line'''
cache = false
run = 'true'
[tasks.all]
needs = ['gen', 'use', 'use@arm']
";

fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("a", "1\n").run("build").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox
}

#[test]
fn list_names_tasks_targets_and_the_default() {
    Sandbox::new()
        .tasks(TASKS)
        .run("list")
        .stdout(
            "
gen             makes b
use   host arm
lint            first line
all             (default)
",
        )
        .stderr("")
        .success();
}

#[test]
fn graph_draws_steps_and_the_needs_that_come_from_paths() {
    Sandbox::new()
        .tasks(TASKS)
        .file("a", "1")
        .run("graph use@arm")
        .stdout(
            r#"
digraph bcache {
  rankdir = LR;
  node [shape = box];
  "gen@host";
  "use@arm";
  "use@arm" -> "gen@host" [label = "b"];
}
"#,
        )
        .stderr("")
        .success()
        .run("graph all --format mermaid")
        .stdout(
            r#"
graph LR
  s0["gen@host"]
  s1["use@host"]
  s1 -->|"b"| s0
  s2["use@arm"]
  s2 -->|"b"| s0
  s4["all@host"]
  s4 --> s0
  s4 --> s1
  s4 --> s2
"#,
        )
        .success()
        .run("graph use@host --format json")
        .stdout(
            r#"
{
  "steps": [
    {
      "class": "cached",
      "needs": [],
      "outputs": [
        "b"
      ],
      "step": "gen@host",
      "sysroot": null
    },
    {
      "class": "cached",
      "needs": [
        {
          "path": "b",
          "step": "gen@host"
        }
      ],
      "outputs": [
        "c-host"
      ],
      "step": "use@host",
      "sysroot": null
    }
  ],
  "version": 1
}
"#,
        )
        .success();
}

#[test]
fn log_prints_both_streams_of_the_last_run_also_of_a_restored_one() {
    let sandbox = built();
    sandbox
        .run("log gen")
        .stdout("to stdout\nto stderr\n")
        .stderr("")
        .success()
        .remove(".bcache")
        .remove("b")
        .run("build gen")
        .counts("0 fresh, 1 restored, 0 ran")
        .success()
        .run("log gen")
        .stdout("to stdout\nto stderr\n")
        .success()
        .run("log use@arm")
        .stderr(
            "
error: `use@arm` has no log here: it never ran, or it wrote nothing
",
        )
        .exit(2);
}

#[test]
fn what_a_step_wrote_to_stderr_is_shown_when_it_runs_and_not_when_it_is_restored() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(TASKS)
        .file("a", "1\n")
        .run("build gen")
        .stderr(
            "
       Stale gen@host: it never ran here
     Running gen@host
  stderr of gen@host:
to stderr
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .remove("b")
        .run("build gen")
        .stderr(
            "
    Restored gen@host (1 file, 2 B) in [TIME]
    Finished gen@host in [TIME]: 0 fresh, 1 restored, 0 ran
",
        )
        .success()
        .run("build gen --force -v")
        .stderr(
            "
       Stale gen@host: forced by --force
     Running gen@host (last time [TIME])
gen@host | to stdout
gen@host | to stderr
         Ran gen@host in [TIME]
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
}

#[test]
fn a_build_as_json_is_one_event_per_line_and_says_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("a", "1\n");
    let build = sandbox.run("build gen --message-format json");
    let mut events = Vec::new();
    for line in build.answered().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(event["version"], 1, "{line}");
        events.push(event["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(events, ["started", "stale", "running", "ran", "finished"]);
    let whole = build.answered().to_owned();
    build.stdout(&whole).stderr("").success();
}

#[test]
fn clean_removes_what_was_made_and_nothing_else_and_the_store_brings_it_back() {
    let sandbox = built();
    sandbox
        .file("mine", "1")
        .run("clean use")
        .stderr(
            "
note: removed 2 files; the cache keeps its copies
",
        )
        .success()
        .run("clean")
        .stderr(
            "
note: removed 1 file; the cache keeps its copies
",
        )
        .success();
    assert!(!sandbox.exists("b") && !sandbox.exists("c-host") && sandbox.exists("a") && sandbox.exists("mine"));
    sandbox.run("build").counts("0 fresh, 3 restored, 0 ran").success();
}

#[test]
fn cache_lists_counts_and_clears_what_is_stored() {
    let sandbox = built();
    sandbox.env("BCACHE_LIMIT", "1GB");
    sandbox
        .run("cache stats")
        .stdout(
            "
place:             [ROOT]/store/v1
results:           3
fetched archives:  0
used:              12.3 kB
stands for:        6 B
limit:             1.0 GB
",
        )
        .success()
        .run("cache verify")
        .stdout(
            "
3 results, 0 frames: 0 damaged
",
        )
        .success()
        .run("cache gc")
        .stderr(
            "
note: 0 results removed, 0 B freed; 12.3 kB used of 1.0 GB
",
        )
        .success()
        .run("cache clean")
        .stderr(
            "
error: `cache clean` asks first, and there is no terminal
  help: say --yes
",
        )
        .exit(2)
        .run("cache clean --yes")
        .success()
        .run("cache list")
        .stdout("")
        .success()
        .run("build")
        .counts("3 fresh, 0 restored, 0 ran")
        .success()
        .remove("b")
        .run("build")
        .counts("2 fresh, 0 restored, 1 ran")
        .success();
}

#[test]
fn cache_list_names_the_steps() {
    let sandbox = built();
    let list = sandbox.run("cache list");
    let mut steps: Vec<&str> = list.answered().lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    steps.sort_unstable();
    assert_eq!(steps, ["gen@host", "use@arm", "use@host"]);
    let whole = list.answered().to_owned();
    list.stdout(&whole).stderr("").success();
}

#[test]
fn gc_keeps_the_limit_and_what_was_last_used() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.gen]\ninputs = ['a']\noutputs = ['b']\nrun = 'head -c 300000 /dev/urandom > b'\n")
        .env("BCACHE_LIMIT", "1MB");
    for text in ["1", "2", "3", "4", "5", "6"] {
        sandbox.file("a", text).run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    }
    sandbox
        .run("cache gc")
        .stderr(
            "
note: 3 results removed, 921.6 kB freed; 921.6 kB used of 1.0 MB
",
        )
        .success();
    sandbox.file("a", "5").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.file("a", "1").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
        .env("BCACHE_LIMIT", "much")
        .run("cache gc")
        .stderr(
            "
error: BCACHE_LIMIT is `much`, which is no size
  help: write a number of bytes, or 500MB, 20GB
",
        )
        .exit(2);
}

#[test]
fn schema_is_json_that_knows_the_keys_of_a_task() {
    let sandbox = Sandbox::new();
    let schema = sandbox.run("schema");
    let value: serde_json::Value = serde_json::from_str(schema.answered()).unwrap();
    let text = value.to_string();
    assert!(["outputs", "env-pass", "relocatable", "rebuild-env"].iter().all(|key| text.contains(key)));
    let whole = schema.answered().to_owned();
    schema.stdout(&whole).stderr("").success();
}

#[test]
fn completions_are_printed() {
    let sandbox = Sandbox::new();
    let completions = sandbox.run("completions bash");
    assert!(completions.answered().contains("cargo-bcache"));
    let whole = completions.answered().to_owned();
    completions.stdout(&whole).stderr("").success();
}

#[test]
fn cargos_own_argument_a_directory_and_a_manifest_by_name_are_understood() {
    let sandbox = Sandbox::new();
    sandbox.dir("sub/deep").tasks(TASKS).file("a", "1");
    sandbox.run("bcache build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.below("sub/deep").run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.below("").run("-C sub build gen").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.file("other.toml", "[bcache]\nversion = 1\n[tasks.x]\nrun = 'true'\n");
    sandbox.run("list --manifest other.toml").stdout("x\n").success();
}

#[test]
fn an_included_file_has_its_own_directory_and_is_passed_over_on_the_way_up() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("include = ['lib/tasks.toml']\n[bcache]\nversion = 1\n[tasks.use]\ninputs = ['lib/out']\noutputs = ['o']\nrun = 'cat lib/out > o'\n")
        .file("lib/tasks.toml", "[tasks.lib]\ninputs = ['in']\noutputs = ['out']\nrun = 'cat in > out'\n")
        .file("lib/in", "1");
    sandbox.below("lib").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("o"), "1");
    sandbox
        .edit("lib/tasks.toml", "cat in", "cat in in")
        .run("build use")
        .counts("0 fresh, 0 restored, 2 ran")
        .success();
    assert_eq!(sandbox.read("o"), "11");
}
