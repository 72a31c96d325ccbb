//! What a command starts, by its words: programs, the commands in their operands, the script of an interpreter.

/// Words that the shell answers itself.
const BUILTINS: &[&str] = &[
    ".", ":", "[", "alias", "bg", "break", "cd", "command", "continue", "echo", "eval", "exec", "exit", "export",
    "false", "fg", "getopts", "hash", "jobs", "kill", "let", "local", "printf", "pwd", "read", "readonly", "return",
    "set", "shift", "source", "test", "times", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait",
];

/// Commands that start the one in their operands: with the flags that take a word of their own, and how many operands come
/// before it.
const WRAPPERS: &[(&str, &[&str], usize)] = &[
    ("ccache", &[], 0),
    ("chrt", &["-T", "-P", "-D"], 1),
    ("command", &[], 0),
    ("distcc", &[], 0),
    ("doas", &["-u", "-C"], 0),
    ("eatmydata", &[], 0),
    ("env", &["-u", "-C"], 0),
    ("exec", &["-a"], 0),
    ("fakeroot", &["-l", "-s", "-i", "-b"], 0),
    ("flock", &["-w", "-E"], 1),
    ("icecc", &[], 0),
    ("ionice", &["-c", "-n"], 0),
    ("nice", &["-n"], 0),
    ("nohup", &[], 0),
    ("sccache", &[], 0),
    ("setarch", &[], 1),
    ("setsid", &[], 0),
    ("stdbuf", &["-i", "-o", "-e"], 0),
    ("strace", &["-o", "-e", "-s", "-u", "-E"], 0),
    ("sudo", &["-u", "-g", "-h", "-p", "-C", "-D", "-T"], 0),
    ("taskset", &[], 1),
    ("time", &["-f", "-o"], 0),
    ("timeout", &["-k", "-s"], 1),
    ("unshare", &[], 0),
    ("xargs", &["-n", "-P", "-I", "-L", "-d", "-a", "-s", "-E"], 0),
    ("xvfb-run", &["-n", "-s", "-f", "-e", "-p", "-w"], 0),
];

/// Programs that take a script as their first operand, and which of their flags say otherwise.
struct Interpreter {
    /// Without a version at the end.
    names: &'static [&'static str],
    /// The program's text or a module follows, no script.
    inline: &'static [char],
    /// Flags with a word of their own: the rest of the flag, or the next one.
    valued: &'static [char],
    /// The same of flags whose word is always the next one.
    spaced: &'static [char],
    long: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["sh", "bash", "dash", "zsh"],
        inline: &['c'],
        valued: &[],
        spaced: &['o', 'O'],
        long: &["--rcfile", "--init-file"],
    },
    Interpreter {
        names: &["python"],
        inline: &['c', 'm'],
        valued: &['W', 'X'],
        spaced: &[],
        long: &["--check-hash-based-pycs"],
    },
    Interpreter { names: &["perl"], inline: &['e', 'E'], valued: &['I', 'M'], spaced: &[], long: &[] },
    Interpreter { names: &["ruby"], inline: &['e'], valued: &['C', 'E', 'I', 'r'], spaced: &[], long: &[] },
    Interpreter {
        names: &["node"],
        inline: &['e', 'p'],
        valued: &['C', 'r'],
        spaced: &[],
        long: &["--import", "--loader", "--require"],
    },
];

/// After these `find` has a command.
const FIND_STARTS: &[&str] = &["-exec", "-execdir", "-ok", "-okdir"];

/// A word that names what is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started<'w> {
    pub word: &'w str,
    /// It is given to an interpreter, for which it is a file.
    pub is_script: bool,
}

/// What a command starts: programs by name, and the script given to an interpreter.
pub fn programs(words: &[Option<String>]) -> Vec<Started<'_>> {
    let mut found = Vec::new();
    let mut rest = words;
    while let Some((Some(first), operands)) = rest.split_first() {
        let name = first.as_str();
        if name.contains('=') && !name.contains('/') {
            rest = operands;
            continue;
        }
        if !BUILTINS.contains(&name) {
            found.push(Started { word: name, is_script: false });
        }
        let last = name.rsplit('/').next().unwrap_or(name);
        if let Some((_, flags, before)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == last) {
            rest = wrapped(operands, flags, *before);
            continue;
        }
        if last == "find" {
            let starts = |word: &Option<String>| word.as_deref().is_some_and(|word| FIND_STARTS.contains(&word));
            for at in operands.iter().enumerate().filter(|(_, word)| starts(word)).map(|(at, _)| at + 1) {
                found.extend(programs(&operands[at..]));
            }
        }
        let script = script(last, operands);
        found.extend(script.map(|word| Started { word, is_script: true }));
        break;
    }
    found
}

/// What follows the flags and the first operands of a wrapper.
fn wrapped<'w>(operands: &'w [Option<String>], flags: &[&str], before: usize) -> &'w [Option<String>] {
    let (mut rest, mut before) = (operands, before);
    while let Some((word, others)) = rest.split_first() {
        rest = match word.as_deref() {
            Some(flag) if flags.contains(&flag) => others.get(1..).unwrap_or_default(),
            Some(flag) if flag.starts_with('-') => others,
            _ if before > 0 => {
                before -= 1;
                others
            }
            _ => return rest,
        };
    }
    rest
}

/// The text in `sh -c TEXT`, where an argv command is that.
pub fn inline(words: &[String]) -> Option<&str> {
    const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh"];
    let (program, mut rest) = words.split_first()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    let mut is_text = false;
    while let Some((flag, others)) = rest.split_first().filter(|(w, _)| w.starts_with(['-', '+'])) {
        let letters = if flag.starts_with("--") { "" } else { flag.as_str() };
        is_text |= letters.contains('c');
        // `-o pipefail` has an operand of its own.
        rest = if letters.contains('o') { others.get(1..).unwrap_or_default() } else { others };
    }
    rest.first().filter(|_| is_text && SHELLS.contains(&name)).map(String::as_str)
}

/// The script that an interpreter is given, by name or path.
fn script<'w>(program: &str, operands: &'w [Option<String>]) -> Option<&'w str> {
    if program == "." || program == "source" {
        return operands.first()?.as_deref();
    }
    let plain = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let interpreter = INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&plain))?;
    let mut rest = operands;
    while let Some((word, others)) = rest.split_first() {
        let word = word.as_deref()?;
        let unsets = word.starts_with('+') && !interpreter.spaced.is_empty();
        if !word.starts_with('-') && !unsets {
            return Some(word);
        }
        rest = if interpreter.takes_next(word)? { others.get(1..)? } else { others };
    }
    None
}

impl Interpreter {
    /// Is the word after this flag its own? `None` where no script follows.
    fn takes_next(&self, flag: &str) -> Option<bool> {
        if flag.starts_with("--") {
            return Some(self.long.contains(&flag));
        }
        let letters = &flag[1..];
        for (at, letter) in letters.char_indices() {
            if self.inline.contains(&letter) && flag.starts_with('-') {
                return None;
            }
            if self.valued.contains(&letter) {
                return Some(letters[at..].len() == letter.len_utf8());
            }
        }
        Some(letters.contains(self.spaced))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::shell::scan;
    use super::*;

    /// The programs that a script starts, in its own words.
    pub(in super::super) fn found(text: &str) -> Vec<String> {
        let script = scan(text);
        let mut names: Vec<String> =
            script.commands.iter().flat_map(|words| programs(words)).map(|found| found.word.to_owned()).collect();
        names.retain(|n| !script.functions.contains(n));
        names
    }

    #[test]
    fn wrappers_and_interpreters_lead_to_what_they_start() {
        assert_eq!(found("env A=1 nice -n5 make"), ["env", "nice", "make"]);
        assert_eq!(found("env A=1 make"), ["env", "make"]);
        assert_eq!(found("env -u B -i A=1 make"), ["env", "make"]);
        assert_eq!(found("nice -n 5 timeout -k 1m 60 make -j2"), ["nice", "timeout", "make"]);
        assert_eq!(found("/usr/bin/timeout 60 ccache gcc -c a.c"), ["/usr/bin/timeout", "ccache", "gcc"]);
        assert_eq!(found("ls | xargs -n 1 -P 2 install -m 644"), ["ls", "xargs", "install"]);
        assert_eq!(found("flock lock stdbuf -o L sh a.sh"), ["flock", "stdbuf", "sh", "a.sh"]);
        assert_eq!(found("find . -name '*.c' -exec indent {} \\; -exec ls {} +"), ["find", "indent", "ls"]);
        assert_eq!(found("sudo"), ["sudo"]);
        assert_eq!(found("python3 gen.py x"), ["python3", "gen.py"]);
        assert_eq!(found("python3 -c 'import x' y"), ["python3"]);
        assert_eq!(found("sh -eu build.sh"), ["sh", "build.sh"]);
        assert_eq!(found("exec ./run"), ["./run"]);
    }

    #[test]
    fn the_script_of_an_interpreter_is_found_behind_its_flags() {
        let script = |text: &str| {
            let words = scan(text).commands.remove(0);
            programs(&words).into_iter().find(|found| found.is_script).map(|found| found.word.to_owned())
        };
        for text in [
            "sh x",
            "/bin/sh x",
            "bash -o pipefail x",
            "bash -euo pipefail +x --rcfile r -- x y",
            ". x",
            "python3.11 -W ignore -Xdev x -c",
            "python3 -Wignore::DeprecationWarning x",
            "/opt/perl5.36 -Ilocal/e -w x",
            "ruby -r e x",
            "node --require e --test x",
            "timeout 5 /bin/bash -e x",
        ] {
            assert_eq!(script(text).as_deref(), Some("x"), "{text}");
        }
        for text in
            ["sh", "sh -ec x", "bash -o pipefail -c x", "python3 -m x", "perl -ne x", "sh $x y", "cc x", "sh -o"]
        {
            assert_eq!(script(text), None, "{text}");
        }
    }

    #[test]
    fn the_text_of_sh_c_is_found_behind_its_flags() {
        let inline =
            |words: &[&str]| inline(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).map(str::to_owned);
        let text = Some("a > b".to_owned());
        assert_eq!(inline(&["sh", "-c", "a > b"]), text);
        assert_eq!(inline(&["/bin/bash", "-euo", "pipefail", "-c", "a > b", "zero"]), text);
        assert_eq!(inline(&["sh", "-ec", "a > b"]), text);
        assert_eq!(inline(&["sh", "script", "-c", "x"]), None);
        assert_eq!(inline(&["cc", "-c", "a.c"]), None);
        assert_eq!(inline(&["sh", "-c"]), None);
    }
}
