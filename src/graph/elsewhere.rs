//! A step whose result is to be the same for every checkout sees what belongs to it at paths that are the same
//! for every checkout: its prefix at a [placeholder](super::placeholder), its work directory and source mounted at fixed
//! places.

use std::path::{Path, PathBuf};

/// What a step sees at another path than where it is. Empty for most steps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Elsewhere {
    /// Its prefix: where it is, where the step sees it.
    pub prefix: Option<(PathBuf, PathBuf)>,
    /// Directories: where they are, where the step sees them.
    pub mounts: Vec<(PathBuf, PathBuf)>,
}

impl Elsewhere {
    pub fn is_empty(&self) -> bool {
        self.prefix.is_none() && self.mounts.is_empty()
    }

    /// Where the step sees this path.
    pub fn seen(&self, path: &Path) -> PathBuf {
        // The innermost: a source may lie in another step's directory.
        let pairs = self.pairs().filter_map(|(here, there)| Some((here, there.join(path.strip_prefix(here).ok()?))));
        let found = pairs.max_by_key(|(here, _)| here.components().count());
        found.map_or_else(|| path.to_owned(), |(_, seen)| tidy(seen))
    }

    /// Where that is which the step sees at this path.
    pub fn real(&self, path: &Path) -> PathBuf {
        let pairs = self.pairs().filter_map(|(here, there)| Some((there, here.join(path.strip_prefix(there).ok()?))));
        let found = pairs.max_by_key(|(there, _)| there.components().count());
        found.map_or_else(|| path.to_owned(), |(_, real)| tidy(real))
    }

    fn pairs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.prefix.iter().chain(&self.mounts).map(|(here, there)| (here.as_path(), there.as_path()))
    }
}

/// Joining nothing to a path leaves a slash at its end.
fn tidy(path: PathBuf) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_through_the_innermost_mount_and_found_again() {
        let pair = |here: &str, there: &str| (here.into(), there.into());
        let elsewhere = Elsewhere {
            prefix: Some(pair("/ws/prefix", "/placeholder")),
            mounts: vec![pair("/ws/.bcache/work/a", "/w/a"), pair("/ws/copy", "/w/a/src")],
        };
        for (here, there) in [
            ("/ws/prefix", "/placeholder"),
            ("/ws/prefix/bin", "/placeholder/bin"),
            ("/ws/.bcache/work/a/build", "/w/a/build"),
            ("/ws/copy/x y", "/w/a/src/x y"),
            ("/ws/prefix2", "/ws/prefix2"),
        ] {
            assert_eq!(elsewhere.seen(Path::new(here)), Path::new(there));
            assert_eq!(elsewhere.real(Path::new(there)), Path::new(here));
        }
    }
}
