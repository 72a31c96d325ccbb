//! What the user typed, nothing resolved: the only file that knows clap.
//!
//! The names here are a contract with other people's scripts: add freely, rename none.
//!
//! - The program is started as `cargo-bcache build` or by cargo as `cargo-bcache bcache build`; no
//!   subcommand is called `bcache`, so one such first argument is always cargo's.
//! - All options are global: they work before and after the subcommand. Where one is given in both
//!   places, the later wins.
//! - `--force` takes its value with `=` only, so that `build --force glib` forces the task `glib`.
//! - Contradictions are looked for by hand, since clap judges each level by itself and would let
//!   `-q build -v` pass.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;

/// The whole command line.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cargo-bcache",
    bin_name = "cargo bcache",
    version,
    about = "Builds dependency chains and caches every step of them",
    after_help = EXAMPLES,
    styles = STYLES,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  cargo bcache build                 build the default task of tasks.toml
  cargo bcache build qemu@host -j8   one task at one target, eight jobs
  cargo bcache plan                  what a build would do, and what it would cost
  cargo bcache why qemu              why it would run, or why it last ran
  cargo bcache run lint -- --fix     run a task, with arguments
  cargo bcache shell qemu            look around where a step runs, or failed

Scripts save cargo's own start-up time by calling `cargo-bcache build` directly.
Exit codes: 0 fine, 1 a step failed, 2 usage, 3 manifest, 4 something is missing, 5 store or state, 130 interrupted.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// Options that every subcommand takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = GLOBAL)]
    pub directory: Option<PathBuf>,
    /// The manifest [default: tasks.toml here or above]
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL)]
    pub manifest: Option<PathBuf>,
    /// Jobs at the same time, over all steps and the makes in them [default: number of cores] [env: BCACHE_JOBS]
    #[arg(short, long, value_name = "N", global = true, help_heading = GLOBAL)]
    pub jobs: Option<NonZeroUsize>,
    /// Build tasks named without `@` for this target only
    #[arg(long, value_name = "NAME", global = true, help_heading = GLOBAL)]
    pub target: Option<String>,
    /// Run the named tasks even if they are up to date; with `=all` their dependencies too
    #[arg(long, value_name = "all", num_args = 0..=1, require_equals = true, hide_possible_values = true, global = true, help_heading = GLOBAL)]
    force: Option<Option<ForceValue>>,
    /// The same as --force=all, as make has it
    #[arg(short = 'B', global = true, help_heading = GLOBAL)]
    force_all: bool,
    /// Say what `build` would do and do nothing, as `plan` does
    #[arg(short = 'n', long, global = true, help_heading = GLOBAL)]
    pub dry_run: bool,
    /// Go on with what does not depend on a failed step
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub keep_going: bool,
    /// How steps with a sysroot are kept apart: by namespaces, or one at a time in the sysroot itself [env: BCACHE_VIEWS]
    #[arg(long, value_name = "HOW", global = true, hide_possible_values = true, help_heading = GLOBAL)]
    pub views: Option<Views>,
    /// Answer yes where a task asks before it runs
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub yes: bool,
    /// For people (on stderr), or one JSON event per line (on stdout)
    #[arg(long, value_name = "FORMAT", global = true, default_value = "human", help_heading = GLOBAL)]
    pub message_format: MessageFormat,
    /// When to use colours
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", help_heading = GLOBAL)]
    pub color: Color,
    /// Name fresh steps too, and show what steps print while they run
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = GLOBAL)]
    verbose: u8,
    /// Print errors only
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = GLOBAL)]
    quiet: u8,
}

const GLOBAL: &str = "Options everywhere";

impl Options {
    pub fn verbose(&self) -> bool {
        self.verbose > 0
    }

    pub fn quiet(&self) -> bool {
        self.quiet > 0
    }

    pub fn force(&self) -> Force {
        match self.force {
            _ if self.force_all => Force::All,
            Some(Some(ForceValue::All)) => Force::All,
            Some(None) => Force::Named,
            None => Force::No,
        }
    }
}

/// Which steps run even if they are fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    No,
    /// The tasks that were asked for.
    Named,
    /// And everything that they need.
    All,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum ForceValue {
    All,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MessageFormat {
    #[default]
    Human,
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Views {
    Auto,
    Namespaces,
    Exclusive,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Build tasks and what they need
    Build {
        /// What to build [default: the manifest's `default`]
        #[arg(value_name = "TASK[@TARGET]")]
        tasks: Vec<TaskName>,
    },
    /// Say what a build would do, why, and what it would cost
    Plan {
        /// What to plan [default: the manifest's `default`]
        #[arg(value_name = "TASK[@TARGET]")]
        tasks: Vec<TaskName>,
    },
    /// Build what a task needs, then run it, always
    #[command(after_help = "Examples:\n  cargo bcache run lint\n  cargo bcache run lint -- --fix")]
    Run {
        /// What to run
        #[arg(value_name = "TASK[@TARGET]")]
        task: TaskName,
        /// Arguments for `{{ args }}` in its commands
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Say why a step would run, or why it last ran
    Why {
        /// Which step
        #[arg(value_name = "TASK[@TARGET]")]
        task: TaskName,
    },
    /// A shell, or a command, where a step runs: in its view, environment and directory
    #[command(
        after_help = "Examples:\n  cargo bcache shell glib\n  cargo bcache shell glib@linux-arm64 -- ls -l\n\nAfter a failed run they are as that left them. The exit code is that of the shell or command."
    )]
    Shell {
        /// Which step
        #[arg(value_name = "TASK[@TARGET]")]
        task: TaskName,
        /// What to run there [default: $SHELL, or /bin/sh]
        #[arg(last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Build a task if needed and print the path of its output
    #[command(after_help = "Examples:\n  exe=$(cargo bcache path server)\n  cargo bcache path libs --output libz.a")]
    Path {
        /// Which step
        #[arg(value_name = "TASK[@TARGET]")]
        task: TaskName,
        /// Which output, where there are several
        #[arg(long, value_name = "NAME")]
        output: Option<PathBuf>,
    },
    /// List the tasks
    List,
    /// Print the graph of steps
    Graph {
        /// Only these and what they need [default: everything]
        #[arg(value_name = "TASK[@TARGET]")]
        tasks: Vec<TaskName>,
        #[arg(long, default_value = "dot")]
        format: GraphFormat,
    },
    /// Print what a step wrote when it last ran
    Log {
        /// Which step
        #[arg(value_name = "TASK[@TARGET]")]
        task: TaskName,
    },
    /// Remove what tasks have made (not from the cache)
    Clean {
        /// What to clean [default: everything]
        #[arg(value_name = "TASK[@TARGET]")]
        tasks: Vec<TaskName>,
    },
    /// Look after the cache that all worktrees share
    #[command(subcommand, arg_required_else_help = true)]
    Cache(Cache),
    /// Print the JSON schema of tasks.toml, for editors
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  cargo bcache completions bash > ~/.bash_completions/cargo-bcache")]
    Completions { shell: clap_complete::Shell },
}

impl Command {
    /// As it is typed.
    fn name(&self) -> &'static str {
        match self {
            Self::Build { .. } => "build",
            Self::Plan { .. } => "plan",
            Self::Run { .. } => "run",
            Self::Why { .. } => "why",
            Self::Shell { .. } => "shell",
            Self::Path { .. } => "path",
            Self::List => "list",
            Self::Graph { .. } => "graph",
            Self::Log { .. } => "log",
            Self::Clean { .. } => "clean",
            Self::Cache(_) => "cache",
            Self::Schema => "schema",
            Self::Completions { .. } => "completions",
        }
    }
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq, Debug)]
#[command(disable_help_subcommand = true)]
pub enum Cache {
    /// List the stored results
    List,
    /// Say how large the cache is, and how large it may be
    Stats,
    /// Remove the results used least recently until the cache fits its limit
    Gc,
    /// Read every stored byte, and list and drop what is damaged
    Verify,
    /// Remove everything that no running build holds
    Clean,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum GraphFormat {
    Dot,
    Mermaid,
    Json,
}

/// `glib`, or `glib@linux-arm64`, as typed: neither needs to exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskName {
    pub task: String,
    pub target: Option<String>,
}

/// Text that can't name a task.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write `TASK` or `TASK@TARGET`")]
pub struct NotATaskName;

impl FromStr for TaskName {
    type Err = NotATaskName;

    fn from_str(text: &str) -> Result<Self, NotATaskName> {
        let (task, target) = match text.split_once('@') {
            None => (text, None),
            Some((task, target)) => (task, Some(target)),
        };
        if task.is_empty() || target.is_some_and(|target| target.is_empty() || target.contains('@')) {
            return Err(NotATaskName);
        }
        Ok(Self { task: task.to_owned(), target: target.map(str::to_owned) })
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            None => f.write_str(&self.task),
            Some(target) => write!(f, "{}@{target}", self.task),
        }
    }
}

/// `build TASK…` and `path TASK`, with nothing but a `-q` in front, which scripts call again and again: clap takes a
/// millisecond to build its picture of all that could be typed, half of what a whole answer takes. `None`: let clap read it.
fn quick(args: &[OsString], jobs: Option<&OsString>) -> Option<Cli> {
    let (quiet, words) = match args.get(1..)? {
        [first, rest @ ..] if first == "-q" => (1, rest),
        words => (0, words),
    };
    let (first, names) = words.split_first()?;
    if jobs.is_some() {
        return None;
    }
    let plain = |name: &OsString| name.to_str().filter(|n| !n.starts_with('-')).and_then(|n| n.parse().ok());
    let mut tasks = names.iter().map(plain).collect::<Option<Vec<TaskName>>>()?;
    let command = match first.to_str()? {
        "build" => Command::Build { tasks },
        "path" if tasks.len() == 1 => Command::Path { task: tasks.pop()?, output: None },
        _ => return None,
    };
    Some(Cli { command, options: Options { quiet, ..Options::default() } })
}

/// Reads a command line, the program's name first. The error also carries `--help` and `--version`;
/// it prints itself to where it belongs.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    parse_with(args, std::env::var_os("BCACHE_JOBS"))
}

fn parse_with(args: impl Iterator<Item = OsString>, jobs: Option<OsString>) -> Result<Cli, clap::Error> {
    let mut args: Vec<OsString> = args.collect();
    let from_cargo = args.get(1).is_some_and(|first| first == "bcache");
    if from_cargo {
        args.remove(1);
    }
    if let Some(cli) = quick(&args, jobs.as_ref()) {
        return Ok(cli);
    }
    let mut command = Cli::command().bin_name(if from_cargo { "cargo bcache" } else { "cargo-bcache" });
    let matches = command.try_get_matches_from_mut(args).map_err(explain)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let Some(contradiction) = contradiction(&cli) {
        return Err(command.error(ErrorKind::ArgumentConflict, contradiction));
    }
    if cli.options.jobs.is_none() {
        cli.options.jobs = jobs_of_environment(jobs).map_err(|text| command.error(ErrorKind::InvalidValue, text))?;
    }
    Ok(cli)
}

/// Who types a task where a subcommand belongs gets told what to type.
fn explain(mut error: clap::Error) -> clap::Error {
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) if error.get(ContextKind::SuggestedSubcommand).is_none() => typed.clone(),
        _ => return error,
    };
    let tip = format!("to build the task `{typed}`, write `build {typed}`");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

fn contradiction(cli: &Cli) -> Option<String> {
    if cli.options.quiet() && cli.options.verbose() {
        return Some("`--quiet` and `--verbose` contradict each other".to_owned());
    }
    let dry = matches!(cli.command, Command::Build { .. } | Command::Plan { .. });
    if cli.options.dry_run && !dry {
        let name = cli.command.name();
        return Some(format!("`-n` says what `build` would do: it can't be used with `{name}`"));
    }
    None
}

/// A variable that is empty is one that is not set.
fn jobs_of_environment(value: Option<OsString>) -> Result<Option<NonZeroUsize>, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.to_str().map(str::trim).and_then(|text| text.parse().ok()) {
        Some(jobs) => Ok(Some(jobs)),
        None => Err(format!("the variable BCACHE_JOBS is `{}`: a number of at least 1 is needed", shown(&value))),
    }
}

fn shown(value: &OsStr) -> String {
    value.to_string_lossy().escape_debug().to_string()
}

/// Help and version are printed through the same type as usage errors, but are no failure.
impl From<&clap::Error> for Exit {
    fn from(error: &clap::Error) -> Self {
        if error.exit_code() == 0 { Self::Ok } else { Self::Usage }
    }
}

/// The script that makes `shell` complete our command line.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cargo-bcache", &mut script);
    script
}

#[cfg(test)]
mod tests;
