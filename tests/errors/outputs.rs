//! Outputs where none may be, or where two would be.

use super::sandbox::Sandbox;

#[test]
fn two_owners_of_an_output_are_both_named() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.a]
inputs = ['in']
outputs = ['out/']
run = 'true'
[tasks.b]
inputs = ['in']
outputs = ['out/x']
run = 'true'
",
    );
    sandbox
        .run("build a")
        .stderr(
            "
bcache::graph::two_owners

  × `a@host` and `b@host` both make `out/x`
    ╭─[tasks.toml:9:12]
  4 │ inputs = ['in']
  5 │ outputs = ['out/']
    ·            ───┬──
    ·               ╰── made by `a@host`
  6 │ run = 'true'
  7 │ [tasks.b]
  8 │ inputs = ['in']
  9 │ outputs = ['out/x']
    ·            ───┬───
    ·               ╰── made by `b@host`
 10 │ run = 'true'
    ╰────
  help: every path has one owner

error: 1 problem in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn outputs_that_lead_out_of_the_workspace_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.up]
outputs = ['../x']
run = 'true'
[tasks.inner-up]
outputs = ['a/../../x']
run = 'true'
[tasks.absolute]
outputs = ['/etc/x']
run = 'true'
[tasks.all]
outputs = ['./']
run = 'true'
",
    );
    sandbox
        .run("build up")
        .stderr(
            "
bcache::manifest::output_place

  × the output `../x` does not lie inside the workspace
   ╭─[tasks.toml:4:12]
 3 │ [tasks.up]
 4 │ outputs = ['../x']
   ·            ──────
 5 │ run = 'true'
   ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `a/../../x` does not lie inside the workspace
   ╭─[tasks.toml:7:12]
 6 │ [tasks.inner-up]
 7 │ outputs = ['a/../../x']
   ·            ───────────
 8 │ run = 'true'
   ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `/etc/x` does not lie inside the workspace
    ╭─[tasks.toml:10:12]
  9 │ [tasks.absolute]
 10 │ outputs = ['/etc/x']
    ·            ────────
 11 │ run = 'true'
    ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `./` does not lie inside the workspace
    ╭─[tasks.toml:13:12]
 12 │ [tasks.all]
 13 │ outputs = ['./']
    ·            ────
 14 │ run = 'true'
    ╰────
  help: write it relative to the file that it stands in

error: 4 problems in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn outputs_among_the_files_of_git_of_ours_and_of_the_manifest_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.state]
outputs = ['.bcache/x']
run = 'true'
[tasks.git]
outputs = ['.git/hooks/']
run = 'true'
[tasks.manifest]
outputs = ['tasks.toml']
run = 'true'
[tasks.inner]
outputs = ['a/../.bcache']
run = 'true'
",
    );
    sandbox
        .run("build state")
        .stderr(
            "
bcache::graph::outside

  × an output can't lie in `.bcache`
   ╭─[tasks.toml:4:12]
 3 │ [tasks.state]
 4 │ outputs = ['.bcache/x']
   ·            ───────────
 5 │ run = 'true'
   ╰────

bcache::graph::outside

  × an output can't lie in `.git`
   ╭─[tasks.toml:7:12]
 6 │ [tasks.git]
 7 │ outputs = ['.git/hooks/']
   ·            ─────────────
 8 │ run = 'true'
   ╰────

bcache::graph::outside

  × an output can't be the manifest `tasks.toml`
    ╭─[tasks.toml:10:12]
  9 │ [tasks.manifest]
 10 │ outputs = ['tasks.toml']
    ·            ────────────
 11 │ run = 'true'
    ╰────

bcache::graph::outside

  × an output can't lie in `.bcache`
    ╭─[tasks.toml:13:12]
 12 │ [tasks.inner]
 13 │ outputs = ['a/../.bcache']
    ·            ──────────────
 14 │ run = 'true'
    ╰────

error: 4 problems in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn an_output_behind_a_link_that_leads_out_is_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/x']
run = '{ran} gen; echo > out/x'
",
        )
        .file("a", "1")
        .link("out", "../home")
        .file("../home/x", "precious");
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: `[ROOT]/work/out/x` can't be reached: `[ROOT]/work/out` is a symbolic link
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(5)
        .ran_times("gen", 0);
    assert_eq!(sandbox.read("../home/x"), "precious");
}

#[test]
fn a_restore_through_a_link_that_leads_out_is_refused() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/x']
run = '{ran} gen; echo > out/x'
",
        )
        .file("a", "1")
        .run("build gen")
        .counts("0 fresh, 0 restored, 1 ran")
        .success();
    sandbox.remove("out").link("out", "../home").file("../home/x", "precious");
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: `[ROOT]/work/out/x` can't be reached: `[ROOT]/work/out` is a symbolic link
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(5)
        .ran_times("gen", 1);
    assert_eq!(sandbox.read("../home/x"), "precious");
    sandbox
        .run("clean")
        .stderr(
            "
note: removed 0 files; the cache keeps its copies
",
        )
        .success();
    assert_eq!(sandbox.read("../home/x"), "precious");
}

#[test]
fn a_file_of_an_output_directory_that_git_tracks_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/']
run = '{ran} gen; cat a > out/b'
",
        )
        .file("a", "1")
        .file("out/kept", "tracked");
    let git = |words: &[&str]| {
        let status = std::process::Command::new("git")
            .args(words)
            .current_dir(sandbox.work())
            .env("HOME", sandbox.root())
            .status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "out/kept"]);
    sandbox
        .run("build gen")
        .stderr(
            "
bcache::graph::tracked_output

  × `out/kept` is tracked by git, and lies in an output directory of
  │ `gen@host`
   ╭─[tasks.toml:5:12]
 4 │ inputs = ['a']
 5 │ outputs = ['out/']
   ·            ───┬──
   ·               ╰── belongs to its task whole
 6 │ run = 'echo >>[ROOT]/ran gen; cat a > out/b'
   ╰────
  help: take the file out of the directory, or declare outputs file by file

error: 1 problem in tasks.toml
",
        )
        .exit(3)
        .ran_times("gen", 0);
    assert_eq!(sandbox.read("out/kept"), "tracked");
}
