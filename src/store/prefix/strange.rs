//! What lies in a prefix and is not as the shares say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::base::ids::StepId;
use crate::base::stat::{Instant, Kind, Stat, is_untouched};
use crate::base::tree::{Node, PLAIN_DIR};

use super::super::error::{StoreError, failed};
use super::super::files::entries_of;
use super::super::layers::see;
use super::shares::{Row, Share};
use super::{Prefix, has_mode};

/// One path, relative to the prefix, that is not as it was put there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stranger {
    pub path: PathBuf,
    pub how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// In no share. Of a directory nothing that is in it is named.
    Added,
    /// Other bytes, another mode, another kind.
    Changed,
    /// A directory with another mode; what is in it is named apart.
    DirMode,
    Missing,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// Everything that is not as it was put there, in path order. A file with the same bytes and mode is, whoever
    /// wrote them.
    pub strangers: Vec<Stranger>,
    /// Files and links that are, with how many names each has.
    alike: BTreeMap<PathBuf, (Stat, u64)>,
}

impl Looked {
    /// The first file that is as it was put there now and was it before, and that somebody wrote to in between.
    pub fn written_since(&self, before: &Self) -> Option<&Path> {
        let is_as_before =
            |path: &Path, now: (Stat, u64)| before.alike.get(path).is_none_or(|then| is_untouched(*then, now));
        self.alike.iter().find(|(path, now)| !is_as_before(path, **now)).map(|(path, _)| path.as_path())
    }
}

impl Prefix<'_> {
    /// Looks at all that lies there.
    pub fn look(&self) -> Result<Looked, StoreError> {
        let shares = self.shares.lock()?;
        let mut survey = Survey::new(shares.all());
        let there = Stat::read(self.dir()).map_err(failed("look at", self.dir()))?;
        if there.is_some_and(|stat| stat.kind == Kind::Dir) {
            survey.dir(self.dir(), Path::new(""))?;
        }
        let Survey { rows, met, mut found, alike, .. } = survey;
        let missing = rows.into_keys().filter(|path| !met.contains(*path));
        found.extend(missing.map(|path| Stranger { path: path.to_owned(), how: How::Missing }));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Looked { strangers: found, alike })
    }
}

struct Survey<'r> {
    rows: HashMap<&'r Path, &'r Row>,
    /// Directories that something of a share lies in.
    dirs: HashSet<&'r Path>,
    met: HashSet<PathBuf>,
    found: Vec<Stranger>,
    alike: BTreeMap<PathBuf, (Stat, u64)>,
    seen_at: Instant,
}

impl<'r> Survey<'r> {
    fn new(shares: &'r BTreeMap<StepId, Share>) -> Self {
        let rows: HashMap<&Path, &Row> = shares.values().flatten().map(|row| (row.path.as_path(), row)).collect();
        let dirs = rows.keys().flat_map(|path| path.ancestors().skip(1)).collect();
        Self { rows, dirs, met: HashSet::new(), found: Vec::new(), alike: BTreeMap::new(), seen_at: Instant::now() }
    }

    fn dir(&mut self, dir: &Path, below: &Path) -> Result<(), StoreError> {
        for entry in entries_of(dir).map_err(failed("list", dir))? {
            let (full, path) = (entry.path(), below.join(entry.file_name()));
            let there = Stat::read_with_names(&full).map_err(failed("look at", &full))?;
            let Some((stat, names)) = there else { continue };
            let how = self.how(&full, &path, &stat)?;
            if stat.kind == Kind::Dir && matches!(how, None | Some(How::DirMode)) {
                self.dir(&full, &path)?;
            }
            self.found.extend(how.map(|how| Stranger { path: path.clone(), how }));
            if self.rows.contains_key(path.as_path()) {
                if how.is_none() && stat.kind != Kind::Dir {
                    self.alike.insert(path.clone(), (stat, names));
                }
                self.met.insert(path);
            }
        }
        Ok(())
    }

    fn how(&self, full: &Path, path: &Path, stat: &Stat) -> Result<Option<How>, StoreError> {
        let is_dir = stat.kind == Kind::Dir;
        Ok(match self.rows.get(path) {
            Some(Row { node: Node::Dir { mode }, .. }) if is_dir => (stat.mode != *mode).then_some(How::DirMode),
            Some(row) => match see(full, &row.node, row.seen.as_ref(), self.seen_at)? {
                Some(seen) if has_mode(&row.node, &seen.stat) => None,
                _ => Some(How::Changed),
            },
            None if is_dir && self.dirs.contains(path) => (stat.mode != PLAIN_DIR).then_some(How::DirMode),
            None => Some(How::Added),
        })
    }
}
