//! Everything that ends a command, and the exit code of each.

use std::path::PathBuf;

use crate::execute::judging::JudgeError;
use crate::exit::Exit;
use crate::fingerprint::files::FileError;
use crate::fingerprint::git::GitError;
use crate::graph::request::Unknown;
use crate::manifest::error::Errors;
use crate::report::Reporter;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the manifest has errors")]
    Manifest(#[from] Errors),
    #[error("no tasks.toml in `{}` or above", path.display())]
    NoManifest { path: PathBuf },
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error("{text}")]
    Usage { text: String, help: Option<String> },
    #[error("{text}")]
    Missing { text: String, help: Option<String> },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("cannot {what}: {error}")]
    Io { what: String, error: std::io::Error },
    /// Said already; just the code is left.
    #[error("ended")]
    Ended(Exit),
}

impl CommandError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// Tells the person and gives the exit code.
    pub fn report(&self, reporter: &Reporter) -> Exit {
        if let Self::Manifest(errors) = self {
            let diagnoses: Vec<_> = errors.diagnoses().collect();
            let all: Vec<&dyn miette::Diagnostic> = diagnoses.iter().map(|d| d as &dyn miette::Diagnostic).collect();
            reporter.problems(&all);
        } else if !matches!(self, Self::Ended(_)) {
            let (text, code, help) = (self.to_string(), self.code(), self.help());
            reporter.problems(&[&Plain { text, code, help, cause: std::error::Error::source(self) }]);
        }
        self.exit()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Manifest(_) | Self::NoManifest { .. } => Exit::Manifest,
            Self::Unknown(_) | Self::Usage { .. } => Exit::Usage,
            Self::Missing { .. } => Exit::Missing,
            Self::Store(_) | Self::File(_) | Self::Git(_) | Self::Io { .. } => Exit::State,
            Self::Judge(JudgeError::Store(_) | JudgeError::File(_)) => Exit::State,
            Self::Judge(JudgeError::Assemble(_)) => Exit::StepFailed,
            Self::Ended(exit) => *exit,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "bcache::manifest",
            Self::NoManifest { .. } => "bcache::manifest::none",
            Self::Unknown(_) | Self::Usage { .. } => "bcache::usage",
            Self::Missing { .. } => "bcache::missing",
            Self::Store(_) => "bcache::store",
            Self::File(_) => "bcache::file",
            Self::Git(_) => "bcache::git",
            Self::Judge(_) => "bcache::step",
            Self::Io { .. } => "bcache::io",
            Self::Ended(_) => "bcache",
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::NoManifest { .. } => {
                Some("make one: `[bcache]`, `version = 1`, then a `[tasks.NAME]` with a `run`".to_owned())
            }
            Self::Unknown(unknown) => unknown.help().map(str::to_owned),
            Self::Usage { help, .. } | Self::Missing { help, .. } => help.clone(),
            _ => None,
        }
    }
}

/// An error without a place in a file.
#[derive(Debug)]
struct Plain<'a> {
    text: String,
    code: &'static str,
    help: Option<String>,
    cause: Option<&'a (dyn std::error::Error + 'static)>,
}

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Plain<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
    }
}

impl miette::Diagnostic for Plain<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }
}
