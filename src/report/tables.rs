//! Answers as text: columns side by side, each as wide as its widest cell. Plain data in, text out; no
//! colour and no wrapping, since programs read answers too.

use std::borrow::Cow;
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use crate::base::text;

use super::words::{labelled, one_line, roughly, some_of};

/// Where the text of a column stands in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    Left,
    Right,
}

/// Rows under each other, two spaces between columns, none at the end of a line. Rows may be short.
pub fn table(columns: &[Align], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(columns).zip(&widths) {
            let space = " ".repeat(width - cell.width());
            match align {
                Align::Left => line.extend([cell, space.as_str(), "  "]),
                Align::Right => line.extend([space.as_str(), cell, "  "]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `label  value` lines, as for `cache stats`.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let rows: Vec<_> = pairs.iter().map(|(label, value)| vec![format!("{label}:"), value.clone()]).collect();
    table(&[Align::Left, Align::Left], &rows)
}

/// A task as `list` shows it.
#[derive(Clone, Debug)]
pub struct TaskRow {
    pub name: String,
    /// Empty: the host.
    pub targets: Vec<String>,
    pub desc: Option<String>,
    /// Built when no task is named.
    pub default: bool,
}

pub fn tasks(rows: &[TaskRow]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let desc = row.desc.as_deref().unwrap_or_default();
            let first = desc.lines().next().unwrap_or_default();
            let default = if row.default { "(default)" } else { "" };
            let told = [first, default].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
            vec![row.name.clone(), row.targets.join(" "), told]
        })
        .collect();
    table(&[Align::Left; 3], &rows)
}

/// What a dry run found out about a step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Fresh,
    Cached,
    Stale,
    /// Depends on what a step that will run makes.
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Cached => "cached",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
        }
    }
}

/// A step as `plan` shows it.
#[derive(Clone, Debug)]
pub struct PlanRow {
    pub step: String,
    pub verdict: Verdict,
    /// Sentences; for `Unknown` what it waits on.
    pub reasons: Vec<String>,
    /// What a run took last time.
    pub cost: Option<Duration>,
}

/// Reasons that are named per step before the rest is counted.
const REASONS: usize = 3;

/// All steps that are not fresh (with `all` those too), and what they cost by history.
pub fn plan(rows: &[PlanRow], all: bool) -> String {
    let shown: Vec<_> = rows
        .iter()
        .filter(|row| all || row.verdict != Verdict::Fresh)
        .map(|row| {
            let cost = match (row.verdict, row.cost) {
                (Verdict::Fresh | Verdict::Cached, _) => String::new(),
                (_, None) => "?".to_owned(),
                (_, Some(cost)) => roughly(cost),
            };
            vec![row.verdict.word().to_owned(), row.step.clone(), cost, some_of(&row.reasons, REASONS)]
        })
        .collect();
    let mut text = table(&[Align::Left, Align::Left, Align::Right, Align::Left], &shown);
    text.push_str(&plan_summary(rows));
    text
}

fn plan_summary(rows: &[PlanRow]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let kinds = [Verdict::Fresh, Verdict::Cached, Verdict::Stale, Verdict::Unknown];
    let counts: Vec<_> = kinds.iter().map(|&kind| format!("{} {}", count(kind), kind.word())).collect();
    let cost = |verdict| -> Duration { rows.iter().filter(|r| r.verdict == verdict).filter_map(|r| r.cost).sum() };
    let unpriced = rows.iter().filter(|r| r.verdict >= Verdict::Stale && r.cost.is_none()).count();
    let (sure, perhaps) = (cost(Verdict::Stale), cost(Verdict::Unknown));
    let mut line = counts.join(", ");
    match (sure.is_zero(), perhaps.is_zero()) {
        (true, true) => {}
        (false, true) => line.push_str(&format!("; {} of work", roughly(sure))),
        (true, false) => line.push_str(&format!("; up to {} of work", roughly(perhaps))),
        (false, false) => {
            line.push_str(&format!("; {} of work, at worst {}", roughly(sure), roughly(sure + perhaps)));
        }
    }
    if unpriced > 0 {
        line.push_str(&format!("; {} never timed", text::count(unpriced, "step")));
    }
    line.push('\n');
    line
}

/// One cause as `why` shows it: which component, what about it, and the files if there are any.
#[derive(Clone, Debug)]
pub struct WhyRow {
    pub component: String,
    pub text: String,
    pub files: Vec<String>,
}

/// A headline such as `qemu@host would run now`, then every cause in full.
pub fn why(headline: &str, rows: &[WhyRow]) -> String {
    let mut text = format!("{}{}\n", one_line(headline), if rows.is_empty() { "" } else { ":" });
    for row in rows {
        text.push_str(&labelled(2, &row.component, &row.text));
        for file in &row.files {
            text.push_str(&format!("    {}\n", one_line(file)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: &str, verdict: Verdict, reasons: &[&str], cost: Option<u64>) -> PlanRow {
        PlanRow {
            step: step.into(),
            verdict,
            reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
            cost: cost.map(Duration::from_secs),
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_on_the_screen() {
        let rows = [vec!["漢字".into(), "1".into()], vec!["a".into(), "100".into(), "x".into()], vec!["b\nc".into()]];
        let text = table(&[Align::Left, Align::Right, Align::Left], &rows);
        assert_eq!(text, "漢字    1\na     100  x\nb\\nc\n");
    }

    #[test]
    fn tasks_are_listed_with_targets_and_the_first_line_of_their_description() {
        let task = |name: &str, targets: &[&str], desc: Option<&str>, default| TaskRow {
            name: name.into(),
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
            desc: desc.map(str::to_owned),
            default,
        };
        let rows = [
            task("utm", &[], Some("everything\nand more"), true),
            task("sandbox", &["host", "linux-arm64"], None, false),
            task("lint", &[], Some("clippy, as CI runs it"), false),
        ];
        assert_eq!(
            tasks(&rows),
            "utm                        everything (default)\nsandbox  host linux-arm64\nlint                       clippy, as CI runs it\n"
        );
    }

    #[test]
    fn a_plan_shows_what_is_not_fresh_and_prices_the_worst_case() {
        let rows = [
            row("glib@host", Verdict::Fresh, &[], Some(100)),
            row("libpng@host", Verdict::Cached, &[], Some(3)),
            row("qemu@host", Verdict::Stale, &["a changed", "b changed", "c changed", "d changed"], Some(846)),
            row("utm@host", Verdict::Unknown, &["waits on qemu@host"], Some(120)),
            row("new@host", Verdict::Stale, &["never ran here"], None),
        ];
        let text = plan(&rows, false);
        assert_eq!(
            text,
            "cached   libpng@host\n\
             stale    qemu@host    14 min  a changed, b changed, c changed and 1 more\n\
             unknown  utm@host      2 min  waits on qemu@host\n\
             stale    new@host          ?  never ran here\n\
             1 fresh, 1 cached, 2 stale, 1 unknown; 14 min of work, at worst 16 min; 1 step never timed\n"
        );
        assert!(plan(&rows, true).starts_with("fresh    glib@host\n"));
        assert_eq!(plan(&rows[..1], false), "1 fresh, 0 cached, 0 stale, 0 unknown\n");
    }

    #[test]
    fn why_names_each_component_and_its_files() {
        let rows = [
            WhyRow { component: "input".into(), text: "patches/a.patch changed".into(), files: vec![] },
            WhyRow {
                component: "need".into(),
                text: "glib@host's output changed".into(),
                files: vec!["lib/libglib-2.0.so.0 modified".into()],
            },
        ];
        assert_eq!(
            why("qemu@host would run now", &rows),
            "qemu@host would run now:\n  input: patches/a.patch changed\n  need: glib@host's output changed\n    lib/libglib-2.0.so.0 modified\n"
        );
        assert_eq!(why("qemu@host is fresh", &[]), "qemu@host is fresh\n");
    }

    #[test]
    fn pairs_are_aligned() {
        let text = pairs(&[("size", "1.4 GB".into()), ("results", "812".into())]);
        assert_eq!(text, "size:     1.4 GB\nresults:  812\n");
    }
}
