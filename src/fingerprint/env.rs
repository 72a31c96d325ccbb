//! The environment of a step: an allowlist, since an inherited variable is either in the key and
//! never hits, or not in the key and lies.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::action::{Component, Kind};
use crate::base::digest::{Digest, Hasher};
use crate::graph::{Class, Step};

use super::zig::Zig;

/// 1980-01-01: the earliest that zip archives can hold.
const SOURCE_DATE_EPOCH: &str = "315532800";

pub const SYSTEM_PATH: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Passed to every step and never in the key: how the network is reached.
const PLUMBING: &[&str] = &[
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // Of pip's those that say whence, how long and how loud. What `PIP_CONSTRAINT` or `PIP_NO_BINARY` says is another result.
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_TRUSTED_HOST",
    "PIP_PROXY",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_KEYRING_PROVIDER",
    "PIP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
    "PIP_CACHE_DIR",
    "PIP_NO_CACHE_DIR",
    "PIP_NO_INPUT",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_BREAK_SYSTEM_PACKAGES",
    "PIP_ROOT_USER_ACTION",
    "PIP_PROGRESS_BAR",
    "PIP_NO_COLOR",
    "PIP_QUIET",
    "PIP_VERBOSE",
];
const PLUMBING_PREFIXES: &[&str] = &["CARGO_HTTP_"];
/// Before `_proxy`, in either case.
const PROXIES: &[&str] = &["http", "https", "ftp", "all", "no", "rsync", "socks", "npm_config", "npm_config_https"];

/// What cargo and its tools are told by, passed to what cargo builds and part of its key.
const CARGO: &[&str] = &[
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
];
/// The same by the beginnings of their names, and ends: none means all of them.
const CARGO_FAMILIES: &[(&str, &[&str])] = &[("CARGO_PROFILE_", &[]), ("CARGO_TARGET_", &["_LINKER", "_RUSTFLAGS"])];
/// How cargo reaches registries: passed, and never in the key, since what comes from there has its checksum in `Cargo.lock`.
const CARGO_PLUMBING: &[&str] = &["CARGO_NET_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_"];

/// Set outside by habit, and of no effect on a cached step unless it is declared.
const HABITS: &[&str] = &["CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"];

/// The environment that we were started with. Which variables were asked for is remembered, since an
/// answer that rests on them holds only as long as they do.
pub struct Outside {
    vars: BTreeMap<OsString, OsString>,
    asked: Mutex<BTreeSet<OsString>>,
}

impl Outside {
    pub fn new(vars: impl Iterator<Item = (OsString, OsString)>) -> Self {
        Self { vars: vars.collect(), asked: Mutex::default() }
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Names that begin so; that there are no others is remembered too, under the name `PREFIX*`.
    pub fn family<'s>(&'s self, prefix: &'s str) -> Vec<&'s str> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{prefix}*").into());
        self.members(prefix.as_bytes()).filter_map(|(name, _)| name.to_str()).collect()
    }

    fn members<'s>(&'s self, prefix: &'s [u8]) -> impl Iterator<Item = (&'s OsString, &'s OsString)> {
        self.vars.iter().filter(move |(name, _)| name.as_bytes().starts_with(prefix))
    }

    /// A value that no verdict rests on, so that nothing of it is remembered: a digest tells a short secret to whoever
    /// tries.
    fn unasked(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    pub fn all(&self) -> &BTreeMap<OsString, OsString> {
        &self.vars
    }

    /// Names that were asked for, with digests of their values.
    pub fn account(&self) -> Vec<(OsString, Option<Digest>)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|name| (name.clone(), self.digest(name))).collect()
    }

    pub fn digest(&self, name: &OsStr) -> Option<Digest> {
        if let Some(prefix) = name.as_bytes().strip_suffix(b"*") {
            let mut hasher = Hasher::new("bcache variables 1");
            for (name, value) in self.members(prefix) {
                let is_secret = name.as_bytes().ends_with(b"_TOKEN");
                hasher.bytes(name.as_bytes()).bytes(if is_secret { b"" } else { value.as_bytes() });
            }
            return Some(hasher.finish());
        }
        self.vars.get(name).map(|v| Digest::of(v.as_bytes()))
    }

    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").filter(|h| !h.is_empty()).map(PathBuf::from)
    }

    /// The directories of PATH, absolute ones only: another means something else in every directory.
    pub fn search_path(&self) -> Vec<PathBuf> {
        let path = self.get("PATH").map(OsStr::to_owned).unwrap_or_default();
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
    }
}

/// The directories of a step's PATH that hold more than links to its tools.
pub fn reach(step: &Step) -> Vec<PathBuf> {
    step.path.iter().cloned().chain(SYSTEM_PATH.iter().map(PathBuf::from)).collect()
}

/// The directories that a step's environment is made of.
pub struct Places<'a> {
    /// `<prefix>/bin` directories, the step's own first.
    pub prefix_bins: &'a [PathBuf],
    /// Links to tools from elsewhere.
    pub tool_links: Option<PathBuf>,
    pub tmp: &'a Path,
    /// A private home; `None` for the user's.
    pub home: Option<&'a Path>,
    /// What the tools of the step's target start.
    pub zig: Option<&'a Zig>,
}

/// All variables of the step's commands.
pub fn environment(step: &Step, outside: &Outside, places: &Places) -> Vec<(OsString, OsString)> {
    let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
    if step.class == Class::Plain {
        env.extend(outside.all().clone());
        let path = step.path.iter().cloned().chain(outside.search_path());
        env.insert("PATH".into(), join(path));
    } else {
        allowed(outside, places, step, &mut env);
    }
    if let Some(zig) = places.zig {
        let tmp = (step.class != Class::Plain).then_some(places.tmp);
        let starter = step.toolchain.as_ref().filter(|_| step.cargo.is_some()).map(|toolchain| toolchain.starter());
        env.extend(zig.environment(tmp, starter.as_deref()));
    }
    if let Some(cargo) = &step.cargo {
        // Wherever configuration wants it: what lies elsewhere would be believed without a memory of it.
        env.insert("CARGO_BUILD_BUILD_DIR".into(), cargo.target_dir.clone().into());
        // Names in dep-info are absolute where they do not lie in it.
        env.insert("CARGO_BUILD_DEP_INFO_BASEDIR".into(), "/dev/null".into());
    }
    for (name, value) in &step.env {
        env.insert(name.into(), value.into());
    }
    env.into_iter().collect()
}

fn allowed(outside: &Outside, places: &Places, step: &Step, env: &mut BTreeMap<OsString, OsString>) {
    for (name, value) in outside.all() {
        if name.to_str().is_some_and(is_plumbing) {
            env.insert(name.clone(), value.clone());
        }
    }
    let system = SYSTEM_PATH.iter().map(PathBuf::from);
    let links = places.tool_links.clone();
    let own = step.path.iter().map(|dir| step.elsewhere.seen(dir));
    let path = places.prefix_bins.iter().cloned().chain(own).chain(links).chain(system);
    env.insert("PATH".into(), join(path));
    for (name, value) in [("LANG", "C.UTF-8"), ("TERM", "dumb"), ("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)] {
        env.insert(name.into(), value.into());
    }
    env.insert("TMPDIR".into(), places.tmp.into());
    let user_home = outside.home();
    if let Some(home) = places.home.or(user_home.as_deref()) {
        env.insert("HOME".into(), home.into());
    }
    if let Some(home) = &user_home {
        let cargo = outside.get("CARGO_HOME").map_or_else(|| home.join(".cargo").into(), OsStr::to_owned);
        env.insert("CARGO_HOME".into(), cargo);
        let rustup = outside.get("RUSTUP_HOME").map_or_else(|| home.join(".rustup").into(), OsStr::to_owned);
        env.insert("RUSTUP_HOME".into(), rustup);
    }
    if step.has_views() {
        env.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    }
    let passed = passed(step, outside);
    let secrets = step.secrets.iter().map(|name| (name, false));
    for (name, is_judged) in passed.iter().map(|(name, key)| (name, *key)).chain(secrets) {
        if let Some(value) = if is_judged { outside.get(name) } else { outside.unasked(name) } {
            env.insert(name.into(), value.to_owned());
        }
    }
}

/// Names of variables that come from outside, and whether their values are part of the key.
pub fn passed(step: &Step, outside: &Outside) -> Vec<(String, bool)> {
    let mut passed = step.env_pass.clone();
    if step.cargo.is_none() {
        return passed;
    }
    passed.extend(CARGO.iter().map(|name| ((*name).to_owned(), true)));
    for (prefix, ends) in CARGO_FAMILIES {
        let is_meant = |name: &&str| ends.is_empty() || ends.iter().any(|end| name.ends_with(end));
        passed.extend(outside.family(prefix).into_iter().filter(is_meant).map(|name| (name.to_owned(), true)));
    }
    for prefix in CARGO_PLUMBING {
        passed.extend(outside.family(prefix).into_iter().map(|name| (name.to_owned(), false)));
    }
    passed
}

/// Would cargo build anew by itself where the variable changed?
pub fn is_known_to_cargo(name: &str) -> bool {
    CARGO.contains(&name) || CARGO_FAMILIES.iter().any(|(prefix, _)| name.starts_with(prefix))
}

fn join(dirs: impl Iterator<Item = PathBuf>) -> OsString {
    let mut seen = BTreeSet::new();
    let mut path = OsString::new();
    // A directory with a colon in it can't be said in PATH at all.
    for dir in dirs.filter(|d| !d.as_os_str().as_bytes().contains(&b':')) {
        if seen.insert(dir.clone()) {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(dir);
        }
    }
    path
}

/// Does the variable say how the network is reached?
pub fn is_plumbing(name: &str) -> bool {
    PLUMBING.contains(&name)
        || PLUMBING_PREFIXES.iter().any(|p| name.starts_with(p))
        || name.to_ascii_lowercase().strip_suffix("_proxy").is_some_and(|of| PROXIES.contains(&of))
}

/// Declared variables as parts of the key; `mark` replaces the workspace's path.
pub fn components(step: &Step, outside: &Outside, mark: impl Fn(&str) -> String) -> Vec<Component> {
    let mut parts: Vec<Component> =
        step.env.iter().map(|(name, value)| Component::text(Kind::Env, name, mark(value))).collect();
    let passed = passed(step, outside);
    for (name, _) in passed.iter().filter(|(name, key)| *key && !step.env.iter().any(|(n, _)| n == name)) {
        let value = outside.get(name);
        let mut hasher = Hasher::new("bcache passed variable 1");
        match value {
            None => hasher.number(0),
            Some(value) => hasher.number(1).bytes(value.as_bytes()),
        };
        let shown = value.map_or_else(|| "(unset)".to_owned(), |v| v.to_string_lossy().into_owned());
        parts.push(Component { kind: Kind::Env, name: name.clone(), digest: hasher.finish(), shown });
    }
    // Those whose values don't count by their names: that a step sees them is known, and nothing of what they say.
    let unjudged = step.env_pass.iter().filter(|(_, key)| !key).map(|(name, _)| name).chain(&step.secrets);
    parts.extend(unjudged.map(|name| Component {
        kind: Kind::Env,
        name: name.clone(),
        digest: Hasher::new("bcache unjudged variable 1").finish(),
        shown: "(passed, its value is not in the key)".to_owned(),
    }));
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    parts.dedup_by(|a, b| a.name == b.name);
    parts
}

/// The values that must not be seen in any log.
pub fn secret_values(step: &Step, outside: &Outside) -> Vec<Vec<u8>> {
    let tokens = passed(step, outside).into_iter().filter(|(name, key)| !key && name.ends_with("_TOKEN"));
    step.secrets
        .iter()
        .cloned()
        .chain(tokens.map(|(name, _)| name))
        .filter_map(|name| outside.unasked(&name))
        .filter(|v| !v.is_empty())
        .map(|v| v.as_bytes().to_owned())
        .collect()
}

/// Variables that were set outside, that compilers would obey, and that no cached step gets to see.
pub fn ignored<'a>(steps: impl Iterator<Item = &'a Step> + Clone, outside: &Outside) -> Vec<&'static str> {
    let mut ignored = Vec::new();
    for name in HABITS {
        let seen_by = |step: &Step| {
            step.class != Class::Cached
                || step.env.iter().any(|(n, _)| n == name)
                || step.env_pass.iter().any(|(n, _)| n == name)
        };
        if outside.get(name).is_some() && steps.clone().any(|s| s.class == Class::Cached) && !steps.clone().all(seen_by)
        {
            ignored.push(*name);
        }
    }
    ignored
}
