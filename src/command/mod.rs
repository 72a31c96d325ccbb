//! Floor 7: composition. Each subcommand opens what it needs, hands it to the rooms below and says what
//! came of it.

mod build;
mod cache;
mod clean;
mod error;
mod force;
mod graph;
mod info;
mod open;
mod path;
mod plan;
mod shell;

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::{self, Cli, Command};
use crate::exit::Exit;
use crate::fingerprint::env::Outside;
use crate::report::{Color, Format, Options, Reporter, Verbosity};

use error::CommandError;

/// What every subcommand is given.
struct Context {
    options: cli::Options,
    reporter: Reporter,
    outside: Outside,
    /// Where the person is.
    directory: PathBuf,
    begun: Instant,
}

/// Does what was typed.
pub fn run(cli: Cli, begun: Instant) -> Exit {
    let reporter = Reporter::new(report_options(&cli.options));
    let directory = match directory(&cli.options) {
        Ok(directory) => directory,
        Err(error) => return error.report(&reporter),
    };
    let context =
        Context { options: cli.options, reporter, outside: Outside::new(std::env::vars_os()), directory, begun };
    match context.dispatch(cli.command) {
        Ok(exit) => exit,
        Err(error) => error.report(&context.reporter),
    }
}

fn report_options(options: &cli::Options) -> Options {
    let verbosity = if options.quiet() {
        Verbosity::Quiet
    } else if options.verbose() {
        Verbosity::Verbose
    } else {
        Verbosity::Normal
    };
    let format = match options.message_format {
        cli::MessageFormat::Human => Format::Human,
        cli::MessageFormat::Json => Format::Json,
    };
    let color = match options.color {
        cli::Color::Auto => Color::Auto,
        cli::Color::Always => Color::Always,
        cli::Color::Never => Color::Never,
    };
    Options { format, verbosity, color }
}

fn directory(options: &cli::Options) -> Result<PathBuf, CommandError> {
    let here = std::env::current_dir().map_err(CommandError::io("find the current directory"))?;
    Ok(match &options.directory {
        Some(dir) => here.join(dir),
        None => here,
    })
}

impl Context {
    fn dispatch(&self, command: Command) -> Result<Exit, CommandError> {
        match command {
            Command::Build { tasks } if self.options.dry_run => self.plan(&tasks),
            Command::Build { tasks } => self.build(&tasks),
            Command::Plan { tasks } => self.plan(&tasks),
            Command::Run { task, args } => self.run_task(&task, &args),
            Command::Why { task } => self.why(&task),
            Command::Shell { task, command } => self.shell(&task, command),
            Command::Path { task, output } => self.path(&task, output.as_deref()),
            Command::List => self.list(),
            Command::Graph { tasks, format } => self.graph(&tasks, format),
            Command::Log { task } => self.log(&task),
            Command::Clean { tasks } => self.clean(&tasks),
            Command::Cache(cache) => self.cache(cache),
            Command::Schema => self.schema(),
            Command::Completions { shell } => self.answer(&cli::completions(shell)),
        }
    }

    /// Prints what was asked for.
    fn answer(&self, bytes: &[u8]) -> Result<Exit, CommandError> {
        self.reporter.answer(bytes).map_err(CommandError::io("write to stdout"))?;
        Ok(Exit::Ok)
    }
}
