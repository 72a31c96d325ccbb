//! Makes the mounts of a view. Runs in our helper, in its namespaces, before any command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_bind_recursive, mount_change, move_mount,
};

use super::{Plan, PlannedMount};
use crate::base::disk;
use crate::base::paths::escaped;
use crate::base::stat::set_mode;

/// So that a top is whole by itself, and nothing depends on how the kernel was configured. (`redirect_dir=off`
/// may mean "follow", and is refused together with `userxattr`.)
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// What could not be mounted where.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the view of `{}`: {what}: {}", escaped(at), disk::said(source, at))]
pub struct MountError {
    at: PathBuf,
    what: String,
    source: io::Error,
}

impl MountError {
    pub fn source(&self) -> &io::Error {
        &self.source
    }
}

/// A mount that was made, and how to recognize it.
pub struct Made {
    at: PathBuf,
    identity: Identity,
    spare: Option<SpareTop>,
}

/// The device and the number of the mount (Linux ≥ 5.8) that a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    mount: Option<u64>,
}

/// A top in memory, for where the real one can't carry an overlay.
struct SpareTop {
    upper: PathBuf,
    real: PathBuf,
}

/// The directories of one mount, opened: no later mount can hide them.
struct Opened<'a> {
    planned: &'a PlannedMount,
    layers: Vec<OwnedFd>,
    top: Option<(OwnedFd, OwnedFd)>,
}

/// Makes all mounts private to this namespace, and those of the view. `user` says that the namespace belongs
/// to an ordinary user.
pub fn mount_view(plan: &Plan, user: bool) -> Result<Vec<Made>, MountError> {
    let run_dir = Path::new(&plan.run_dir);
    let fail = |what: &str, source: io::Error| MountError { at: "/".into(), what: what.to_owned(), source };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| fail("making mounts private", e.into()))?;
    if !plan.roots.is_empty() {
        super::root::make(plan).map_err(|(what, source)| fail(&what, source))?;
    }
    let opened: Vec<Opened<'_>> = (0..)
        .zip(&plan.mounts)
        .map(|(number, planned)| Opened::new(planned, run_dir, number))
        .collect::<Result<_, _>>()?;
    let mut made = Vec::new();
    for (number, opened) in opened.into_iter().enumerate() {
        made.push(opened.mount(plan, user, number)?);
    }
    Ok(made)
}

/// A `/proc` that speaks of the new PID namespace. Some containers refuse it; theirs then still speaks of the
/// right processes, only with numbers that are not those that `getpid` says.
pub fn mount_proc() -> bool {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).is_ok()
}

impl<'a> Opened<'a> {
    fn new(planned: &'a PlannedMount, run_dir: &Path, number: usize) -> Result<Self, MountError> {
        let at = Path::new(&planned.at);
        let fail = |path: &Path, source: io::Error| MountError {
            at: at.to_owned(),
            what: format!("`{}`", path.display()),
            source,
        };
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| fail(path, e.into()))
        };
        if planned.is_bind {
            return Ok(Self { planned, layers: vec![open(at)?], top: None });
        }
        make_dir(at).map_err(|e| fail(at, e))?;
        let mut layers: Vec<OwnedFd> =
            planned.layers.iter().rev().map(|layer| open(Path::new(layer))).collect::<Result<_, _>>()?;
        if !planned.whiteouts.is_empty() {
            let cover = run_dir.join(format!("cover-{number}"));
            whiteouts(&cover, &planned.whiteouts).map_err(|e| fail(&cover, e))?;
            layers.insert(0, open(&cover)?);
        }
        let top = match &planned.top {
            None => None,
            Some((upper, work)) => Some((open(Path::new(upper))?, open(Path::new(work))?)),
        };
        // An overlay needs a layer below its top, and two of them where it has none.
        let least = if top.is_some() { 1 } else { 2 };
        for name in ["empty", "empty too"].iter().take(least - layers.len().min(least)) {
            let empty = run_dir.join(name);
            make_dir(&empty).map_err(|e| fail(&empty, e))?;
            layers.push(open(&empty)?);
        }
        Ok(Self { planned, layers, top })
    }

    fn mount(self, plan: &Plan, user: bool, number: usize) -> Result<Made, MountError> {
        let at = PathBuf::from(&self.planned.at);
        let fail = |what: String, source: io::Error| MountError { at: at.clone(), what, source };
        let mut spare = None;
        if self.planned.is_bind {
            mount_bind_recursive(name_of(&self.layers[0]), &at)
                .map_err(|e| fail("putting it back".to_owned(), e.into()))?;
            let identity = Identity::of(&at).map_err(|e| fail("looking at it".to_owned(), e))?;
            return Ok(Made { at, identity, spare });
        }
        match self.overlay(&at, self.top.as_ref(), plan.classic, user) {
            Ok(()) => {}
            Err((_, Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::REMOTE)) if self.top.is_some() => {
                let (upper, _) = self.planned.top.as_ref().expect("BUG: an opened top was planned");
                let (top, dirs) = spare_top(Path::new(&plan.run_dir), number, Path::new(upper))
                    .map_err(|e| fail("a top in memory".to_owned(), e))?;
                self.overlay(&at, Some(&dirs), plan.classic, user).map_err(|(what, e)| fail(what, e.into()))?;
                spare = Some(top);
            }
            Err((what, e)) => return Err(fail(what, e.into())),
        }
        let identity = Identity::of(&at).map_err(|e| fail("looking at it".to_owned(), e))?;
        Ok(Made { at, identity, spare })
    }

    fn overlay(
        &self,
        at: &Path,
        top: Option<&(OwnedFd, OwnedFd)>,
        classic: bool,
        user: bool,
    ) -> Result<(), (String, Errno)> {
        if !classic {
            match self.overlay_by_parts(at, top, user) {
                Err((what, Errno::INVAL | Errno::NOSYS)) if what == "lowerdir+" => {}
                other => return other,
            }
        }
        let mut options: Vec<String> = Vec::new();
        let layers: Vec<String> = self.layers.iter().map(name_of).collect();
        options.push(format!("lowerdir={}", layers.join(":")));
        if let Some((upper, work)) = top {
            options.push(format!("upperdir={},workdir={}", name_of(upper), name_of(work)));
        }
        options.extend(OPTIONS.iter().map(|(option, value)| format!("{option}={value}")));
        if user {
            options.push("userxattr".to_owned());
        }
        let mount = |options: &[String]| {
            let options = std::ffi::CString::new(options.join(",")).expect("BUG: numbers hold no NUL");
            mount("bcache", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        };
        // The last one is not known before Linux 5.10.
        options.push("volatile".to_owned());
        let mounted = if top.is_some() { mount(&options) } else { Err(Errno::INVAL) };
        let mounted = mounted.or_else(|_| mount(&options[..options.len() - 1]));
        mounted.map_err(|e| ("mount".to_owned(), e))
    }

    /// `fsopen` and its kin: one call per layer, so no limit on all of them together. An error names the call.
    fn overlay_by_parts(&self, at: &Path, top: Option<&(OwnedFd, OwnedFd)>, user: bool) -> Result<(), (String, Errno)> {
        let during = |what: &str| {
            let what = what.to_owned();
            move |e| (what, e)
        };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(during("lowerdir+"))?;
        for layer in &self.layers {
            fsconfig_set_string(&context, "lowerdir+", name_of(layer)).map_err(during("lowerdir+"))?;
        }
        if let Some((upper, work)) = top {
            fsconfig_set_string(&context, "upperdir", name_of(upper)).map_err(during("upperdir"))?;
            fsconfig_set_string(&context, "workdir", name_of(work)).map_err(during("workdir"))?;
            fsconfig_set_flag(&context, "volatile").map_err(during("volatile"))?;
        }
        for (option, value) in OPTIONS {
            fsconfig_set_string(&context, option, value).map_err(during(option))?;
        }
        if user {
            fsconfig_set_flag(&context, "userxattr").map_err(during("userxattr"))?;
        }
        fsconfig_set_string(&context, "source", "bcache").map_err(during("source"))?;
        fsconfig_create(&context).map_err(|e| (said_by_kernel(&context), e))?;
        let attributes = if top.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(during("fsmount"))?;
        move_mount(&mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(during("move_mount"))
    }
}

/// A name that is short whatever the directory is called.
fn name_of(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

/// The kernel's own words about a mount that it refused.
fn said_by_kernel(context: &OwnedFd) -> String {
    let mut text = [0u8; 512];
    match rustix::io::read(context, &mut text) {
        Ok(n) => String::from_utf8_lossy(&text[..n]).trim().trim_start_matches("e ").to_owned(),
        Err(_) => "overlay".to_owned(),
    }
}

pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        let has_number = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
        Ok(Self { device: (found.stx_dev_major, found.stx_dev_minor), mount: has_number.then_some(found.stx_mnt_id) })
    }
}

impl Made {
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Does its path still lead to it? Somebody who removed the directory below it took it away.
    pub fn is_there(&self) -> bool {
        Identity::of(&self.at).is_ok_and(|now| now == self.identity)
    }

    /// Copies a top in memory to the real one. Returns the paths of others' files that the step removed,
    /// relative to the prefix: they can't be kept as whiteouts there.
    pub fn save(&self) -> io::Result<Vec<OsString>> {
        let mut removed = Vec::new();
        if let Some(spare) = &self.spare {
            copy_dir(&spare.upper, &spare.real, Path::new(""), &mut removed)?;
        }
        Ok(removed)
    }
}

fn spare_top(run_dir: &Path, number: usize, real: &Path) -> io::Result<(SpareTop, (OwnedFd, OwnedFd))> {
    let at = run_dir.join(format!("memory-{number}"));
    make_dir(&at)?;
    mount("bcache", &at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    let (upper, work) = (at.join("upper"), at.join("work"));
    let open = |path: &Path| -> io::Result<OwnedFd> {
        make_dir(path)?;
        Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    };
    let dirs = (open(&upper)?, open(&work)?);
    Ok((SpareTop { upper, real: real.to_owned() }, dirs))
}

/// A layer of whiteouts in memory: it must not lie in what it is laid over.
fn whiteouts(at: &Path, hidden: &[OsString]) -> io::Result<()> {
    make_dir(at)?;
    mount("bcache", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    hidden.iter().try_for_each(|path| super::hiding::whiteout(&at.join(path)))
}

fn copy_dir(from: &Path, to: &Path, below: &Path, removed: &mut Vec<OsString>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, target, path) = (entry.path(), to.join(&name), below.join(&name));
        let meta = fs::symlink_metadata(&source)?;
        let kind = meta.file_type();
        let mode = meta.permissions().mode();
        if kind.is_dir() {
            make_dir(&target)?;
            copy_dir(&source, &target, &path, removed)?;
            copy_marks(&source, &target)?;
            set_mode(&target, mode)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            copy_marks(&source, &target)?;
            let times = fs::FileTimes::new().set_modified(meta.modified()?);
            set_mode(&target, mode | 0o200)?;
            fs::File::options().write(true).open(&target)?.set_times(times)?;
            set_mode(&target, mode)?;
        } else if kind.is_char_device() && meta.rdev() == 0 {
            removed.push(path.into());
        } else {
            let what = format!("`{}` is a device, socket or pipe", path.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
    }
    Ok(())
}

/// Attributes that the judge of the layer must see. Those of overlayfs itself would be refused, or read, by
/// the one below; `opaque` says nothing that the paths do not.
fn copy_marks(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0u8; 4096];
    let n = match rustix::fs::llistxattr(from, names.as_mut_slice()) {
        Ok(n) => n,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e.into()),
    };
    for name in names[..n].split(|&b| b == 0).filter(|name| name.starts_with(b"security.capability")) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0u8; 1024];
        let n = rustix::fs::lgetxattr(from, name, value.as_mut_slice())?;
        rustix::fs::lsetxattr(to, name, &value[..n], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}
