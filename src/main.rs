use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == bcache::execute::inside::WORD) {
        return ExitCode::from(bcache::execute::inside::inside_main());
    }
    ExitCode::SUCCESS
}
