//! What tasks can do: arguments, questions, secrets, checksums, retries, timeouts, and what becomes of files.

mod sandbox;

use std::io::Write;
use std::process::Stdio;

use sandbox::Sandbox;

#[test]
fn run_hands_arguments_on_each_as_one_word_and_is_never_cached_with_them() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.show]
inputs = ['a']
run = '{ran} show; for word in {{ args }}; do echo \"<$word>\" >> said; done'
",
        )
        .file("a", "1");
    sandbox
        .run("run show -- 'a b' \"$HOME\" --fix")
        .stderr(
            "
     Running show@host
    Finished show@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("run show -- 'a b' \"$HOME\" --fix")
        .counts("0 fresh, 0 restored, 1 ran")
        .success()
        .ran_times("show", 2);
    assert_eq!(sandbox.read("said"), "<a b>\n<\"$HOME\">\n<--fix>\n".repeat(2));
}

#[test]
fn run_builds_the_needs_and_always_runs_the_task() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{ran} gen; cat a > b'
[tasks.use]
inputs = ['b']
outputs = ['c']
run = '{ran} use; cat b > c'
",
        )
        .file("a", "1");
    sandbox
        .run("run use")
        .counts("0 fresh, 0 restored, 2 ran")
        .success()
        .run("run use")
        .stderr(
            "
       Stale use@host: forced by run
     Running use@host (last time [TIME])
    Finished use@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("gen", 1)
        .ran_times("use", 2)
        .run("build use")
        .counts("2 fresh, 0 restored, 0 ran")
        .success();
}

#[test]
fn run_of_a_cached_task_makes_what_a_build_makes() {
    let sandbox = Sandbox::new();
    let terminal = "for n in 0 1 2; do [ ! -t $n ] || echo terminal; done > out";
    sandbox.tasks(&format!(
        "[tasks.ask]\ninputs = ['in']\noutputs = ['out']\nrun = '{terminal}; cat >> out; echo said; echo warned >&2'\n"
    ));
    let mut command = sandbox.file("in", "").command("run ask");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(
        output.status.success() && stdout == "said\n" && stderr.matches("warned\n").count() == 1,
        "{stdout}{stderr}"
    );
    assert_eq!(sandbox.read("out"), "");
    sandbox.run("build ask").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.run("log ask").stdout("said\nwarned\n").success();
}

#[test]
fn what_a_cached_task_says_before_it_fails_is_said_once() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.lint]\ninputs = ['in']\nrun = 'echo wrong; exit 7'\n").file("in", "");
    let outcome = sandbox.run("run lint").stdout("wrong\n");
    assert!(!outcome.said().contains("output of lint@host"), "{}", outcome.said());
    outcome.says("lint@host failed: the command ended with exit code 7").exit(7);
}

#[test]
fn run_passes_the_output_and_the_exit_code_of_its_command_on() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.lint]
cache = false
run = 'echo to stdout; echo to stderr >&2; exit 7'
",
    );
    sandbox
        .run("run lint")
        .stdout(
            "
to stdout
",
        )
        .stderr(
            "
     Running lint@host
to stderr
error: lint@host failed: the command ended with exit code 7
  command: echo to stdout; echo to stderr >&2; exit 7
      Failed lint@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(7);
}

#[test]
fn a_plain_task_inherits_the_environment_and_a_cached_one_does_not() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.plain]
cache = false
run = 'echo ${WORD-unset} > plain'
[tasks.cached]
inputs = ['a']
outputs = ['cached']
run = 'echo ${WORD-unset} $LANG $TERM $SOURCE_DATE_EPOCH > cached; umask >> cached; cat >> cached'
",
        )
        .file("a", "");
    sandbox.env("WORD", "w").run("build plain cached").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("plain"), "w\n");
    assert_eq!(sandbox.read("cached"), "unset C.UTF-8 dumb 315532800\n0022\n");
}

#[test]
fn a_tool_that_is_not_declared_is_not_found_in_somebodys_directories() {
    let sandbox = Sandbox::new();
    sandbox
        .tool("mine", "echo mine")
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = 'word=mine; $word > b'
",
        )
        .file("a", "");
    sandbox
        .run("build gen")
        .stderr(
            "
     Running gen@host
error: gen@host failed: the command ended with exit code 127
  command: word=mine; $word > b
  output of gen@host:
sh: 1: mine: not found
  log: [ROOT]/work/.bcache/logs/gen@host
  help: the whole log: cargo bcache log gen
  help: to look around: cargo bcache shell gen@host
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.edit("tasks.toml", "outputs", "tools = ['mine']\noutputs");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "mine\n");
}

#[test]
fn confirm_needs_yes_where_nobody_can_be_asked() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.flash]
cache = false
confirm = 'really?'
run = '{ran} flash'
",
    );
    sandbox
        .run("build flash")
        .stderr(
            "
error: `flash@host` asks before it runs (really?), and there is no terminal
  help: say --yes
",
        )
        .exit(2)
        .ran_times("flash", 0);
    sandbox.run("build flash --yes").counts("0 fresh, 0 restored, 1 ran").success().ran_times("flash", 1);
}

#[test]
fn path_builds_if_needed_and_prints_the_single_output() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.one]
inputs = ['a']
outputs = ['out/one']
run = '{ran} one; cat a > out/one'
[tasks.two]
inputs = ['a']
outputs = ['out/x', 'out/y']
run = 'cat a > out/x; cat a > out/y'
[tasks.glob]
inputs = ['a']
outputs = ['found/*.bin']
run = 'cat a > found/x-1.bin'
[tasks.none]
cache = false
run = 'true'
",
        )
        .file("a", "1");
    sandbox
        .run("path one")
        .stdout("[ROOT]/work/out/one\n")
        .success()
        .run("path one -q")
        .stdout("[ROOT]/work/out/one\n")
        .stderr("")
        .success()
        .ran_times("one", 1)
        .run("path two")
        .stderr(
            "
     Running two@host
    Finished two@host in [TIME]: 0 fresh, 0 restored, 1 ran
error: `two@host` has 2 outputs
  help: name one: --output out/x, --output out/y
",
        )
        .exit(2)
        .run("path two --output out/y -q")
        .stdout("[ROOT]/work/out/y\n")
        .success()
        .run("path glob -q")
        .stdout("[ROOT]/work/found/x-1.bin\n")
        .success()
        .run("path none -q")
        .stderr(
            "
error: `none@host` has no output
",
        )
        .exit(2);
}

#[test]
fn secrets_are_passed_masked_everywhere_and_kept_nowhere() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.login]
inputs = ['a']
outputs = ['b']
secrets = ['TOKEN']
run = '{ran} login; echo \"got $TOKEN\" >&2; echo \"err $TOKEN\" >&2; printf %s \"$TOKEN\" | wc -c > b'
",
        )
        .file("a", "1")
        .env("TOKEN", "s3cr3t-value");
    sandbox
        .run("build login")
        .stderr(
            "
     Running login@host
  stderr of login@host:
got ***
err ***
    Finished login@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("log login")
        .stdout(
            "
got ***
err ***
",
        )
        .success()
        .env("TOKEN", "an0ther-value")
        .run("build login")
        .counts("1 fresh, 0 restored, 0 ran")
        .success()
        .ran_times("login", 1)
        .env("TOKEN", "s3cr3t-value");
    let json = sandbox.run("build login --force --message-format json");
    assert!(json.answered().contains("err ***") && !json.answered().contains("s3cr3t"), "{}", json.answered());
    let whole = json.answered().to_owned();
    json.stdout(&whole).success();
    assert_eq!(sandbox.read("b"), "12\n");
    sandbox.edit("tasks.toml", "> b'", "> b; exit 3'");
    sandbox
        .run("build login")
        .stderr(
            r#"
       Stale login@host: command 1 changed
     Running login@host (last time [TIME])
error: login@host failed: the command ended with exit code 3
  command: echo >>[ROOT]/ran login; echo "got $TOKEN" >&2; echo "err $TOKEN" >&2; printf %s "$TOKEN" | wc -c > b; exit 3
  output of login@host:
got ***
err ***
  log: [ROOT]/work/.bcache/logs/login@host
  help: the whole log: cargo bcache log login
  help: to look around: cargo bcache shell login@host
      Failed login@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
"#,
        )
        .exit(1);
    sandbox
        .run("build login -v")
        .stderr(
            r#"
       Stale login@host: its last run did not finish; command 1 changed
     Running login@host (last time [TIME])
login@host | got ***
login@host | err ***
error: login@host failed: the command ended with exit code 3
  command: echo >>[ROOT]/ran login; echo "got $TOKEN" >&2; echo "err $TOKEN" >&2; printf %s "$TOKEN" | wc -c > b; exit 3
  log: [ROOT]/work/.bcache/logs/login@host
  help: the whole log: cargo bcache log login
  help: to look around: cargo bcache shell login@host
      Failed login@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
"#,
        )
        .exit(1);
    assert_eq!(sandbox.files_with(b"s3cr3t"), Vec::<std::path::PathBuf>::new());
    assert_eq!(sandbox.files_with(b"an0ther"), Vec::<std::path::PathBuf>::new());
}

const FETCH: &str = "
[tasks.fetch]
outputs = [{ path = 'dl/x', sha256 = '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae' }]
run = '{ran} fetch; printf foo > dl/x'
";

#[test]
fn an_output_with_a_checksum_is_made_once_whatever_else_changes() {
    let sandbox = Sandbox::new();
    sandbox.tasks(FETCH);
    sandbox
        .run("build fetch")
        .counts("0 fresh, 0 restored, 1 ran")
        .success()
        .edit("tasks.toml", "printf foo", "printf %s foo")
        .run("build fetch")
        .counts("1 fresh, 0 restored, 0 ran")
        .success()
        .remove("dl/x")
        .run("build fetch")
        .counts("0 fresh, 1 restored, 0 ran")
        .success()
        .remove(".bcache")
        .run("build fetch")
        .counts("1 fresh, 0 restored, 0 ran")
        .success()
        .ran_times("fetch", 1);
}

#[test]
fn an_output_with_a_checksum_is_as_executable_as_it_was_made() {
    let sandbox = Sandbox::new();
    let reader = "[tasks.reader]\ninputs = ['dl/x']\noutputs = ['out']\nrun = 'if test -x dl/x; then echo program; else echo text; fi > out'\n";
    sandbox.tasks(&format!("{}{reader}", FETCH.replace("> dl/x'", "> dl/x; chmod 755 dl/x'")));
    for _ in 0..2 {
        sandbox.run("build reader").success();
    }
    for mode in [0o600, 0o644] {
        sandbox.chmod("dl/x", mode).run("build reader").counts("1 fresh, 1 restored, 0 ran").success();
        assert_eq!(sandbox.read("out"), "program\n");
        sandbox.run("build reader").counts("2 fresh, 0 restored, 0 ran").success();
    }
    assert_eq!(sandbox.tree("dl"), ["/ 755", "x 755 foo"]);
    // Who made it is not known any more: it is as it lies there.
    sandbox.chmod("dl/x", 0o644).remove(".bcache").run("build reader").success();
    assert_eq!(sandbox.read("out"), "text\n");
    sandbox.ran_times("fetch", 1);
}

#[test]
fn an_output_with_a_checksum_that_is_there_already_needs_no_run() {
    let sandbox = Sandbox::new();
    sandbox.tasks(FETCH).file("dl/x", "foo").run("build fetch").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn an_output_with_another_checksum_is_a_failure() {
    let sandbox = Sandbox::new();
    sandbox.tasks(FETCH).edit("tasks.toml", "printf foo", "printf bar");
    sandbox.run("build fetch").stderr("
       Stale fetch@host: output dl/x is missing
     Running fetch@host
error: fetch@host failed: output `dl/x` has SHA-256 fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9, not 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
  help: to look around: cargo bcache shell fetch@host
      Failed fetch@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
").exit(1);
    assert!(!sandbox.exists("dl/x"));
    sandbox.run("build fetch").counts("0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped").exit(1).ran_times("fetch", 2);
}

#[test]
fn a_retry_starts_from_empty_outputs() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.flaky]
inputs = ['a']
outputs = ['out/']
retries = 2
run = '{ran} flaky; ls out >> ../saw; echo 1 > out/left-$(wc -l < ../ran); test $(wc -l < ../ran) = 3'
",
        )
        .file("a", "1");
    sandbox
        .run("build flaky")
        .stderr(
            "
     Running flaky@host
warning: flaky@host failed (the command ended with exit code 1): trying again
    Finished flaky@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("flaky", 3);
    assert_eq!(sandbox.read("../saw"), "");
    assert_eq!(sandbox.tree("out"), ["/ 755", "left-3 644 1\\n"]);
}

#[test]
fn retries_that_are_used_up_are_a_failure() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.flaky]\ninputs = ['a']\nretries = 1\nrun = '{ran} flaky; exit 9'\n").file("a", "1");
    sandbox
        .run("build flaky")
        .stderr(
            "
     Running flaky@host
warning: flaky@host failed (the command ended with exit code 9): trying again
error: flaky@host failed: the command ended with exit code 9
  command: echo >>[ROOT]/ran flaky; exit 9
  help: to look around: cargo bcache shell flaky@host
      Failed flaky@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1)
        .ran_times("flaky", 2);
}

#[test]
fn a_timeout_ends_the_command_with_what_it_started() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.slow]
inputs = ['a']
outputs = ['b']
timeout = '1s'
run = 'echo begun; sh -c \"{gate slow}\"; cat a > b'
",
        )
        .file("a", "1");
    sandbox
        .run("build slow")
        .stderr(
            r#"
     Running slow@host
error: slow@host failed: it took longer than its timeout of [TIME]
  command: echo begun; sh -c "echo >>[ROOT]/gates/slow.in; read -r _ <[ROOT]/gates/slow.out"; cat a > b
  output of slow@host:
begun
  log: [ROOT]/work/.bcache/logs/slow@host
  help: the whole log: cargo bcache log slow
  help: to look around: cargo bcache shell slow@host
      Failed slow@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
"#,
        )
        .exit(1);
    assert!(!sandbox.exists("b"));
}

#[test]
fn what_nobody_made_in_the_place_of_an_output_is_moved_aside_and_said() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b', 'dir/']
run = 'cat a > b; cat a > dir/c'
",
        )
        .file("a", "1")
        .file("b", "written by hand")
        .file("dir/note", "a note");
    sandbox
        .run("build gen")
        .stderr(
            "
note: b was not made here: moved to .bcache/aside/1/b
note: dir was not made here: moved to .bcache/aside/2/dir
     Running gen@host
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    assert_eq!(sandbox.read("b"), "1");
    assert_eq!(sandbox.tree("dir"), ["/ 755", "c 644 1"]);
    assert_eq!(sandbox.files_with(b"written by hand").len(), 1);
    assert_eq!(sandbox.files_with(b"a note").len(), 1);
}

#[test]
fn what_is_in_the_way_of_a_restore_is_moved_aside_and_said() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{ran} gen; cat a > b'
";
    sandbox.tasks(tasks).file("a", "1").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("a", "1").file("b", "written by hand");
    other
        .run("build gen")
        .stderr(
            "
note: b was not made here: moved to .bcache/aside/1/b
    Restored gen@host (1 file, 1 B) in [TIME]
    Finished gen@host in [TIME]: 0 fresh, 1 restored, 0 ran
",
        )
        .success()
        .ran_times("gen", 1);
    assert_eq!(other.read("b"), "1");
    assert_eq!(other.files_with(b"written by hand").len(), 1);
}

#[test]
fn clean_false_keeps_old_outputs_for_the_tool_and_stores_nothing() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.grow]
inputs = ['a']
outputs = ['b']
clean = false
run = 'cat a >> b'
",
        )
        .file("a", "1");
    sandbox.run("build grow").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("a", "2").run("build grow").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "12");
    sandbox.file("a", "1").run("build grow").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "121");
}
