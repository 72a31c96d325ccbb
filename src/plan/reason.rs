//! Why a step is not fresh: the differences between two actions, each with its sentence.

use std::collections::HashMap;

use crate::action::{ABSENT, Action, Component, Kind};
use crate::fingerprint::discovered;

/// One reason. The variants are a closed set: a new one comes with its cause, its sentence and its
/// code for programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    NeverRan,
    /// The last run failed, was cancelled or killed.
    NotFinished,
    Forced {
        by: String,
    },
    OutputMissing {
        path: String,
    },
    OutputModified {
        path: String,
    },
    /// A file in an output directory that the step did not make.
    OutputStray {
        path: String,
    },
    Changed {
        old: Component,
        new: Component,
    },
    Added(Component),
    Removed(Component),
    /// The same components in another order.
    Reordered {
        kind: Kind,
    },
}

impl Reason {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NeverRan => "never-ran",
            Self::NotFinished => "not-finished",
            Self::Forced { .. } => "forced",
            Self::OutputMissing { .. } => "output-missing",
            Self::OutputModified { .. } => "output-modified",
            Self::OutputStray { .. } => "output-stray",
            Self::Changed { new, .. } => kind_code(
                new.kind,
                [
                    "command-changed",
                    "env-changed",
                    "tool-changed",
                    "setting-changed",
                    "prefix-changed",
                    "source-changed",
                    "patch-changed",
                    "input-changed",
                    "need-changed",
                    "layer-changed",
                    "output-changed",
                    "discovered-changed",
                    "host-changed",
                ],
            ),
            Self::Added(new) => kind_code(
                new.kind,
                [
                    "command-added",
                    "env-added",
                    "tool-added",
                    "setting-added",
                    "prefix-added",
                    "source-added",
                    "patch-added",
                    "input-added",
                    "need-added",
                    "layer-added",
                    "output-added",
                    "discovered-added",
                    "host-added",
                ],
            ),
            Self::Removed(old) => kind_code(
                old.kind,
                [
                    "command-removed",
                    "env-removed",
                    "tool-removed",
                    "setting-removed",
                    "prefix-removed",
                    "source-removed",
                    "patch-removed",
                    "input-removed",
                    "need-removed",
                    "layer-removed",
                    "output-removed",
                    "discovered-removed",
                    "host-removed",
                ],
            ),
            Self::Reordered { .. } => "reordered",
        }
    }

    /// What a person reads, such as `patches/qemu-10.patch changed`. `detail` is what is known beyond
    /// the digest, such as the names of files that differ in a need.
    pub fn sentence(&self, detail: Option<&str>) -> String {
        let with = |text: String| match detail {
            Some(detail) => format!("{text} ({detail})"),
            None => text,
        };
        match self {
            Self::NeverRan => "it never ran here".to_owned(),
            Self::NotFinished => "its last run did not finish".to_owned(),
            Self::Forced { by } => format!("forced by {by}"),
            Self::OutputMissing { path } => format!("output {path} is missing"),
            Self::OutputModified { path } => format!("output {path} was changed"),
            Self::OutputStray { path } => format!("{path} lies in its output directory and is not its own"),
            Self::Changed { new, .. } if new.kind == Kind::Host => match detail {
                Some(detail) => format!("installed packages changed: {detail}"),
                None => "installed packages changed".to_owned(),
            },
            Self::Changed { old, new } => with(changed(old, new)),
            Self::Added(new) => with(format!("{} is new", subject(new))),
            Self::Removed(old) => format!("{} is gone", subject(old)),
            Self::Reordered { kind } => format!("the order of {} changed", plural(*kind)),
        }
    }

    /// The component that it is about, as it is now.
    pub fn component(&self) -> Option<&Component> {
        match self {
            Self::Changed { new, .. } | Self::Added(new) => Some(new),
            Self::Removed(old) => Some(old),
            Self::NeverRan
            | Self::NotFinished
            | Self::Forced { .. }
            | Self::OutputMissing { .. }
            | Self::OutputModified { .. }
            | Self::OutputStray { .. }
            | Self::Reordered { .. } => None,
        }
    }
}

/// The word for each kind, in the order of [`Kind`].
fn kind_code(kind: Kind, words: [&'static str; 13]) -> &'static str {
    words[kind as usize]
}

fn subject(component: &Component) -> String {
    let name = &component.name;
    match component.kind {
        Kind::Command => format!("command {name}"),
        Kind::Env => format!("variable {name}"),
        Kind::Tool => format!("tool {name}"),
        Kind::Discovered => discovered::link_of(name).map_or_else(|| name.clone(), |link| format!("link {link}")),
        Kind::Setting | Kind::Source | Kind::Input | Kind::Patch => name.clone(),
        Kind::Prefix => format!("prefix {name}"),
        Kind::Need => format!("{name}'s output"),
        Kind::Layer => format!("{name}'s layer"),
        Kind::Output => format!("declared output {name}"),
        Kind::Host => "the list of installed packages".to_owned(),
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "commands",
        Kind::Env => "variables",
        Kind::Tool => "tools",
        Kind::Setting => "settings",
        Kind::Prefix => "prefixes",
        Kind::Source => "sources",
        Kind::Patch => "patches",
        Kind::Input => "inputs",
        Kind::Need => "needs",
        Kind::Layer => "layers",
        Kind::Output => "declared outputs",
        Kind::Discovered => "discovered files",
        Kind::Host => "installed packages",
    }
}

fn changed(old: &Component, new: &Component) -> String {
    let subject = subject(new);
    if new.kind == Kind::Discovered {
        return match (old.shown == ABSENT, new.shown == ABSENT) {
            (false, true) => format!("{subject}, which it read, is gone"),
            (true, false) => format!("{subject}, which it looked for, is there now"),
            _ => format!("{subject}, which it read, changed"),
        };
    }
    if old.shown == new.shown || old.shown.is_empty() && new.shown.is_empty() {
        return format!("{subject} changed");
    }
    let short = |text: &str| {
        let line = text.lines().next().unwrap_or("");
        let cut: String = line.chars().take(60).collect();
        if cut.len() < text.len() { format!("{cut}…") } else { cut }
    };
    let (old, new) = (short(&old.shown), short(&new.shown));
    match (old.is_empty(), new.is_empty()) {
        _ if old == new => format!("{subject} changed"),
        (true, _) => format!("{subject} changed to `{new}`"),
        (_, true) => format!("{subject} changed from `{old}`"),
        _ => format!("{subject} changed: `{old}` -> `{new}`"),
    }
}

/// What is different in `new`, in its order; then what is gone.
pub fn differences(old: &Action, new: &Action) -> Vec<Reason> {
    let mut before: HashMap<(Kind, &str), &Component> =
        old.components.iter().map(|c| ((c.kind, c.name.as_str()), c)).collect();
    let mut reasons = Vec::new();
    for component in &new.components {
        match before.remove(&(component.kind, component.name.as_str())) {
            None => reasons.push(Reason::Added(component.clone())),
            Some(known) if known.digest != component.digest => {
                reasons.push(Reason::Changed { old: known.clone(), new: component.clone() });
            }
            Some(_) => {}
        }
    }
    let gone = old.components.iter().filter(|c| before.contains_key(&(c.kind, c.name.as_str())));
    reasons.extend(gone.cloned().map(Reason::Removed));
    // Which files a run reads is for the run to find: after another change it may read others.
    if reasons.iter().any(|reason| reason.component().is_some_and(|c| c.kind != Kind::Discovered)) {
        let is_found = |c: &Component| c.kind == Kind::Discovered;
        reasons.retain(|reason| !matches!(reason, Reason::Added(c) | Reason::Removed(c) if is_found(c)));
    }
    if reasons.is_empty() && old.key() != new.key() {
        let moved = old.components.iter().zip(&new.components).find(|(a, b)| a.name != b.name || a.kind != b.kind);
        let kind = moved.map_or(Kind::Setting, |(_, b)| b.kind);
        reasons.push(Reason::Reordered { kind });
    }
    reasons
}
