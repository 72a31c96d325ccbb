//! Views for real: what a step sees, where its writes go, what becomes of them, and that nothing outlives
//! it. As root the whole file runs once more as nobody.

#![cfg(target_os = "linux")]

mod run_rig;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bcache::base::digest::Digest;
use bcache::base::ids::StepId;
use bcache::base::tree::{Entry, Node, Tree};
use bcache::execute::runner::{Ending, Finished, RunError};
use bcache::execute::view::layer::{LayerFault, Lower, Shared, collect};
use bcache::execute::view::probe::{Availability, available};
use run_rig::{BIN, Rig, eventually, is_root, is_running};

/// Set for the copy of this test binary that plays another part.
const PART: &str = "BCACHE_TEST_PART";

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// This test binary, to run just this test, as another part.
fn again(test: &str, part: &str, before: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match before.split_first() {
        None => Command::new(exe),
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(PART, part);
    command
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    if !is_root() || part().is_some() || !Path::new("/usr/bin/setpriv").exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let status = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--test-threads", "2"])
        .env("TMPDIR", dir.path())
        .current_dir("/")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn this_machine_can_make_views() {
    let rig = Rig::new();
    assert_eq!(available(&rig.at("new"), Some(Path::new(BIN)), &rig.cancel), Availability::Available);
    assert_eq!(fs::read_dir(rig.at("new")).unwrap().count(), 0);
    // That says nothing of the machine.
    let Availability::Unclear(why) = available(&rig.at("new"), Some(Path::new("/bin/false")), &rig.cancel) else {
        panic!()
    };
    assert!(why.contains("without a report"), "{why}");
}

#[test]
fn a_step_sees_exactly_its_layers_and_its_writes_land_on_top() {
    let mut rig = Rig::new();
    rig.file("prefix/built long ago", "x");
    rig.file("layers/a/lib/a", "A");
    rig.file("layers/b/lib/b", "B");
    rig.over("prefix", &["layers/a", "layers/b"], true);
    assert_eq!(rig.says("cd prefix; find . -type f | sort; echo C >lib/c; cat lib/?"), "./lib/a\n./lib/b\nABC\n");
    assert_eq!(rig.read("top/upper/lib/c"), "C\n");
    assert_eq!(rig.read("prefix/built long ago"), "x");
    assert!(!rig.at("prefix/lib").exists());
    assert!(!rig.at("layers/a/lib/c").exists());
    fs::remove_dir_all(rig.at("top")).unwrap();
}

#[test]
fn a_prefix_without_a_top_refuses_writes_with_no_one_or_many_layers() {
    let mut rig = Rig::new();
    rig.file("none/hidden", "");
    rig.file("a/1", "");
    rig.file("b/2", "");
    rig.over("none", &[], false).over("one", &["a"], false).over("two", &["a", "b"], false);
    assert_eq!(rig.says("ls none one two | tr '\\n' ' '"), "none:  one: 1  two: 1 2 ");
    for prefix in ["none", "one", "two"] {
        assert_eq!(rig.says(&format!("touch {prefix}/new 2>/dev/null || echo refused")), "refused\n");
    }
}

#[test]
fn a_top_without_layers_works() {
    let mut rig = Rig::new();
    rig.over("prefix", &[], true);
    assert_eq!(rig.says("ls prefix; mkdir prefix/lib; echo 1 >prefix/lib/new; cat prefix/lib/new"), "1\n");
    assert_eq!(rig.read("top/upper/lib/new"), "1\n");
}

/// Names that would mean something in mount options, and far more of them than fit into a page.
fn forty_layers(rig: &mut Rig) {
    let name = |i: usize| format!("layers/{}:,\\=/{i} {}", "long ".repeat(40), "name".repeat(45));
    let names: Vec<String> = (0..40).map(name).collect();
    for (i, name) in names.iter().enumerate() {
        rig.file(&format!("{name}/lib/{i}"), "");
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rig.over("pre,fix: x", &names, true);
    assert_eq!(rig.says("touch 'pre,fix: x/new'; ls 'pre,fix: x/lib' | wc -l"), "40\n");
    assert!(rig.at("top/upper/new").exists());
}

#[test]
fn forty_layers_with_long_names_and_special_characters_are_all_seen() {
    forty_layers(&mut Rig::new());
}

#[test]
fn the_mounts_of_older_systems_do_the_same() {
    let mut rig = Rig::new();
    rig.helper = rig.script("helper", &format!("#!/bin/sh\nexec '{BIN}' \"$@\" classic\n"));
    forty_layers(&mut rig);
    rig.over("empty", &[], false);
    assert_eq!(rig.says("touch empty/new 2>/dev/null || echo refused"), "refused\n");
}

#[test]
fn layers_may_lie_below_a_directory_that_the_view_hides() {
    let mut rig = Rig::new();
    rig.file("hidden/layer/a", "A");
    rig.over("hidden", &[], false).over("prefix", &["hidden/layer"], true);
    assert_eq!(rig.says("ls hidden prefix | tr '\\n' ' '; touch prefix/new"), "hidden:  prefix: a ");
    assert!(rig.at("top/upper/new").exists());
}

#[test]
fn a_whiteout_layer_on_top_hides_programs() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::new();
    rig.file("bin/seen", "");
    rig.file("bin/unseen", "");
    fs::create_dir(rig.at("whiteouts")).unwrap();
    assert!(Command::new("mknod").arg(rig.at("whiteouts/unseen")).args(["c", "0", "0"]).status().unwrap().success());
    rig.over("bin", &["bin", "whiteouts"], false);
    assert_eq!(rig.says("ls bin"), "seen\n");
}

#[test]
fn the_user_stays_who_he_is_and_numbers_of_processes_are_the_namespaces_own() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    let who = Command::new("sh").args(["-c", "id -u; id -g"]).output().unwrap();
    assert_eq!(rig.says("id -u; id -g").as_bytes(), who.stdout);
    assert_eq!(
        rig.says("readlink /proc/self | sed 's/^[0-9]$/small/'; ps -A 2>/dev/null | wc -l | sed 's/^[1-6]$/few/'"),
        "small\nfew\n"
    );
    assert_eq!(
        rig.says("kill -0 1 2>/dev/null && set -- $(cat /proc/$$/stat) && echo group $5 session $6"),
        "group 1 session 1\n"
    );
}

#[test]
fn endings_peak_memory_and_stderr_come_through_the_helper() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    let finished = rig.commands(&[&["true"], &["sh", "-c", "echo oh >&2; exit 9"], &["touch", "third"]]);
    assert_eq!(finished.ending, Ending::Code { command: 1, code: 9 });
    assert_eq!(finished.stderr, b"oh\n");
    assert!(!rig.at("third").exists());
    assert_eq!(rig.shell("kill -SEGV $$").ending, Ending::Signal { command: 0, signal: 11 });
    let big = rig.shell("head -c 60000000 /dev/zero | tail -n 1 >/dev/null");
    assert!(big.peak_memory.unwrap() > 60_000_000, "{big:?}");
    let missing = rig.commands(&[&["no-such-program"]]).ending;
    assert!(matches!(missing, Ending::CannotStart { command: 0, .. }), "{missing:?}");
}

#[test]
fn a_program_is_searched_inside_the_view() {
    let mut rig = Rig::new();
    rig.script("layer/bin/tool", "#!/bin/sh\necho from the layer\n");
    rig.over("prefix", &["layer"], false);
    rig.env = vec![("PATH".into(), "prefix/bin:/usr/bin:/bin".into())];
    assert_eq!(rig.commands(&[&["tool"]]).ending, Ending::Success);
    assert_eq!(rig.log(), "from the layer\n");
}

#[test]
fn daemons_die_with_the_step() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    let word = if is_root() { "741.25" } else { "742.25" };
    let begun = Instant::now();
    rig.says(&format!("setsid sh -c 'exec sleep {word}' >/dev/null 2>&1 & setsid sleep {word} &"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!is_running(word));
}

#[test]
fn a_step_that_ignores_the_request_is_killed_with_its_namespace() {
    let mut rig = Rig::new();
    rig.cancel =
        bcache::execute::cancel::Cancel::new(bcache::execute::cancel::Signals::LeftAlone, Duration::from_millis(100))
            .unwrap();
    rig.timeout = Some(Duration::from_millis(300));
    rig.over("prefix", &["layer"], true);
    let word = if is_root() { "743.25" } else { "744.25" };
    let finished = rig.shell(&format!("trap '' TERM; setsid sleep {word} & sleep {word}; sleep {word}"));
    assert_eq!(finished.ending, Ending::TimedOut);
    eventually("the step is gone", || !is_running(word));
}

#[test]
fn a_request_to_end_reaches_the_commands() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the command has begun", || rig.at("begun").exists());
            rig.cancel.request();
        });
        let begun = Instant::now();
        let script = "trap 'echo asked; exit 0' TERM; touch begun; while :; do sleep 0.02; done";
        assert_eq!(rig.commands(&[&["sh", "-c", script], &["touch", "second"]]).ending, Ending::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(3));
    });
    // The shell may add that its `sleep` was terminated.
    assert!(rig.log().contains("asked\n"), "{}", rig.log());
    assert!(!rig.at("second").exists());
}

#[test]
fn kill_9_of_bcache_kills_the_step() {
    let name = "kill_9_of_bcache_kills_the_step";
    let word = if is_root() { "745.25" } else { "746.25" };
    if let Some(part) = part() {
        assert_eq!(part, "view");
        let mut rig = Rig::new();
        rig.over("prefix", &["layer"], true);
        rig.shell(&format!("setsid sleep {word} & sleep {word}; :"));
        return;
    }
    let left = tempfile::tempdir().unwrap();
    let mut bcache = again(name, "view", &[])
        .env("TMPDIR", left.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the step runs", || is_running(word));
    bcache.kill().unwrap();
    bcache.wait().unwrap();
    eventually("the step is gone", || !is_running(word));
    // overlayfs leaves a directory that only root could remove.
    Command::new("chmod").args(["-R", "u+rwx"]).arg(left.path()).status().unwrap();
}

#[test]
fn a_view_that_is_taken_away_from_outside_fails_the_step() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the command has begun", || rig.at("begun").exists());
            fs::remove_dir(rig.at("prefix")).unwrap();
            fs::create_dir(rig.at("prefix")).unwrap();
            rig.file("go on", "");
        });
        rig.shell("touch begun; while ! test -e 'go on'; do sleep 0.01; done; echo x >prefix/lost")
    });
    assert_eq!(finished.ending, Ending::ViewLost { at: rig.at("prefix") });
}

#[test]
fn root_can_unmount_its_view_and_that_is_noticed_too() {
    if !is_root() {
        return;
    }
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    assert_eq!(rig.shell("umount prefix").ending, Ending::ViewLost { at: rig.at("prefix") });
}

#[test]
fn a_missing_layer_is_an_error_that_names_it() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    fs::remove_dir(rig.at("layer")).unwrap();
    let Err(RunError::Helper { what, .. }) = rig.try_commands(&[&["true"]], None) else { panic!() };
    let (prefix, layer) = (rig.at("prefix"), rig.at("layer"));
    let expected = format!(
        "cannot make the view of `{}`: `{}`: No such file or directory (os error 2)",
        prefix.display(),
        layer.display()
    );
    assert_eq!(what, expected);
}

#[test]
fn a_top_on_an_overlay_is_kept_in_memory_and_copied_out() {
    let name = "a_top_on_an_overlay_is_kept_in_memory_and_copied_out";
    if !is_root() {
        return;
    }
    if part().is_none() {
        // In a mount namespace of its own, so that nothing stays mounted.
        let left = tempfile::tempdir().unwrap();
        let mut inside = again(name, "overlay", &["unshare", "-m", "--propagation", "private"]);
        let shown = inside.env("TMPDIR", left.path()).output().unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        return;
    }
    let mut rig = Rig::new();
    for dir in ["base/1", "base/2", "base/3"] {
        rig.make_dir(dir);
    }
    rig.make_dir("top");
    let options = format!("lowerdir={0}/1,upperdir={0}/2,workdir={0}/3", rig.at("base").to_str().unwrap());
    let top = rig.at("top");
    assert!(
        Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&top).status().unwrap().success()
    );
    rig.file("layer/lib/old", "x");
    rig.file("layer/lib/kept", "x");
    rig.over("prefix", &["layer"], true);
    let finished = rig.shell(
        "cd prefix; mkdir -p bin ro; echo 1 >bin/tool; chmod 755 bin/tool; ln -s tool bin/link; rm lib/old; \
         echo 2 >ro/file; chmod 444 ro/file; chmod 555 ro",
    );
    assert_eq!(finished.ending, Ending::Success, "{}", rig.log());
    assert_eq!(finished.removed, [(rig.at("prefix"), PathBuf::from("lib/old"))]);
    assert_eq!(rig.read("top/upper/bin/tool"), "1\n");
    let mode = |path: &str| fs::symlink_metadata(rig.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("top/upper/bin/tool"), mode("top/upper/ro"), mode("top/upper/ro/file")), (0o755, 0o555, 0o444));
    assert_eq!(fs::read_link(rig.at("top/upper/bin/link")).unwrap(), Path::new("tool"));
}

/// A step over one layer, and what becomes of what it left.
struct Layered {
    rig: Rig,
    tree: Tree,
    owner: StepId,
}

impl Layered {
    fn new() -> Self {
        let mut rig = Rig::new();
        let file = |path: &str, text: &str, mode: u32| {
            let at = rig.file(&format!("layer/{path}"), text);
            fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
            let node = Node::File { mode, size: text.len() as u64, digest: Digest::of(text.as_bytes()) };
            Entry { path: path.into(), node }
        };
        let tree = Tree::new(vec![
            file("lib/liba.so", "A", 0o755),
            file("lib/read only", "R", 0o444),
            file("share/a/x", "X", 0o644),
            file("share/info/dir", "menu", 0o644),
        ]);
        rig.over("prefix", &["layer"], true);
        Self { rig, tree, owner: StepId::new("glib", "host") }
    }

    fn run(&self, script: &str) -> Finished {
        let finished = self.rig.shell(&format!("umask 022; cd prefix; {script}"));
        assert_eq!(finished.ending, Ending::Success, "{}", self.rig.log());
        finished
    }

    fn collect(&self) -> Result<Vec<Shared>, LayerFault> {
        let lower = [Lower { owner: &self.owner, tree: &self.tree }];
        let by = StepId::new("qemu", "host");
        collect(&by, &self.rig.at("top/upper"), &lower, &["share/info/dir".into()], &[])
    }

    fn fault(&self, script: &str) -> String {
        self.run(script);
        self.collect().unwrap_err().to_string()
    }

    fn left(&self) -> String {
        let found = Command::new("find").args([".", "-mindepth", "1"]).current_dir(self.rig.at("top/upper")).output();
        let mut lines: Vec<String> =
            String::from_utf8(found.unwrap().stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    }
}

#[test]
fn what_was_copied_up_without_a_change_is_no_part_of_the_layer() {
    let step = Layered::new();
    step.run("touch lib/liba.so; chmod 644 share/a/x; ln share/a/x share/a/y; echo new >lib/new");
    step.run("rm share/a/y");
    step.collect().unwrap();
    assert_eq!(step.left(), "./lib ./lib/new");
}

#[test]
fn reinstalling_the_same_bytes_is_no_part_of_the_layer() {
    let step = Layered::new();
    step.run("printf A >t; install -m 755 t lib/liba.so; rm t; rm -f 'lib/read only'; printf R >'lib/read only'; chmod 444 'lib/read only'");
    step.collect().unwrap();
    assert_eq!(step.left(), "");
}

#[test]
fn changed_and_removed_files_of_others_name_both_owners() {
    let changed = "`qemu@host` changed `lib/liba.so`, which belongs to `glib@host`";
    assert_eq!(Layered::new().fault("echo more >>lib/liba.so"), changed);
    assert_eq!(Layered::new().fault("chmod 644 lib/liba.so"), changed);
    let removed = "`qemu@host` removed `lib/liba.so`, which belongs to `glib@host`";
    assert_eq!(Layered::new().fault("rm lib/liba.so"), removed);
    let removed = "`qemu@host` removed `share/a`, which belongs to `glib@host`";
    assert_eq!(Layered::new().fault("rm -r share/a"), removed);
    assert_eq!(Layered::new().fault("rm -r share/a; mkdir share/a; echo 1 >share/a/mine"), removed);
    let kind = "`qemu@host` made `share/a` a file, where `glib@host` has a directory";
    assert_eq!(Layered::new().fault("rm -r share/a; echo 1 >share/a"), kind);
    let mode = "`qemu@host` gave the directory `lib` the mode 0700, where `glib@host` has 0755";
    assert_eq!(Layered::new().fault("chmod 700 lib"), mode);
}

#[test]
fn what_the_step_made_and_removed_itself_leaves_nothing() {
    let step = Layered::new();
    step.run("mkdir -p tmp/deep; echo 1 >tmp/deep/x; rm -r tmp; echo 2 >lib/t; mv lib/t lib/u; rm lib/u");
    step.collect().unwrap();
    assert_eq!(step.left(), "");
}

#[test]
fn a_new_directory_hides_no_other_layer_when_it_is_a_layer_itself() {
    let mut step = Layered::new();
    step.run("mkdir -p include/q; echo 1 >include/q/q.h");
    step.collect().unwrap();
    fs::rename(step.rig.at("top/upper"), step.rig.at("second")).unwrap();
    fs::remove_dir_all(step.rig.at("top")).unwrap();
    step.rig.file("third/include/q/r.h", "2");
    step.rig.view = None;
    step.rig.over("prefix", &["third", "second"], false);
    assert_eq!(step.rig.says("ls prefix/include/q"), "q.h\nr.h\n");
}

#[test]
fn directories_and_files_without_permission_to_write_are_collected_too() {
    let step = Layered::new();
    step.run(
        "mkdir ro; echo 1 >ro/x; chmod 400 ro/x; chmod 500 ro; mkdir none; chmod 0 none; touch 'lib/read only' || :",
    );
    step.collect().unwrap();
    assert_eq!(step.left(), "./none ./ro ./ro/x");
    let mode = |path: &str| fs::symlink_metadata(step.rig.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("top/upper/ro"), mode("top/upper/none")), (0o500, 0));
    for dir in ["top/upper/ro", "top/upper/none"] {
        fs::set_permissions(step.rig.at(dir), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn shared_files_come_out_of_the_layer() {
    let step = Layered::new();
    step.run("echo more >>share/info/dir");
    let shared = step.collect().unwrap();
    assert_eq!(shared, [Shared { path: "share/info/dir".into(), mode: 0o644, bytes: b"menumore\n".to_vec() }]);
    assert_eq!(step.left(), "");
}

#[test]
fn a_capability_cannot_be_kept() {
    if !is_root() || !Path::new("/usr/sbin/setcap").exists() {
        return;
    }
    let step = Layered::new();
    let fault = step.fault("echo 1 >ping; /usr/sbin/setcap cap_net_raw+ep ping");
    assert_eq!(fault, "`qemu@host` gave `ping` the attribute `security.capability`, which can't be kept");
}

#[test]
fn a_step_with_a_view_costs_milliseconds() {
    let mut rig = Rig::new();
    rig.over("prefix", &["layer"], true);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.commands(&[&["true"]]).ending, Ending::Success);
    }
    println!("{:?} a step", begun.elapsed() / 20);
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_step_can_see_directories_at_places_that_exist_nowhere_else() {
    let mut rig = Rig::new();
    rig.file("work dir/src/a", "A");
    rig.file("copy/b", "B");
    rig.file("layer/lib/x", "X");
    rig.over("prefix", &["layer"], true);
    let view = rig.view.as_mut().unwrap();
    let name = format!("placeholder-{}", "long".repeat(40));
    view.prefixes[0].at = PathBuf::from("/").join(&name);
    view.roots = vec![name.clone().into(), "bcache-test-work".into()];
    let (work, copy) = (rig.dir.path().join("work dir"), rig.dir.path().join("copy"));
    view.elsewhere = vec![(work, "/bcache-test-work/host/t".into()), (copy, "/bcache-test-work/host/t/copied".into())];
    let script = format!(
        "cat /{name}/lib/x; echo Y >/{name}/lib/y; cd /bcache-test-work/host/t; pwd; cat src/a copied/b; echo; echo new >new
        touch /new 2>/dev/null || echo refused
        ls / | grep -v -e bcache-test-work -e placeholder"
    );
    let mut names: Vec<String> =
        fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let expected = format!("X/bcache-test-work/host/t\nAB\nrefused\n{}\n", names.join("\n"));
    rig.env.push(("LC_ALL".into(), "C".into()));
    assert_eq!(rig.says(&script), expected);
    assert_eq!(rig.read("work dir/new"), "new\n");
    assert_eq!(rig.read("top/upper/lib/y"), "Y\n");
    assert!(!Path::new("/bcache-test-work").exists());
}
