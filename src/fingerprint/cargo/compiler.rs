//! Which compiler builds, and what it is: the version that it reports, and the bytes of its libraries, its own and the
//! standard ones of the targets, and those of the program itself, which may only start a compiler. So a compiler that was built
//! by hand twice under one version is two compilers.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::action::{Component, Kind as Part};
use crate::base::digest::{Digest, Hasher};
use crate::base::stat::Kind;
use crate::base::text::shell_quote;

use super::super::files::{FileError, Files, Observation};
use super::super::proxies::Chosen;
use super::super::tools::{Asking, ToolError, Tools};

/// Variables that choose the compiler behind a proxy.
const CHOOSERS: [&str; 4] = ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "CARGO_HOME", "LD_LIBRARY_PATH"];

#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the compiler `{program}` is missing")]
    Missing { program: String },
    #[error("the compiler `{program}` does not say what it is: `{program} -vV` failed")]
    Silent { program: String },
    #[error("the standard library of {triple} is missing: there is no `{}`", place.display())]
    NoStd { triple: String, place: PathBuf },
}

impl CompilerError {
    /// How to get what is missing.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoStd { triple, .. } => {
                Some(format!("rustup target add {triple} (or the package of your system that has it)"))
            }
            Self::Missing { .. } | Self::Silent { .. } | Self::Tool(_) | Self::File(_) => None,
        }
    }
}

/// A compiler to be asked.
pub struct Asked<'a> {
    /// A name for PATH, or a path.
    pub program: &'a str,
    pub directory: &'a Path,
    pub search: &'a [PathBuf],
    pub environment: &'a [(OsString, OsString)],
    pub host_triple: &'a str,
    /// For which the program is built, where that is said.
    pub triples: Vec<&'a str>,
    /// Is the standard library part of what is built?
    pub builds_std: bool,
}

/// What is seen of it.
pub struct Compiler {
    pub component: Component,
    pub seen: Vec<(PathBuf, Observation)>,
}

impl Asked<'_> {
    pub fn identify(&self, files: &Files, tools: &Tools) -> Result<Compiler, CompilerError> {
        let program = || self.program.to_owned();
        let place = tools.find(self.program, self.search, self.directory)?;
        let place = place.ok_or_else(|| CompilerError::Missing { program: program() })?;
        let chosen = Chosen::in_environment(self.environment);
        let asking =
            Asking { search: self.search, own: Vec::new(), root: self.directory, directory: self.directory, chosen };
        let said = tools.version(&place, &self.question(), &asking)?;
        let said = said.ok_or_else(|| CompilerError::Silent { program: program() })?;
        let (version, sysroot) = said.rsplit_once('\n').ok_or_else(|| CompilerError::Silent { program: program() })?;
        let sysroot = Path::new(sysroot);
        let mut hasher = Hasher::new("bcache compiler 1");
        hasher.text(version);
        let program = files.observe(&place.real)?;
        // What starts a compiler says of itself what that says, and may do more. But rustup's is the same for all of them.
        if let Some(content) = program.digest.filter(|_| place.real.file_name() != Some(OsStr::new("rustup"))) {
            hasher.digest(&content);
        }
        let mut seen = vec![(place.real.clone(), program)];
        self.libraries(files, sysroot, &mut hasher, &mut seen)?;
        let shown = version.lines().next().unwrap_or_default().to_owned();
        let component =
            Component { kind: Part::Tool, name: "rust compiler".to_owned(), digest: hasher.finish(), shown };
        Ok(Compiler { component, seen })
    }

    /// One shell line, so that what it rests on is remembered with it.
    fn question(&self) -> String {
        let chosen = |name: &&str| {
            let (_, value) = self.environment.iter().find(|(known, _)| known == OsStr::new(name))?;
            Some(format!("{name}={} ", shell_quote(&value.to_string_lossy())))
        };
        let set: String = CHOOSERS.iter().filter_map(chosen).collect();
        let program = shell_quote(self.program);
        format!("{set}{program} -vV && {set}{program} --print sysroot")
    }

    /// The compiler's own libraries, and the standard ones of each platform that something is built for.
    fn libraries(
        &self,
        files: &Files,
        sysroot: &Path,
        hasher: &mut Hasher,
        seen: &mut Vec<(PathBuf, Observation)>,
    ) -> Result<(), CompilerError> {
        let is_own = |name: &str| ["librustc_driver", "libstd-", "libLLVM"].iter().any(|own| name.starts_with(own));
        digests(files, &sysroot.join("lib"), is_own, hasher, seen)?;
        let others = self.triples.iter().filter(|triple| **triple != self.host_triple && !triple.ends_with(".json"));
        for triple in [&self.host_triple].into_iter().chain(others) {
            let place = sysroot.join("lib/rustlib").join(triple).join("lib");
            let found = digests(files, &place, |_| true, hasher, seen)?;
            if found == 0 && self.triples.contains(triple) && !self.builds_std {
                return Err(CompilerError::NoStd { triple: (*triple).to_owned(), place });
            }
        }
        Ok(())
    }
}

/// Feeds the files of a directory by name and content; says how many there were.
fn digests(
    files: &Files,
    dir: &Path,
    is_wanted: impl Fn(&str) -> bool,
    hasher: &mut Hasher,
    seen: &mut Vec<(PathBuf, Observation)>,
) -> Result<usize, CompilerError> {
    let mut count = 0;
    for (name, _) in files.list(dir)?.iter() {
        if !name.to_str().is_some_and(&is_wanted) {
            continue;
        }
        let real = files.resolve(&dir.join(name))?;
        if files.look(&real)?.is_some_and(|stat| stat.kind == Kind::File) {
            let observation = files.observe(&real)?;
            hasher.bytes(name.as_encoded_bytes()).digest(&observation.digest.unwrap_or_else(|| Digest::of(b"")));
            seen.push((real, observation));
            count += 1;
        }
    }
    hasher.number(count as u64);
    Ok(count)
}
