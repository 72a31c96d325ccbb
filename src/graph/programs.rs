//! Which programs and scripts the commands of a step begin with.

use std::path::{Path, PathBuf};

use crate::base::paths::join_clean;
use crate::base::span::{Span, Spanned};
use crate::manifest::model::{self, Task};

use super::starts::Started;
use super::{Cargo, Class, Command, Elsewhere, ToolUse, Toolchain, shell, starts, toolchain};

/// Programs and script files that the commands begin with, and the declared tools.
pub(super) fn of(
    task: &Task,
    commands: &[Command],
    cwd: &Path,
    root: &Path,
    elsewhere: &Elsewhere,
) -> (Vec<ToolUse>, Vec<PathBuf>) {
    let mut tools: Vec<ToolUse> =
        task.tools.iter().map(|tool| ToolUse { tool: tool.clone(), required: true }).collect();
    let mut scripts = Vec::new();
    let mut found = |started: Started, required: bool, span: Span| {
        let absolute;
        let mut word = started.word;
        if word.contains('/') {
            let Some(path) = join_clean(cwd, Path::new(word)) else { return };
            let path = elsewhere.real(&path);
            absolute = path.to_string_lossy().into_owned();
            let is_ours = path.starts_with(root);
            scripts.push(path);
            // Below the workspace it is an input, or made by a step: known by that.
            if is_ours {
                return;
            }
            word = &absolute;
        } else if started.is_script {
            // Interpreters look into their own directory before they look on PATH.
            scripts.extend(join_clean(cwd, Path::new(word)).map(|path| elsewhere.real(&path)));
        }
        match tools.iter_mut().find(|t| t.tool.name.value == word) {
            Some(known) => known.required |= required,
            None => {
                let tool = model::Tool { name: Spanned::new(word.to_owned(), span), version: None, install: None };
                tools.push(ToolUse { tool, required });
            }
        }
    };
    for command in commands {
        match command {
            Command::Argv(words) => {
                if let Some(text) = starts::inline(words) {
                    in_shell(text, &mut found, task.span);
                }
                let literal: Vec<Option<String>> = words.iter().cloned().map(Some).collect();
                for (i, word) in starts::programs(&literal).into_iter().enumerate() {
                    found(word, i == 0, task.span);
                }
                // An argv command has no shell: what is a builtin there is a program here.
                if let Some(first) = words.first() {
                    found(Started { word: first, is_script: false }, true, task.span);
                }
            }
            Command::Shell(text) => {
                found(Started { word: "sh", is_script: false }, true, task.span);
                in_shell(text, &mut found, task.span);
            }
        }
    }
    scripts.sort();
    scripts.dedup();
    (tools, scripts)
}

/// Programs that a shell string starts: each may be guarded by a test, so none is required.
fn in_shell(text: &str, found: &mut dyn FnMut(Started, bool, Span), span: Span) {
    let script = shell::scan(text);
    let defined = |word: &str| script.functions.iter().any(|f| f == word);
    for word in script.commands.iter().flat_map(|words| starts::programs(words)).filter(|w| !defined(w.word)) {
        found(word, false, span);
    }
}

/// Programs that no command names: what the target compiles with, what cargo starts.
pub(super) fn implied(
    tools: &mut Vec<ToolUse>,
    class: Class,
    span: Span,
    toolchain: Option<&Toolchain>,
    cargo: Option<&Cargo>,
) {
    let zig = toolchain.filter(|_| class == Class::Cached).map(|_| toolchain::tool(span));
    let of_cargo = cargo.into_iter().flat_map(|cargo| cargo.zigbuild().into_iter().chain([cargo.compiler()]));
    for tool in zig.into_iter().chain(of_cargo) {
        match tools.iter_mut().find(|known| known.is_like(&tool)) {
            Some(known) => {
                known.required |= tool.required;
                known.tool.install = known.tool.install.take().or(tool.tool.install);
            }
            None => tools.push(tool),
        }
    }
}
