//! The one door to libgit2: commits read as sources, and which files a repository tracks. Fetching is the git
//! program's work ([`crate::execute::fetch`]): it knows the person's keys, proxies and credential helpers, and
//! libgit2's own HTTPS would cost each start of ours a millisecond for OpenSSL.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use git2::{ErrorCode, Repository, RepositoryInitOptions, RepositoryOpenFlags};

use crate::base::paths::escaped;
use crate::base::tree::is_inner;
use crate::fingerprint::files::{FileError, Files};

use super::index::{self, Index, Unread};
use super::object::Oid;
use super::program;

const TAGS: &str = "refs/tags/*";
/// References that stand for references: git follows five, libgit2 ten.
const MOST_SYMBOLIC: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("`{rev}` of `{url}`: {error}")]
    Commit { url: String, rev: String, error: git2::Error },
    #[error("git repository `{}`: {error}", escaped(path))]
    Repository { path: PathBuf, error: git2::Error },
    #[error("`{}` is not in a working copy of a git repository", escaped(path))]
    None { path: PathBuf },
    #[error("the git repository of `{}` has its working copy elsewhere, or none", escaped(path))]
    Elsewhere { path: PathBuf },
    #[error(
        "the git repository `{0}` belongs to somebody else; if you trust it: git config --global --add safe.directory {0}",
        escaped(path)
    )]
    Owner { path: PathBuf },
    #[error("the git repository `{}` names its objects by {format}, which is not supported", escaped(path))]
    Format { path: PathBuf, format: String },
    #[error("the index of the git repository `{}`: {error}", escaped(path))]
    Index { path: PathBuf, error: Unread },
    #[error("`git {command}` in `{}`: {text}", escaped(path))]
    Program { path: PathBuf, command: &'static str, text: String },
    #[error("cannot read `{}`: {error}", escaped(path))]
    Read { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    File { error: FileError },
    #[error("cannot write `{}`: {error}", escaped(path))]
    Write { path: PathBuf, error: std::io::Error },
    #[error("commit `{rev}` of `{url}` holds `{}`, {why}", escaped(path))]
    Refused { url: String, rev: String, path: PathBuf, why: &'static str },
    #[error("`{}` changes while it is read", escaped(path))]
    Unstable { path: PathBuf },
    #[error("git input `{shown}`: `{pattern}` matches no file that git tracks or would add")]
    NoMatch { shown: String, pattern: String },
    #[error("git input `{shown}` holds no file that git tracks or would add: is it ignored?")]
    Empty { shown: String },
}

/// A working copy and the repository behind it.
pub struct WorkingCopy {
    /// By its real name.
    pub root: PathBuf,
    pub gitdir: PathBuf,
    /// That of the repository: another than `gitdir` where there are several working copies.
    pub common: PathBuf,
    repository: Repository,
}

/// What of the configuration has a say in which files count.
pub struct Settings {
    /// `core.excludesFile`, where it is set.
    pub excludes: Option<PathBuf>,
    /// Files that these were read from, and that could be there, as the configuration names them.
    pub includes: Vec<PathBuf>,
}

/// Files that libgit2 reads a configuration from, besides those in the repository.
pub fn user_config(home: Option<&Path>, xdg: Option<&Path>) -> Vec<PathBuf> {
    let in_home = home.map(|home| home.join(".gitconfig"));
    let in_xdg = xdg.map(|xdg| xdg.join("git/config"));
    [Some(PathBuf::from("/etc/gitconfig")), in_home, in_xdg].into_iter().flatten().collect()
}

impl WorkingCopy {
    /// The working copy that `dir` lies in. `None` where it lies in none.
    pub fn around(dir: &Path) -> Result<Option<Self>, GitError> {
        Self::open(dir, RepositoryOpenFlags::empty())
    }

    /// The one that `dir` itself is.
    pub fn at(dir: &Path) -> Result<Option<Self>, GitError> {
        Self::open(dir, RepositoryOpenFlags::NO_SEARCH)
    }

    fn open(dir: &Path, flags: RepositoryOpenFlags) -> Result<Option<Self>, GitError> {
        know_extensions();
        // What the environment says of another repository is nothing to us.
        let repository = match Repository::open_ext(dir, flags, &[] as &[&OsStr]) {
            Ok(repository) => repository,
            Err(error) => return Self::not_opened(dir, error),
        };
        let real = |path: &Path| path.canonicalize().map_err(|error| GitError::Read { path: path.to_owned(), error });
        let Some(root) = repository.workdir() else { return Ok(None) };
        let (root, gitdir, common) = (real(root)?, real(repository.path())?, real(repository.commondir())?);
        Ok(Some(Self { root, gitdir, common, repository }))
    }

    fn not_opened(dir: &Path, error: git2::Error) -> Result<Option<Self>, GitError> {
        let at = dir.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok()).unwrap_or(dir);
        let path = at.to_owned();
        match error.code() {
            ErrorCode::NotFound => Ok(None),
            ErrorCode::Owner => Err(GitError::Owner { path }),
            _ if error.message().contains("objectformat") || error.message().contains("object format") => {
                Err(GitError::Format { path, format: "SHA-256".to_owned() })
            }
            _ => Err(GitError::Repository { path, error }),
        }
    }

    fn failed(&self, error: git2::Error) -> GitError {
        GitError::Repository { path: self.root.clone(), error }
    }

    pub fn settings(&self) -> Result<Settings, GitError> {
        let config = self.repository.config().and_then(|mut config| config.snapshot()).map_err(|e| self.failed(e))?;
        let path = |name| config.get_path(name).ok().filter(|path| !path.as_os_str().is_empty());
        let mut includes = Vec::new();
        let mut entries = config.entries(Some("include(if)?\\.")).map_err(|e| self.failed(e))?;
        while let Some(Ok(entry)) = entries.next() {
            if let Ok(value) = entry.value() {
                includes.push(PathBuf::from(OsStr::from_bytes(value.as_bytes())));
            }
        }
        Ok(Settings { excludes: path("core.excludesfile"), includes })
    }

    /// The index, also where only git itself can read it.
    pub fn index(&self) -> Result<Index, GitError> {
        read_index(&self.root, &self.gitdir)
    }

    /// The commit that is checked out. `None` before the first one.
    pub fn head(&self) -> Result<Option<Oid>, GitError> {
        match self.repository.head().and_then(|head| head.peel_to_commit_id()) {
            Ok(oid) => Ok(Some(oid)),
            Err(e) if matches!(e.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Files that say which commit is checked out.
    pub fn head_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.common.join("packed-refs")];
        self.follow(b"HEAD", &mut files);
        files
    }

    /// Adds the files of a reference and of those that it stands for, one after another.
    fn follow(&self, reference: &[u8], files: &mut Vec<PathBuf>) {
        let mut name = reference.to_vec();
        for _ in 0..=MOST_SYMBOLIC {
            // Some references are of one working copy alone, as what is none below `refs` always is.
            let dirs = [&self.gitdir, &self.common];
            for dir in &dirs[..if name.starts_with(b"refs/") { 2 } else { 1 }] {
                let file = dir.join(OsStr::from_bytes(&name));
                if !files.contains(&file) {
                    files.push(file);
                }
            }
            let text = std::str::from_utf8(&name).ok();
            let found = text.and_then(|name| self.repository.find_reference(name).ok());
            match found.as_ref().and_then(|found| found.symbolic_target_bytes()) {
                Some(target) => name = target.to_vec(),
                None => return,
            }
        }
    }

    /// The directory of the tags that are files, and the files of those that stand for other references.
    pub fn tag_files(&self) -> Result<(PathBuf, Vec<PathBuf>), GitError> {
        let mut files = Vec::new();
        for tag in self.repository.references_glob(TAGS).map_err(|e| self.failed(e))?.flatten() {
            if tag.kind() == Some(git2::ReferenceType::Symbolic) {
                self.follow(tag.name_bytes(), &mut files);
            }
        }
        Ok((self.common.join("refs/tags"), files))
    }

    /// All tags, as a value: what each is called, and what it names. Nothing where there is none.
    pub fn tags(&self) -> Result<Vec<u8>, GitError> {
        let mut lines = BTreeSet::new();
        for tag in self.repository.references_glob(TAGS).map_err(|e| self.failed(e))?.flatten() {
            // One that leads nowhere is there all the same.
            let target = tag.resolve().ok().and_then(|tag| oid(tag.target()?)).unwrap_or(Oid::NONE);
            lines.insert([target.to_string().as_bytes(), b" ", tag.name_bytes(), b"\n"].concat());
        }
        Ok(lines.into_iter().collect::<Vec<_>>().concat())
    }

    /// The tree of a commit. `None` where the commit is not there.
    pub fn tree_of(&self, commit: Oid) -> Option<Oid> {
        let commit = self.repository.find_commit(git2::Oid::from_bytes(&commit.0).ok()?).ok()?;
        oid(commit.tree_id())
    }
}

trait PeelToCommitId {
    fn peel_to_commit_id(&self) -> Result<Oid, git2::Error>;
}

impl PeelToCommitId for git2::Reference<'_> {
    /// Of a branch the commit is not looked up: it may be missing.
    fn peel_to_commit_id(&self) -> Result<Oid, git2::Error> {
        let found = match self.target() {
            Some(found) => found,
            None => self.resolve()?.target().ok_or_else(|| git2::Error::from_str("a reference to nothing"))?,
        };
        oid(found).ok_or_else(|| git2::Error::from_str("an id of another length"))
    }
}

fn oid(of: git2::Oid) -> Option<Oid> {
    of.as_bytes().try_into().ok().map(Oid)
}

pub fn read_index(root: &Path, gitdir: &Path) -> Result<Index, GitError> {
    match Index::read(&index::place(gitdir)) {
        Ok(index) => Ok(index),
        Err(Unread::ForGit) => program::index(root),
        Err(error) => Err(GitError::Index { path: root.to_owned(), error }),
    }
}

/// Extensions of repositories that change nothing of what is read here.
fn know_extensions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: libgit2 keeps the list in a variable of its own; nothing else here writes it, and no other thread
        // of ours opens a repository before this has ended. Where it fails, such repositories can't be opened.
        #[expect(unsafe_code, reason = "the one way to tell libgit2")]
        let _ = unsafe { git2::opts::set_extensions(&["partialclone", "relativeworktrees"]) };
    });
}

/// Files below `dirs` that the repository around `root` tracks, each with the place of its directory in
/// `dirs`. Nothing where there is no repository.
pub fn tracked_below(files: &Files, root: &Path, dirs: &[&Path]) -> Result<Vec<(usize, PathBuf)>, GitError> {
    let mut found = Vec::new();
    if dirs.is_empty() {
        return Ok(found);
    }
    let copy = WorkingCopy::around(root);
    let copy = copy.as_ref().ok().and_then(Option::as_ref);
    see_index(files, root, copy).map_err(|error| GitError::File { error })?;
    let Some(copy) = copy else { return Ok(found) };
    let index = copy.index()?;
    for (at, dir) in dirs.iter().enumerate() {
        let Ok(inner) = dir.strip_prefix(&copy.root) else { continue };
        let mut prefix = inner.as_os_str().as_bytes().to_vec();
        prefix.push(b'/');
        let entries = &index.entries()[index.below(&prefix)];
        found.extend(entries.iter().map(|entry| (at, copy.root.join(OsStr::from_bytes(index.path(entry))))));
    }
    Ok(found)
}

/// What says which files are tracked is a fact by its stat record alone, since git puts a new index in the place of the old one:
/// another repository that comes nearer is one too.
fn see_index(files: &Files, root: &Path, copy: Option<&WorkingCopy>) -> Result<(), FileError> {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    for dir in real.ancestors() {
        let (door, is_ours) = (dir.join(".git"), copy.is_some_and(|copy| copy.root == dir));
        // The directory itself changes with all that git does.
        if !is_ours || files.is_link(&door)? || !door.is_dir() {
            files.look(&door)?;
        }
        if is_ours {
            break;
        }
    }
    copy.map_or(Ok(()), |copy| files.look(&index::place(&copy.gitdir)).map(|_| ()))
}

/// Those of the files that the repository around `root` tracks. None where there is no repository that can be read.
pub fn tracked_among(root: &Path, files: &[&Path]) -> Vec<PathBuf> {
    let read = || {
        let copy = WorkingCopy::around(root).ok()??;
        let index = copy.index().ok()?;
        Some((copy.root, index))
    };
    let Some((workdir, index)) = (if files.is_empty() { None } else { read() }) else { return Vec::new() };
    let is_tracked =
        |file: &&Path| file.strip_prefix(&workdir).is_ok_and(|inner| index.tracks(inner.as_os_str().as_bytes()));
    files.iter().copied().filter(is_tracked).map(Path::to_owned).collect()
}

/// Is the commit in the bare repository `store`? The repository is made if it is not there.
pub fn has_commit(url: &str, rev: &str, store: &Path) -> Result<bool, GitError> {
    let failed = |error| GitError::Commit { url: url.to_owned(), rev: rev.to_owned(), error };
    let mut options = RepositoryInitOptions::new();
    let repository = Repository::init_opts(store, options.bare(true).external_template(false)).map_err(failed)?;
    Ok(repository.revparse_single(rev).is_ok_and(|object| object.peel_to_commit().is_ok()))
}

/// Writes the files of a commit to `dest`, which is there and empty: raw bytes, without filters, of a submodule an
/// empty directory. By our own hand, since who made the commit may be anybody: libgit2 lets names pass that git itself
/// does not, and has no bounds.
pub fn export(store: &Path, url: &str, rev: &str, dest: &Path) -> Result<(), GitError> {
    let failed = |error| GitError::Commit { url: url.to_owned(), rev: rev.to_owned(), error };
    let repository = Repository::open_bare(store).map_err(failed)?;
    let tree = repository.revparse_single(rev).and_then(|object| object.peel_to_tree()).map_err(failed)?;
    let most = size_below(&store.join("objects"), 2).saturating_mul(100).max(1 << 30);
    let mut export = Export { repository: &repository, files: MOST_FILES, bytes: most };
    export.tree(&tree, dest, Path::new("")).map_err(|stop| match stop {
        Stop::Git(error) => failed(error),
        Stop::Write(path, error) => GitError::Write { path, error },
        Stop::Refused(path, why) => GitError::Refused { url: url.to_owned(), rev: rev.to_owned(), path, why },
    })
}

/// Files and directories of one commit: equal trees are kept once, so a few objects can name any number.
const MOST_FILES: u64 = 1_000_000;
/// libgit2 has a file whole in memory.
const LARGEST_FILE: u64 = 1 << 30;
const DEEPEST: usize = 256;

/// What of a commit is left to be written.
struct Export<'r> {
    repository: &'r Repository,
    files: u64,
    bytes: u64,
}

enum Stop {
    Git(git2::Error),
    Write(PathBuf, std::io::Error),
    Refused(PathBuf, &'static str),
}

impl From<git2::Error> for Stop {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

impl Export<'_> {
    fn tree(&mut self, tree: &git2::Tree, dir: &Path, inner: &Path) -> Result<(), Stop> {
        for entry in tree {
            let name = entry.name_bytes();
            let path = inner.join(OsStr::from_bytes(name));
            let refused = |why| Err(Stop::Refused(path.clone(), why));
            if !is_name(name) {
                return refused("which is no name for a file of a commit");
            }
            if path.components().count() > DEEPEST {
                return refused("which lies too deep");
            }
            self.files = match self.files.checked_sub(1) {
                Some(left) => left,
                None => return refused("and with it too many files"),
            };
            self.entry(&entry, &dir.join(OsStr::from_bytes(name)), &path)?;
        }
        Ok(())
    }

    /// Nothing is there yet: what comes twice is an error, and no link is ever on the way.
    fn entry(&mut self, entry: &git2::TreeEntry, at: &Path, path: &Path) -> Result<(), Stop> {
        const KIND: i32 = 0o170_000;
        let taken = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Stop::Refused(path.to_owned(), "which comes twice"),
            _ => Stop::Write(at.to_owned(), error),
        };
        match entry.filemode() & KIND {
            0o040_000 => {
                std::fs::create_dir(at).map_err(taken)?;
                self.tree(&self.repository.find_tree(entry.id())?, at, path)
            }
            0o160_000 => std::fs::create_dir(at).map_err(taken),
            0o120_000 => {
                let target = self.blob(entry, path)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(target.content()), at).map_err(taken)
            }
            0o100_000 => {
                let blob = self.blob(entry, path)?;
                let mode = if entry.filemode() & 0o100 == 0 { 0o644 } else { 0o755 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(at).map_err(taken)?;
                { file }.write_all(blob.content()).map_err(|error| Stop::Write(at.to_owned(), error))
            }
            _ => Err(Stop::Refused(path.to_owned(), "which is no file, directory or link")),
        }
    }

    fn blob(&mut self, entry: &git2::TreeEntry, path: &Path) -> Result<git2::Blob<'_>, Stop> {
        let (size, _) = self.repository.odb()?.read_header(entry.id())?;
        let size = size as u64;
        match self.bytes.checked_sub(size).filter(|_| size <= LARGEST_FILE) {
            Some(left) => self.bytes = left,
            None => return Err(Stop::Refused(path.to_owned(), "and with it too many bytes")),
        }
        Ok(self.repository.find_blob(entry.id())?)
    }
}

/// Neither a way out, nor what git takes for its own, here or on a file system that sees names otherwise.
fn is_name(name: &[u8]) -> bool {
    // HFS+ does not see these.
    let is_seen = |c: &char| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let text: String = String::from_utf8_lossy(name).chars().filter(is_seen).collect();
    let plain = text.trim_end_matches([' ', '.']).to_ascii_lowercase();
    is_inner(Path::new(OsStr::from_bytes(name))) && !name.contains(&b'/') && plain != ".git" && plain != "git~1"
}

/// Bytes of the files in a directory, and so many levels below it.
fn size_below(dir: &Path, levels: u32) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(meta) if meta.is_dir() && levels > 0 => size_below(&entry.path(), levels - 1),
        _ => 0,
    };
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(size).fold(0, u64::saturating_add)
}
