//! What somebody else has built in a target directory: a person by hand, or a task that always runs and has all variables of
//! whoever starts it. Cargo takes it for its own, though a build script was told other things there.
//!
//! Cargo keeps a directory for each thing that it has built, by the name of the package. After each run of ours their stamps
//! are remembered; before the next one, packages whose stamps are others were built by somebody else, or by a run of ours that was
//! killed. The memory lies beside these directories, one for each, since several steps build there.
//!
//! **Known limit.** A cargo that keeps them elsewhere is not looked through.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Hasher};
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::Stat;
use crate::graph::Cargo;

pub(in crate::execute) const FORMAT: Format = Format { magic: b"bcunits\n", version: 1 };
const MEMORY: &str = ".bcache-units";
const UNITS: &str = ".fingerprint";

/// Where a step's cargo keeps what it has built: for the host, and for the target.
#[derive(Debug)]
pub struct Units {
    layouts: Vec<PathBuf>,
}

/// Packages, and how all that was built of each looks.
type Built = BTreeMap<String, Digest>;

impl Units {
    pub fn of(cargo: &Cargo, profile: &str, platforms: &[String]) -> Self {
        let triples = cargo.rust_triple().into_iter().chain(platforms.iter().map(String::as_str));
        // One that is described by a file goes by its name.
        let name = |triple: &str| triple.rsplit('/').next().unwrap_or_default().trim_end_matches(".json").to_owned();
        let dirs = triples.map(|triple| cargo.target_dir.join(name(triple)));
        let dirs = [cargo.target_dir.clone()].into_iter().chain(dirs);
        Self { layouts: dirs.map(|dir| dir.join(profile)).collect() }
    }

    /// Packages of which something was built by somebody else.
    pub fn foreign(&self) -> io::Result<BTreeSet<String>> {
        let mut foreign = BTreeSet::new();
        for layout in &self.layouts {
            let memory = fs::read(layout.join(MEMORY)).ok().and_then(|bytes| FORMAT.open(&bytes).ok());
            let known: Built = memory.unwrap_or_default();
            let now = built(layout)?;
            foreign.extend(now.into_iter().filter(|(name, seen)| known.get(name) != Some(seen)).map(|(name, _)| name));
        }
        Ok(foreign)
    }

    /// All that is there now was built by us.
    pub fn keep(&self) -> io::Result<()> {
        for layout in self.layouts.iter().filter(|layout| layout.is_dir()) {
            publish(&layout.join(MEMORY), &FORMAT.seal(&built(layout)?))?;
        }
        Ok(())
    }
}

fn built(layout: &Path) -> io::Result<Built> {
    let mut hashers: BTreeMap<String, Hasher> = BTreeMap::new();
    for dir in sorted(&layout.join(UNITS))? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let Some((package, _)) = name.rsplit_once('-') else { continue };
        let hasher = hashers.entry(package.to_owned()).or_insert_with(|| Hasher::new("bcache cargo units 1"));
        hasher.text(&name);
        for file in sorted(&dir)? {
            let Some(stat) = Stat::read(&file)? else { continue };
            hasher.bytes(file.as_os_str().as_encoded_bytes());
            hasher.number(stat.mtime as u64).number(stat.ctime as u64).number(stat.ino).number(stat.size);
        }
    }
    Ok(hashers.into_iter().map(|(name, hasher)| (name, hasher.finish())).collect())
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}
