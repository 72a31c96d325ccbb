//! `cargo-bcache`: as itself, as `cargo bcache`, as its own helper inside a step's namespaces, and
//! as the watcher of a build.

use std::process::ExitCode;
use std::time::Instant;

use bcache::execute::{inside, watch};
use bcache::exit::Exit;
use bcache::{cli, command};

fn main() -> ExitCode {
    let begun = Instant::now();
    match std::env::args_os().nth(1) {
        Some(word) if word == inside::WORD => return ExitCode::from(inside::inside_main()),
        Some(word) if word == watch::WORD => return ExitCode::from(watch::watch_main()),
        _ => {}
    }
    // What steps make is to be the same whoever runs them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match cli::parse(std::env::args_os()) {
        Ok(cli) => command::run(cli, begun).into(),
        Err(error) => {
            // Help goes to stdout, errors to stderr; a closed one is nobody's fault.
            let _ = error.print();
            Exit::from(&error).into()
        }
    }
}
