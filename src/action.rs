//! A step whose every input is known by digest, what came of it, and what this worktree remembers of
//! it: plain data, no I/O.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, Hasher};
use crate::base::ids::StepId;
use crate::base::paths::escaped;
use crate::base::stat::Stat;
use crate::base::tree::Tree;

/// Part of every key. A change to what is in a key, or how it is fed, is a new version
/// (pinned by golden tests, said in `CHANGELOG.md`).
pub const KEY_DOMAIN: &str = "bcache action 2";

/// What a part of a key is about. The order of the variants is part of the key format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A command of the list, by its place (`run 1`).
    Command,
    /// A variable that is set, or passed with its value.
    Env,
    /// A program, by its content or its version.
    Tool,
    /// Host and target triples, whether the step runs as root, the directory it runs in, other settings.
    Setting,
    /// The path of a prefix in a view.
    Prefix,
    /// An archive, commit or working copy that is unpacked as the source.
    Source,
    /// A patch, by its place in the list.
    Patch,
    /// A file or directory of the workspace.
    Input,
    /// The outputs of another step that this one needs.
    Need,
    /// What another step added to a prefix in a view.
    Layer,
    /// A declared output.
    Output,
    /// A file that a run was found to have read.
    Discovered,
    /// The installed packages that the step could notice, by one digest over them.
    Host,
}

/// One thing that can change the result: which, its digest, and how to show it to a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Component {
    pub kind: Kind,
    pub name: String,
    pub digest: Digest,
    /// Short text such as `-O2`, `gcc 12.2.0`, or empty where the digest says all there is.
    pub shown: String,
}

impl Component {
    /// A component that is its text.
    pub fn text(kind: Kind, name: impl Into<String>, value: impl Into<String>) -> Self {
        let shown = value.into();
        Self { kind, name: name.into(), digest: Digest::of(shown.as_bytes()), shown }
    }
}

/// How a discovered file that is not there is shown.
pub const ABSENT: &str = "absent";

/// Everything that can change the result of a step, in an order that has a meaning where the
/// declaration's has (commands, needs) and is sorted by name where it has none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Action {
    pub components: Vec<Component>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, PartialOrd, Ord)]
pub struct ActionKey(pub Digest);

impl std::fmt::Display for ActionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of the component of an action whose result was made without a view of its own.
const VIEWS: &str = "views";

/// Name of the component of an action whose result holds the path of the workspace.
const PLACE: &str = "place of the workspace";

impl Action {
    /// The action whose result holds the path of the workspace, and answers only there; and only to this step, whose own
    /// directories are among what lies there.
    pub fn bound_to(&self, place: &Path, step: &StepId) -> Self {
        let mut hasher = Hasher::new("bcache place 1");
        let digest = hasher.bytes(place.as_os_str().as_encoded_bytes()).text(&step.to_string()).finish();
        let shown = escaped(place);
        let mut components = self.components.clone();
        components.push(Component { kind: Kind::Setting, name: PLACE.to_owned(), digest, shown });
        Self { components }
    }

    /// The same with what a run was found to have read.
    pub fn with(&self, discovered: Vec<Component>) -> Self {
        let mut components = self.components.clone();
        components.extend(discovered);
        Self { components }
    }

    /// Names of the files that the run was found to have read.
    pub fn discovered(&self) -> impl Iterator<Item = &str> {
        self.components.iter().filter(|c| c.kind == Kind::Discovered).map(|c| c.name.as_str())
    }

    pub fn is_bound(&self) -> bool {
        self.components.iter().any(|c| c.kind == Kind::Setting && c.name == PLACE)
    }

    /// The action whose result was made in the prefixes themselves, where less is hidden than in a view: it answers
    /// only where there are no views.
    pub fn exclusive(&self) -> Self {
        let mut components = self.components.clone();
        components.push(Component::text(Kind::Setting, VIEWS, "exclusive"));
        Self { components }
    }

    pub fn is_exclusive(&self) -> bool {
        self.components.iter().any(|c| c.kind == Kind::Setting && c.name == VIEWS && c.shown == "exclusive")
    }

    pub fn key(&self) -> ActionKey {
        let mut hasher = Hasher::new(KEY_DOMAIN);
        hasher.number(self.components.len() as u64);
        for component in &self.components {
            hasher.number(component.kind as u64).text(&component.name).digest(&component.digest);
        }
        ActionKey(hasher.finish())
    }
}

/// What a run of an action made: the shareable answer to a key. The bytes are in the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActionResult {
    pub key: ActionKey,
    /// For lists; a result is found by its key alone.
    pub step: StepId,
    /// The workspace whose path the outputs hold, as it is shown: for lists too.
    pub bound_to: Option<String>,
    pub made: Made,
    pub cost: Cost,
    /// Seconds since 1970.
    pub created: u64,
    /// Where in the store the bytes are. Opaque to all but the store.
    pub content: Content,
}

/// The trees that a step made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Made {
    /// Declared outputs; paths relative to the workspace.
    pub outputs: Tree,
    /// What the step added to its sysroot; paths relative to the prefix. `None` without a sysroot.
    pub layer: Option<Tree>,
    /// Files that several steps may write, as this one left them; in no digest and in no view.
    pub shared: Vec<SharedFile>,
    /// Where the layer holds placeholders; follows from its bytes, so it is in no digest.
    pub places: Places,
}

/// Where a layer holds the placeholders of relocatable prefixes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Places {
    /// Those that are in files or targets of links.
    pub placeholders: Vec<String>,
    /// In tree order.
    pub files: Vec<FilePlaces>,
}

impl Places {
    pub fn is_empty(&self) -> bool {
        self.placeholders.is_empty()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FilePlaces {
    /// Which entry of the layer's tree.
    pub entry: u32,
    /// Without NUL: bytes may move in it.
    pub is_text: bool,
    /// By their offsets, none in another.
    pub places: Vec<Place>,
}

/// Bytes of a file that are a part of a placeholder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    pub offset: u64,
    /// Index of the placeholder.
    pub of: u32,
    /// Which part of it.
    pub start: u32,
    pub len: u32,
}

/// A shared file of a prefix, such as `share/info/dir`: small, so its bytes are kept here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedFile {
    /// Relative to the prefix.
    #[serde(with = "crate::base::paths::bytes")]
    pub path: PathBuf,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

impl Made {
    /// What dependents see: equal digests mean that they stay fresh (early cutoff).
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache made 1");
        hasher.digest(&self.outputs.digest());
        match &self.layer {
            None => hasher.number(0),
            Some(layer) => hasher.number(1).digest(&layer.digest()),
        };
        hasher.finish()
    }
}

/// What a run took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    pub millis: u64,
    /// Bytes of the largest process, where it was measured.
    pub peak_memory: Option<u64>,
}

/// Which frames of the store hold the bytes, and where in them each file is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Content {
    pub frames: Vec<Frame>,
    /// The log of the run, as if it were a file.
    pub log: Option<Slice>,
    /// Per file entry of `made.outputs`, then of `made.layer`, in tree order.
    pub files: Vec<Slice>,
}

/// A run of bytes that is compressed and kept as one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// Of the uncompressed bytes.
    pub digest: Digest,
    pub size: u64,
    /// The compressed bytes themselves, where they are few: then there is no file for this frame.
    pub inline: Option<Vec<u8>>,
}

/// Where a file's bytes begin in the concatenation of an entry's frames, and how many they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slice {
    pub start: u64,
    pub len: u64,
}

/// What the worktree remembers of a step: its last action in full and what lies on disk of it.
/// A record whose `made` is `None` is *emptied*: a run was begun and did not end well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: StepId,
    pub action: Action,
    pub key: ActionKey,
    pub made: Option<Made>,
    /// Stat records of `made.outputs` (relative to the workspace) as they lie on disk, in tree order.
    pub outputs: Vec<Seen>,
    /// How the last change of this record came about.
    pub origin: Origin,
    /// Declared outputs of runs that were begun: what a killed one left there is in no list, and the manifest
    /// may say otherwise by then. Empty once a run or restore has ended.
    pub begun: Vec<String>,
    /// Why the step last ran or was restored, as sentences.
    pub reasons: Vec<String>,
    pub cost: Cost,
    /// Was the result committed to the store?
    pub stored: bool,
}

/// A stat record, and whether it may be believed (see [`crate::base::stat`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub stat: Stat,
    pub settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Ran,
    Restored,
    /// Begun and not ended: failed, cancelled or killed.
    Begun,
}

/// A file that existed before a run in a place that its outputs want, and that no record owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    pub from: PathBuf,
    pub to: PathBuf,
}
