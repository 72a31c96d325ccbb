//! How a step's programs are told of the jobserver, found from what the step uses.

use crate::fingerprint::assemble::{Assembled, Workbench};
use crate::graph::{Class, Command, Step, shell};
use crate::manifest::model::JobserverChoice;

use super::jobserver::Style;

/// Programs that understand descriptors.
const PIPE: &[&str] = &["make", "gmake", "cargo", "rustc", "gcc", "g++"];

/// `None`: nothing in the step would ask.
pub fn choose(step: &Step, assembled: &Assembled, bench: &Workbench) -> Option<Style> {
    match step.jobserver {
        JobserverChoice::Off => return None,
        JobserverChoice::Pipe => return Some(Style::Pipe),
        JobserverChoice::Fifo => return Some(Style::Fifo),
        JobserverChoice::Auto => {}
    }
    let names: Vec<&str> = match step.class {
        Class::Plain => step.tools.iter().map(|t| t.tool.name.value.as_str()).collect(),
        _ => assembled.programs.iter().map(|(name, _)| name.as_str()).collect(),
    };
    let uses = |wanted: &str| names.contains(&wanted);
    let runs_ninja = uses("ninja") || uses("meson");
    let runs_make = uses("make") || uses("gmake");
    let at_least = |program: &str, wanted: (u32, u32)| version_of(program, step, bench).is_some_and(|v| v >= wanted);
    if runs_ninja && !runs_make && at_least("ninja", (1, 13)) {
        return Some(Style::Fifo);
    }
    if runs_make && runs_ninja && at_least("make", (4, 4)) && at_least("ninja", (1, 13)) {
        return Some(Style::Fifo);
    }
    // A script of the workspace may start anything: descriptors harm nobody who does not ask.
    let unknown = !step.scripts.is_empty();
    (unknown || names.iter().any(|n| PIPE.contains(n))).then_some(Style::Pipe)
}

/// Major and minor version, as the program says it.
fn version_of(program: &str, step: &Step, bench: &Workbench) -> Option<(u32, u32)> {
    let said = bench.tools.version_of(program, &bench.asking(step, &bench.search_path(step)))?;
    let number = said.split(|c: char| c.is_whitespace()).find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(|p| p.chars().take_while(char::is_ascii_digit).collect::<String>());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The command's own `-j`, if it has one: `make -j8`.
pub fn own_jobs(command: &Command) -> Option<String> {
    let commands = match command {
        Command::Argv(words) => vec![words.iter().cloned().map(Some).collect()],
        Command::Shell(text) => shell::scan(text).commands,
    };
    commands.into_iter().find_map(|words: shell::Words| {
        let program = words.iter().flatten().next()?.rsplit('/').next()?.to_owned();
        let takes_jobs = ["make", "gmake", "ninja", "samu", "cargo"].contains(&program.as_str());
        let flag = words
            .iter()
            .flatten()
            .skip(1)
            .find(|w| *w == "-j" || *w == "--jobs" || w.starts_with("--jobs=") || is_numbered(w))?;
        takes_jobs.then(|| format!("{program} {flag}").replace(crate::graph::JOBS_MARKER, "{{ jobs }}"))
    })
}

fn is_numbered(word: &str) -> bool {
    word.strip_prefix("-j").is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_its_own_jobs_is_found_and_one_that_asks_for_its_share_is_not() {
        let own = |text: &str| own_jobs(&Command::Shell(text.to_owned()));
        assert_eq!(own("cd x && make -j8 install"), Some("make -j8".to_owned()));
        assert_eq!(own("/usr/bin/make -j"), Some("make -j".to_owned()));
        assert_eq!(own("ninja -j \"$(nproc)\""), Some("ninja -j".to_owned()));
        assert_eq!(own("make install"), None);
        assert_eq!(own(&format!("ninja -j{JOBS}", JOBS = crate::graph::JOBS_MARKER)), None);
        assert_eq!(own("tar -j x"), None);
        let argv = ["make", "--jobs=4"].map(str::to_owned).to_vec();
        assert_eq!(own_jobs(&Command::Argv(argv)), Some("make --jobs=4".to_owned()));
    }
}
