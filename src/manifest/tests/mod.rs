//! Manifests in directories of their own, and what is said of them.

mod any_bytes;
mod model;
mod problems;

use std::fs;
use std::path::Path;

use super::error::{Errors, place};
use super::load::load;
use super::model::Manifest;

/// Files in a directory of their own.
pub(in crate::manifest) struct Dir(tempfile::TempDir);

impl Dir {
    pub(in crate::manifest) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    pub(in crate::manifest) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(in crate::manifest) fn load(&self) -> Result<Manifest, Errors> {
        load(&self.path().join("tasks.toml"))
    }
}

/// What every first file begins with.
pub(in crate::manifest) const HEAD: &str = "[bcache]\nversion = 1\n";

pub(in crate::manifest) fn manifest(body: &str) -> Manifest {
    let text = format!("{HEAD}{body}");
    Dir::new(&[("tasks.toml", &text)]).load().unwrap_or_else(|errors| panic!("{}", errors.render(false, 100)))
}

/// Each problem of a manifest in a line: its place and message, related places, help.
pub(in crate::manifest) fn problems_of(errors: &Errors) -> String {
    let mut lines = String::new();
    for problem in &errors.problems {
        let place = |span| place(&errors.files, span);
        let code = problem.code.rsplit("::").next().unwrap();
        lines += &format!("{} {code}: {}\n", place(problem.primary), problem.message);
        if let Some(label) = &problem.label {
            lines += &format!("    label: {label}\n");
        }
        for (span, label) in &problem.related {
            lines += &format!("    {}: {label}\n", place(*span));
        }
        if let Some(help) = &problem.help {
            lines += &format!("    help: {help}\n");
        }
    }
    lines
}
