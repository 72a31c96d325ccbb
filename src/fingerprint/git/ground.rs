//! What holds in a repository before any of its files is looked at: its index, and the rules that lie outside of the
//! directories that are walked.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::base::stat::{Instant, Kind, Stat};
use crate::fingerprint::env::Outside;

use super::index::{self, Index};
use super::look;
use super::object::Oid;
use super::repository::{self, GitError, WorkingCopy};
use super::rules::{Chain, Rules};
use super::snapshot::{Fact, IndexOf, Of, Repository, Short};

pub struct Ground {
    pub copy: WorkingCopy,
    pub index: Index,
    /// Rules of the user and of the repository.
    pub ignores: Chain,
}

/// Where the user's own files are.
struct Homes {
    home: Option<PathBuf>,
    xdg: Option<PathBuf>,
}

impl Homes {
    fn of(outside: &Outside) -> Self {
        let home = outside.home();
        let xdg = outside.get("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { xdg: xdg.or_else(|| home.as_ref().map(|home| home.join(".config"))), home }
    }

    fn in_xdg(&self, name: &str) -> Option<PathBuf> {
        self.xdg.as_ref().map(|xdg| xdg.join("git").join(name))
    }
}

impl Ground {
    /// `below` is the part of the working copy that counts: with a slash at its end, or empty. What was read is added
    /// to the facts.
    pub fn of(copy: WorkingCopy, below: &[u8], outside: &Outside, facts: &mut Vec<Fact>) -> Result<Self, GitError> {
        let homes = Homes::of(outside);
        let settings = copy.settings()?;
        let mut config = repository::user_config(homes.home.as_deref(), homes.xdg.as_deref());
        config.extend([copy.common.join("config"), copy.gitdir.join("config.worktree")]);
        let dirs: Vec<PathBuf> = config.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
        for include in &settings.includes {
            let in_home = include.strip_prefix("~").ok().and_then(|inner| Some(homes.home.as_ref()?.join(inner)));
            // Which of the files names it is not known; one that is not there is a fact too.
            config
                .extend(in_home.map_or_else(|| dirs.iter().map(|dir| dir.join(include)).collect(), |path| vec![path]));
        }
        for path in config {
            facts.push(read(path.as_os_str().as_bytes(), &path)?.0);
        }
        let excludes = settings.excludes.or_else(|| homes.in_xdg("ignore"));
        let ignores = [excludes, Some(copy.common.join("info/exclude"))];
        let before = glance(&index::place(&copy.gitdir))?;
        let index = copy.index()?;
        facts.push(index_fact(&copy, &index, before, below));
        let mut ground = Self { copy, index, ignores: Chain::default() };
        for path in ignores.into_iter().flatten() {
            let (fact, text) = read(path.as_os_str().as_bytes(), &path)?;
            facts.push(fact);
            ground.ignores = ground.ignores.with(Rules::ignoring(&text, 0));
        }
        Ok(ground)
    }

    /// The commit that is checked out and its tree; the files that say so are added to the facts.
    pub fn head(&self, facts: &mut Vec<Fact>) -> Result<Repository, GitError> {
        let head = self.commit(facts)?;
        let tree = head.and_then(|head| self.copy.tree_of(head));
        Ok(Repository::Root { head: head.unwrap_or(Oid::NONE), tree: tree.unwrap_or(Oid::NONE) })
    }

    /// The commit that is checked out, all tags, and what is staged: what `git describe --dirty` goes by.
    pub fn described(&self, facts: &mut Vec<Fact>) -> Result<Repository, GitError> {
        let head = self.commit(facts)?.unwrap_or(Oid::NONE);
        let (dir, files) = self.copy.tag_files()?;
        let mut open = vec![dir];
        while let Some(path) = open.pop() {
            let (fact, names) = names(&path)?;
            facts.push(fact);
            for (name, kind) in names {
                match kind {
                    Kind::Dir => open.push(path.join(name)),
                    Kind::File | Kind::Symlink => facts.push(of_file(&path.join(name))?),
                    Kind::Other => {}
                }
            }
        }
        for path in &files {
            facts.push(of_file(path)?);
        }
        let shallow = self.copy.common.join("shallow");
        let (fact, ends) = read(shallow.as_os_str().as_bytes(), &shallow)?;
        facts.push(fact);
        let mut text = self.copy.tags()?;
        if !ends.is_empty() {
            // Tags behind these commits are not found.
            text.extend_from_slice(&[&b"shallow\n"[..], &ends].concat());
        }
        text.extend_from_slice(self.staged(facts)?.to_string().as_bytes());
        // Turned elsewhere between two looks at it.
        if self.copy.tag_files()?.1 != files {
            return Err(GitError::Unstable { path: self.copy.common.join("refs") });
        }
        Ok(Repository::Described { head, around: Oid::of("around", &text) })
    }

    /// All that the index holds.
    fn staged(&self, facts: &mut Vec<Fact>) -> Result<Digest, GitError> {
        let path = index::place(&self.copy.gitdir);
        let before = of_file(&path)?;
        let digest = self.copy.index()?.digest();
        if of_file(&path)?.digest != before.digest {
            return Err(GitError::Unstable { path });
        }
        facts.push(before);
        Ok(digest)
    }

    fn commit(&self, facts: &mut Vec<Fact>) -> Result<Option<Oid>, GitError> {
        let files = self.copy.head_files();
        for path in &files {
            facts.push(of_file(path)?);
        }
        let head = self.copy.head()?;
        if self.copy.head_files() != files {
            return Err(GitError::Unstable { path: self.copy.gitdir.join("HEAD") });
        }
        Ok(head)
    }
}

fn of_file(path: &Path) -> Result<Fact, GitError> {
    Ok(read(path.as_os_str().as_bytes(), path)?.0)
}

/// Lists a directory of references: its fact, and the names in it. None where there is no directory.
fn names(path: &Path) -> Result<(Fact, Vec<(OsString, Kind)>), GitError> {
    let (stat, settled) = glance(path)?;
    let is_link = stat.is_some_and(|stat| stat.kind == Kind::Symlink);
    let behind = path.canonicalize().ok().filter(|_| is_link);
    let (stat, settled, digest, names) = match look::list(behind.as_deref().unwrap_or(path))? {
        // Behind a link the names may change without the link.
        Some(found) if is_link => (stat, false, found.digest, found.names),
        Some(found) => (Some(found.stat), found.settled, found.digest, found.names),
        None => (stat, settled, Short::default(), Vec::new()),
    };
    Ok((Fact { path: path.as_os_str().as_bytes().to_vec(), stat, settled, digest, of: Of::Names }, names))
}

/// Of an index that was read after a look at its file.
fn index_fact(copy: &WorkingCopy, index: &Index, before: (Option<Stat>, bool), below: &[u8]) -> Fact {
    let path = index::place(&copy.gitdir);
    let of = IndexOf { root: copy.root.as_os_str().as_bytes().to_vec(), below: below.to_vec() };
    let (stat, settled) = match index.written() {
        Some((stat, seen_at)) => (Some(stat), stat.is_settled(seen_at)),
        // Read by the git program, or not there.
        None => before,
    };
    let digest = short(&index.tracked_digest(below));
    Fact { path: path.as_os_str().as_bytes().to_vec(), stat, settled, digest, of: Of::Index(of) }
}

fn glance(path: &Path) -> Result<(Option<Stat>, bool), GitError> {
    let now = Instant::now();
    let stat = Stat::read(path).map_err(|error| GitError::Read { path: path.to_owned(), error })?;
    Ok((stat, stat.is_none_or(|stat| stat.is_settled(now))))
}

/// Reads a file of rules or settings: its fact under this name, and its text. What is none has no text.
pub fn read(name: &[u8], path: &Path) -> Result<(Fact, Vec<u8>), GitError> {
    let failed = |error| GitError::Read { path: path.to_owned(), error };
    for _ in 0..3 {
        let (stat, settled) = glance(path)?;
        let text = match stat.map(|stat| stat.kind) {
            None | Some(Kind::Dir | Kind::Other) => Vec::new(),
            Some(Kind::File | Kind::Symlink) => match contents(path) {
                Ok(text) => text,
                // Nobody's rules: git warns and goes on.
                Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => Vec::new(),
                Err(e) => return Err(failed(e)),
            },
        };
        if glance(path)?.0 == stat {
            // Behind a link the file may change without the link.
            let settled = settled && stat.is_none_or(|stat| stat.kind != Kind::Symlink);
            let digest = short(&Digest::of(&text));
            return Ok((Fact { path: name.to_vec(), stat, settled, digest, of: Of::Bytes }, text));
        }
    }
    Err(GitError::Unstable { path: path.to_owned() })
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

pub fn short(digest: &Digest) -> Short {
    digest.as_bytes()[..16].try_into().expect("BUG: sixteen bytes")
}

/// Does a fact hold? Gives it as it can be believed from now on. `None` where it does not.
pub fn holds(fact: &Fact, path: &Path) -> Result<Option<Fact>, GitError> {
    let (stat, settled) = glance(path)?;
    if stat == fact.stat && settled && fact.settled {
        return Ok(Some(Fact { settled, ..fact.clone() }));
    }
    let now = match &fact.of {
        Of::Bytes => read(&fact.path, path)?.0,
        Of::Names => names(path)?.0,
        Of::Index(of) => {
            let root = Path::new(std::ffi::OsStr::from_bytes(&of.root));
            let gitdir = path.parent().unwrap_or(root);
            // What is wrong with it is said by who reads it anew.
            let Ok(index) = repository::read_index(root, gitdir) else { return Ok(None) };
            let digest = short(&index.tracked_digest(&of.below));
            let (stat, settled) = match index.written() {
                Some((stat, seen_at)) => (Some(stat), stat.is_settled(seen_at)),
                None => (stat, settled),
            };
            Fact { stat, settled, digest, ..fact.clone() }
        }
    };
    Ok((now.digest == fact.digest && now.stat.is_some() == fact.stat.is_some()).then_some(now))
}
