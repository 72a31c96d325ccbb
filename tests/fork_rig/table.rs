//! Tables of edits. Each row is an edit, the verdict on it, and what the program prints that differs from the unedited
//! one's. Then the edit is undone, which must bring the old program back without building it.

use super::Verdict::{self, Fresh, Ran, Restored};
use super::{BASE, Fork};

pub struct Row {
    name: &'static str,
    edit: Box<dyn Fn(&Fork)>,
    verdict: Verdict,
    why: String,
    /// Lines of [`BASE`], and what stands in their place.
    prints: &'static [(&'static str, &'static str)],
    /// Is it left to the next row?
    stays: bool,
}

pub fn row(name: &'static str, edit: impl Fn(&Fork) + 'static) -> Row {
    Row { name, edit: Box::new(edit), verdict: Fresh, why: String::new(), prints: &[], stays: false }
}

impl Row {
    /// It must run, for this reason.
    pub fn runs(mut self, why: &str) -> Self {
        (self.verdict, self.why) = (Ran, why.to_owned());
        self
    }

    /// It must run, for these files of its packages.
    pub fn runs_for(self, files: &str) -> Self {
        self.runs(&format!("fork (git: packages of harbor-gateway) changed ({files})"))
    }

    /// A further reason.
    pub fn and(mut self, why: &str) -> Self {
        self.why.push_str("; ");
        self.why.push_str(why);
        self
    }

    pub fn restored(mut self) -> Self {
        self.verdict = Restored;
        self
    }

    pub fn prints(mut self, lines: &'static [(&'static str, &'static str)]) -> Self {
        self.prints = lines;
        self
    }

    pub fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    pub fn printed(&self) -> String {
        self.prints.iter().fold(BASE.to_owned(), |text, (old, new)| {
            assert!(text.contains(&format!("{old}\n")), "{}: no line `{old}`", self.name);
            text.replace(&format!("{old}\n"), &format!("{new}\n"))
        })
    }
}

/// Does each row, prints the table, and fails with what was seen and not expected.
pub fn check(fork: &Fork, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    let mut moved = false;
    println!("{:<62} {:<9} {:<9} {:<9} why", "edit", "expected", "seen", "undone");
    for row in &rows {
        (row.edit)(fork);
        let built = fork.build();
        moved = match row.verdict {
            Fresh => moved,
            Restored => !row.prints.is_empty(),
            Ran => true,
        };
        let undone = (!row.stays).then(|| {
            fork.undo();
            let back = fork.build();
            let wanted = if moved { Restored } else { Fresh };
            if back.verdict != wanted || back.prints != BASE {
                wrong.push(format!("{}, undone: {:?}, not {wanted:?} ({})", row.name, back.verdict, back.why));
                wrong.extend(difference(BASE, &back.prints));
            }
            moved = false;
            back.verdict
        });
        let undone = undone.map_or(String::new(), |verdict| format!("{verdict:?}"));
        let (expected, seen) = (format!("{:?}", row.verdict), format!("{:?}", built.verdict));
        println!("{:<62} {expected:<9} {seen:<9} {undone:<9} {}", row.name, built.why);
        if built.verdict != row.verdict || built.why != row.why || built.prints != row.printed() {
            wrong.push(format!("{}: {seen}, not {expected}; `{}`, not `{}`", row.name, built.why, row.why));
            wrong.extend(difference(&row.printed(), &built.prints));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(wanted: &str, got: &str) -> Option<String> {
    let lines = wanted.lines().zip(got.lines()).filter(|(wanted, got)| wanted != got);
    let lines: Vec<String> = lines.map(|(wanted, got)| format!("    prints `{got}`, not `{wanted}`")).collect();
    (wanted != got).then(|| lines.join("\n"))
}
