//! One exit code per class of failure. Scripts rely on them: add, never renumber.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: everything that was asked for is as it should be.
    Ok,
    /// 1: a step failed.
    StepFailed,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: the manifest, or the graph made from it, has errors. Nothing ran.
    Manifest,
    /// 4: a tool, or something that the environment must have, is missing. Nothing ran.
    Missing,
    /// 5: the store, the state or the file system failed us.
    State,
    /// 101: a broken invariant, as Rust's own panics end.
    Bug,
    /// 130: Ctrl-C or SIGTERM, as shells report it.
    Interrupted,
    /// The code of the command that `run` or `shell` was attached to, whatever it is.
    Command(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::StepFailed => 1,
            Self::Usage => 2,
            Self::Manifest => 3,
            Self::Missing => 4,
            Self::State => 5,
            Self::Bug => 101,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_know() {
        let codes = [
            Exit::Ok,
            Exit::StepFailed,
            Exit::Usage,
            Exit::Manifest,
            Exit::Missing,
            Exit::State,
            Exit::Bug,
            Exit::Interrupted,
            Exit::Command(42),
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 101, 130, 42]);
    }
}
