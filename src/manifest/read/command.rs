//! `before`, `run` and `after`: strings for a shell, lists for none.

use toml::de::DeValue;

use super::super::model::{Command, ManifestWarning, Text};
use super::{Pair, Reader};

/// Programs that people do run with no argument at all, so a list of them is a list of commands.
const RUN_ALONE: [&str; 14] = [
    "make",
    "gmake",
    "ninja",
    "samu",
    "configure",
    "bootstrap",
    "autoreconf",
    "sync",
    "true",
    "false",
    "ls",
    "pwd",
    "env",
    "date",
];

impl Reader<'_> {
    pub(super) fn commands(&mut self, pair: &Pair) -> Vec<Command> {
        let commands: Vec<_> = self
            .one_or_list(pair)
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::Array(words) => {
                    let span = self.span_of(value);
                    let words: Vec<_> = words.iter().filter_map(|word| self.text_in(pair.key, word)).collect();
                    if words.first().is_none_or(|program| program.trim().is_empty()) {
                        self.bad_value(format!("a command in `{}` has no program", pair.key.name), span, "");
                    }
                    Command::Argv(words)
                }
                // A wrong one keeps its place, so that the task does not look as if it had no commands.
                _ => {
                    let text = self.path_in(pair.key, value);
                    Command::Shell(text.unwrap_or_else(|| Text::new(String::new(), self.span_of(value))))
                }
            })
            .collect();
        self.warn_of_argv(pair, &commands);
        commands
    }

    /// `["cargo", "build"]` runs `cargo` and then `build`, which is hardly ever meant.
    fn warn_of_argv(&mut self, pair: &Pair, commands: &[Command]) {
        let words: Option<Vec<&Text>> =
            commands.iter().map(|c| if let Command::Shell(text) = c { Some(text) } else { None }).collect();
        let Some(words) = words else { return };
        let words: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
        if looks_like_argv(&words) {
            let list: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
            let text = format!(
                "`{}` runs `{}` and `{}` as commands of their own: did you mean [[{}]]?",
                pair.key.name,
                words[0],
                words[1],
                list.join(", ")
            );
            self.warnings.push(ManifestWarning { text, span: self.span_of(pair.value) });
        }
    }
}

/// Is a list of strings the words of one command? Judged so that lists of real commands are let pass.
fn looks_like_argv(words: &[&str]) -> bool {
    let [program, rest @ ..] = words else { return false };
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_./+-".contains(c));
    if !is_word(program) || program.starts_with('-') || rest.is_empty() {
        return false;
    }
    rest.iter().any(|word| word.starts_with('-')) || !rest.iter().any(|word| looks_like_command(word, program))
}

fn looks_like_command(word: &str, program: &str) -> bool {
    let is_only_a_value = word.starts_with("{{") && word.find("}}") == Some(word.len() - 2);
    if is_only_a_value {
        return false;
    }
    word == program
        || RUN_ALONE.contains(&word)
        || ["./", "../", "/", "{{"].iter().any(|start| word.starts_with(start))
        || word.contains(|c: char| c.is_whitespace() || ";|&<>$()`".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_one_command_are_told_from_a_list_of_commands() {
        for words in [
            &["cargo", "build"][..],
            &["cargo", "build", "--release"],
            &["make", "install"],
            &["gcc", "-o", "a out", "a.c"],
            &["cargo", "clippy", "{{ args }}"],
            &["./build.sh", "all"],
        ] {
            assert!(looks_like_argv(words), "{words:?}");
        }
        for commands in [
            &["make"][..],
            &["make", "make install"],
            &["./configure", "make"],
            &["./configure --prefix=x", "make", "make install"],
            &["./a.sh", "./b.sh"],
            &["make", "make"],
            &["meson setup", "ninja"],
            &["make", "{{ step.source }}/install.sh"],
            &["autoreconf", "configure", "make"],
            &["make", "cp a b"],
            &[],
        ] {
            assert!(!looks_like_argv(commands), "{commands:?}");
        }
    }
}
