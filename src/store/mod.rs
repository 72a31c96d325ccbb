//! Floor 3: what is kept. The store of a user, the state of a worktree, layers and prefixes.
//!
//! | file | what it is about |
//! |---|---|
//! | `cas`, `results` | the store: frames by digest, results by key |
//! | `coherent` | what a result must be to be believed |
//! | `walk`, `capture` | reading what a step made |
//! | `restore`, `place/` | putting it back |
//! | `places`, `relocate` | placeholders in layers, found and replaced |
//! | `path_sets` | what runs were found to read, by their base key |
//! | `usage`, `gc` | the size limit, collection, verification |
//! | `lock`, `scratch` | who may do what, and what the dead left |
//! | `state`, `records`, `kept` | `.bcache` of a worktree |
//! | `layers`, `owners`, `prefix/` | unpacked layers, and the union of them that users look at |
//! | `stand_in` | a prefix with just some layers, for a while |
//! | `files`, `threads`, `error` | small tools of this room |
//!
//! Nothing here knows why a step runs. What is said of bytes is checked when they enter and when
//! they are used; what is damaged is dropped and counts as never made.

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
mod builds;
mod capture;
mod cas;
mod coherent;
mod error;
mod files;
mod gc;
mod kept;
mod layers;
mod lock;
mod needle;
mod owners;
mod path_sets;
mod place;
mod places;
mod prefix;
mod records;
mod relocate;
mod restore;
mod results;
mod scratch;
mod stand_in;
mod state;
mod threads;
mod usage;
mod walk;

#[cfg(test)]
mod tests;

pub use builds::{BuildNote, Mark, has_killed_build};
pub use capture::{Capture, Snapshot, Sources, Stuck};
pub use cas::Store;
pub use error::StoreError;
pub use files::remove_tree;
pub use gc::{Damaged, GcReport, Listed, Stats, Verified};
pub use kept::{LastUse, this_boot};
pub use layers::Layers;
pub use lock::{KeyLock, Lease, StepLock};
pub use owners::{Clash, Conflict, Layer, check_owners};
pub use path_sets::PathSet;
pub use place::Placed;
pub use prefix::{How, LayerSource, Looked, Prefix, PrefixReport, Stranger};
pub use relocate::{Mends, Moved, Relocation};
pub use restore::{Before, Part, remove_recorded};
pub use results::{Lookup, Permit};
pub use stand_in::{Entered, Needed, StandIn, Taken};
pub use state::{Durable, State};
pub use walk::no_link_above;
