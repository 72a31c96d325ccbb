use super::*;

fn parse_words(words: &[&str], jobs: Option<&str>) -> Result<Cli, clap::Error> {
    parse_with(words.iter().map(OsString::from), jobs.map(OsString::from))
}

fn parsed(words: &[&str]) -> Cli {
    let mut all = vec!["cargo-bcache"];
    all.extend(words);
    parse_words(&all, None).unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

fn refused(words: &[&str]) -> String {
    let mut all = vec!["cargo-bcache"];
    all.extend(words);
    let error = parse_words(&all, None).map(|cli| panic!("{words:?}: {cli:?}")).unwrap_err();
    assert_eq!(Exit::from(&error), Exit::Usage, "{words:?}");
    error.to_string()
}

fn task(text: &str) -> TaskName {
    text.parse().unwrap()
}

fn build(tasks: &[&str]) -> Command {
    Command::Build { tasks: tasks.iter().map(|t| task(t)).collect() }
}

#[test]
fn clap_finds_no_fault_in_the_declaration() {
    Cli::command().debug_assert();
}

#[test]
fn cargo_bcache_and_cargo_hyphen_bcache_are_the_same() {
    let direct = parse_words(&["cargo-bcache", "build", "glib"], None).unwrap();
    let by_cargo = parse_words(&["/home/me/.cargo/bin/cargo-bcache", "bcache", "build", "glib"], None).unwrap();
    assert_eq!(direct.command, build(&["glib"]));
    assert_eq!(by_cargo.command, build(&["glib"]));
}

#[test]
fn only_the_first_bcache_is_from_cargo() {
    assert_eq!(parsed(&["bcache", "build", "bcache"]).command, build(&["bcache"]));
    assert_eq!(parsed(&["build", "bcache"]).command, build(&["bcache"]));
    assert!(refused(&["bcache", "bcache"]).contains("unrecognized subcommand 'bcache'"));
}

#[test]
fn usage_names_the_form_that_was_typed() {
    let by_cargo = refused(&["bcache", "why"]);
    assert!(by_cargo.contains("Usage: cargo bcache why <TASK[@TARGET]>"), "{by_cargo}");
    let direct = refused(&["why"]);
    assert!(direct.contains("Usage: cargo-bcache why <TASK[@TARGET]>"), "{direct}");
}

#[test]
fn without_arguments_the_help_is_printed_and_the_exit_code_is_2() {
    for words in [&["cargo-bcache"][..], &["cargo-bcache", "bcache"], &["cargo-bcache", "cache"]] {
        let error = parse_words(words, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn help_and_version_are_no_failure() {
    for words in [&["cargo-bcache", "--help"][..], &["cargo-bcache", "bcache", "build", "-h"], &["cargo-bcache", "-V"]]
    {
        assert_eq!(Exit::from(&parse_words(words, None).unwrap_err()), Exit::Ok);
    }
}

#[test]
fn a_task_is_a_name_with_or_without_a_target() {
    let cli = parsed(&["build", "glib@linux-arm64", "qemu"]);
    let with = TaskName { task: "glib".into(), target: Some("linux-arm64".into()) };
    let without = TaskName { task: "qemu".into(), target: None };
    assert_eq!((with.to_string().as_str(), without.to_string().as_str()), ("glib@linux-arm64", "qemu"));
    assert_eq!(cli.command, Command::Build { tasks: vec![with, without] });
    for wrong in ["", "@", "glib@", "@host", "glib@a@b"] {
        assert!(refused(&["build", wrong]).contains("write `TASK` or `TASK@TARGET`"), "{wrong}");
    }
}

#[test]
fn force_does_not_swallow_the_task_after_it() {
    let forced = |words: &[&str]| {
        let cli = parsed(words);
        (cli.options.force(), cli.command)
    };
    assert_eq!(forced(&["build", "--force", "glib"]), (Force::Named, build(&["glib"])));
    assert_eq!(forced(&["build", "--force=all", "glib"]), (Force::All, build(&["glib"])));
    assert_eq!(forced(&["build", "-B", "glib"]), (Force::All, build(&["glib"])));
    assert_eq!(forced(&["--force", "build"]), (Force::Named, build(&[])));
    assert_eq!(forced(&["build", "--force", "-B"]), (Force::All, build(&[])));
    assert_eq!(forced(&["build"]), (Force::No, build(&[])));
    assert!(refused(&["build", "--force=glib"]).contains("invalid value 'glib' for '--force[=<all>]'"));
}

#[test]
fn options_work_before_and_after_the_subcommand() {
    let line = "-C dir --manifest m.toml -j3 --target arm --force=all --yes -k -v --color never --message-format json";
    let words: Vec<&str> = line.split(' ').collect();
    for words in [[&["build"], words.as_slice()].concat(), [words.as_slice(), &["build"]].concat()] {
        let options = parsed(&words).options;
        assert_eq!(options.directory.as_deref(), Some("dir".as_ref()));
        assert_eq!(options.manifest.as_deref(), Some("m.toml".as_ref()));
        assert_eq!(options.jobs.map(NonZeroUsize::get), Some(3));
        assert_eq!(options.target.as_deref(), Some("arm"));
        assert_eq!(options.force(), Force::All);
        assert!(options.yes && options.keep_going && options.verbose() && !options.quiet() && !options.dry_run);
        assert_eq!(options.color, Color::Never);
        assert_eq!(options.message_format, MessageFormat::Json);
    }
}

#[test]
fn options_work_after_a_subcommand_of_cache() {
    let cli = parsed(&["cache", "gc", "-q", "-C", "x"]);
    assert_eq!(cli.command, Command::Cache(Cache::Gc));
    assert!(cli.options.quiet());
    assert_eq!(cli.options.directory.as_deref(), Some("x".as_ref()));
}

#[test]
fn the_later_of_two_options_wins() {
    assert_eq!(parsed(&["-j2", "build", "-j4"]).options.jobs.map(NonZeroUsize::get), Some(4));
}

#[test]
fn what_follows_two_hyphens_is_left_alone() {
    let cli = parsed(&["run", "x", "--", "-j3", "--force", "--", "-n", "a b"]);
    let args = ["-j3", "--force", "--", "-n", "a b"].map(OsString::from).to_vec();
    assert_eq!(cli.command, Command::Run { task: task("x"), args });
    assert_eq!(cli.options.jobs, None);
    assert_eq!(cli.options.force(), Force::No);
    assert!(!cli.options.dry_run);
    assert!(refused(&["run", "x", "y"]).contains("unexpected argument 'y'"));
}

#[test]
fn arguments_of_run_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"a\xff".to_vec());
    let words = ["cargo-bcache", "run", "x", "--"].map(OsString::from).into_iter().chain([odd.clone()]);
    let cli = parse_with(words, None).unwrap();
    assert_eq!(cli.command, Command::Run { task: task("x"), args: vec![odd] });
}

#[test]
fn jobs_come_from_bcache_jobs_unless_they_are_typed() {
    let jobs = |words: &[&str], env| parse_words(words, env).map(|cli| cli.options.jobs.map(NonZeroUsize::get));
    assert_eq!(jobs(&["cargo-bcache", "build"], Some("6")).unwrap(), Some(6));
    assert_eq!(jobs(&["cargo-bcache", "build", "-j2"], Some("6")).unwrap(), Some(2));
    assert_eq!(jobs(&["cargo-bcache", "build", "-j2"], Some("many")).unwrap(), Some(2));
    assert_eq!(jobs(&["cargo-bcache", "build"], Some("")).unwrap(), None);
    for wrong in ["0", "many", "-1"] {
        let error = jobs(&["cargo-bcache", "build"], Some(wrong)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("the variable BCACHE_JOBS is `{wrong}`")), "{error}");
    }
    assert!(refused(&["build", "-j0"]).contains("invalid value '0' for '--jobs <N>'"));
}

#[test]
fn quiet_and_verbose_contradict_each_other_wherever_they_stand() {
    for words in [["-q", "-v", "build"], ["-q", "build", "-v"], ["build", "-v", "-q"]] {
        assert!(refused(&words).contains("`--quiet` and `--verbose` contradict each other"));
    }
}

#[test]
fn a_dry_run_is_refused_where_it_would_be_a_lie() {
    assert!(parsed(&["build", "-n"]).options.dry_run);
    assert!(parsed(&["plan", "--dry-run", "glib"]).options.dry_run);
    for words in [&["-n", "run", "x"][..], &["clean", "-n"], &["cache", "gc", "-n"], &["path", "x", "-n"]] {
        assert!(refused(words).contains("`-n` says what `build` would do: it can't be used with"), "{words:?}");
    }
}

#[test]
fn a_task_in_place_of_a_subcommand_is_told_what_to_type() {
    let error = refused(&["qemu"]);
    assert!(error.contains("tip: to build the task `qemu`, write `build qemu`"), "{error}");
    let error = refused(&["buidl"]);
    assert!(error.contains("a similar subcommand exists: 'build'"), "{error}");
}

#[test]
fn every_subcommand_of_the_design_is_there() {
    assert_eq!(parsed(&["why", "qemu"]).command, Command::Why { task: task("qemu") });
    assert_eq!(parsed(&["log", "qemu@a"]).command, Command::Log { task: task("qemu@a") });
    assert_eq!(parsed(&["path", "x"]).command, Command::Path { task: task("x"), output: None });
    let output = Some("bin/x y".into());
    assert_eq!(parsed(&["path", "x", "--output", "bin/x y"]).command, Command::Path { task: task("x"), output });
    assert_eq!(parsed(&["list"]).command, Command::List);
    let graph = Command::Graph { tasks: vec![task("x")], format: GraphFormat::Mermaid };
    assert_eq!(parsed(&["graph", "--format", "mermaid", "x"]).command, graph);
    assert_eq!(parsed(&["graph"]).command, Command::Graph { tasks: vec![], format: GraphFormat::Dot });
    assert_eq!(parsed(&["clean", "x"]).command, Command::Clean { tasks: vec![task("x")] });
    assert_eq!(parsed(&["schema"]).command, Command::Schema);
    let caches = [Cache::List, Cache::Stats, Cache::Gc, Cache::Verify, Cache::Clean];
    for (word, cache) in ["list", "stats", "gc", "verify", "clean"].iter().zip(caches) {
        assert_eq!(parsed(&["cache", word]).command, Command::Cache(cache));
    }
    let bash = Command::Completions { shell: clap_complete::Shell::Bash };
    assert_eq!(parsed(&["completions", "bash"]).command, bash);
}

#[test]
fn completions_know_the_subcommands() {
    let script = String::from_utf8(completions(clap_complete::Shell::Bash)).unwrap();
    assert!(script.contains("complete") && script.contains("--keep-going") && script.contains("mermaid"));
}

#[test]
fn the_quick_reading_of_build_and_path_is_what_clap_would_read() {
    let build = [&["build"][..], &["build", "glib"], &["build", "glib@host", "qemu"], &["-q", "build", "glib"]];
    for words in build.into_iter().chain([&["path", "glib"][..], &["-q", "path", "glib@host"]]) {
        let args: Vec<OsString> = ["cargo-bcache"].iter().chain(words).map(OsString::from).collect();
        let read = Cli::from_arg_matches(&Cli::command().try_get_matches_from(&args).unwrap()).unwrap();
        let quick = quick(&args, None).unwrap();
        assert_eq!(quick.command, read.command);
        assert_eq!(format!("{:?}", quick.options), format!("{:?}", read.options));
    }
    for words in [
        &["build", "-j2"][..],
        &["build", "a@"],
        &["plan"],
        &["build", "--", "x"],
        &["path"],
        &["path", "a", "b"],
        &["-q"],
        &[],
    ] {
        let args: Vec<OsString> = ["cargo-bcache"].iter().chain(words).map(OsString::from).collect();
        assert!(quick(&args, None).is_none(), "{words:?}");
    }
}
