//! Floor 6: running. Where a command runs, what it sees, what it may use of the machine, and how it ends.
//!
//! | file | what it owns |
//! |---|---|
//! | [`build`] | one build: each step judged, restored or run, in the order of its life |
//! | [`scheduler`] | which step is tried when |
//! | [`holding`] | the locks of a step, and what its needs are under them |
//! | [`judging`] | a step's verdict, from what is here |
//! | `footing` | what lies on disk of a step's needs when it runs |
//! | [`enter`] | a visit to a step's place: `shell` |
//! | [`prepare`], [`running`] | the place of a step before it runs; what it made kept after |
//! | `sources`, `commits`, [`unpack`], [`archive`], [`fetch`] | sources brought to their place, and what an archive may do |
//! | [`style`] | which jobserver a step's programs understand |
//! | [`explain`] | reasons in words |
//! | [`cargo`] | what is different where cargo builds |
//! | `discovering` | depfiles, before and after a run |
//! | `known` | what a key knows of a name in a depfile, and what of the links on the way |
//! | `kept` | what a step left for its next run, and whether that may build on it |
//! | `memory` | who waits for memory |
//! | `moment` | the clock of file stamps |
//! | [`ownership`] | whose is what lies in a step's outputs |
//! | [`durable`] | what ended steps left, on the disk once a second |
//! | `commands` | the commands of a step, on behalf of a build |
//! | [`runner`] | one step's commands, from start to [`runner::Ending`] |
//! | [`process`] | the door to duct: one child process |
//! | [`program`] | which file a command word means |
//! | [`log`] | what the child writes: bounded, masked, in order of arrival |
//! | [`cancel`] | Ctrl-C, timeouts, and the process groups that they end |
//! | [`terminal`] | lending the terminal to an attached step |
//! | [`jobserver`] | one pool of tokens for all makes and cargos |
//! | [`view`] | what a step sees of the sysroots, and the layer that it leaves |
//! | `exclusive` | the same without namespaces, in the prefixes themselves |
//! | [`watch`], [`orphans`] | that nothing of a killed build lives on |
//! | [`inside`] | our own binary as the parent of a step's commands |
//! | `sys` | the unsafe calls, all of them |

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
pub mod archive;
pub mod build;
pub mod cancel;
mod capturing;
pub mod cargo;
mod commands;
mod commits;
mod discovering;
pub mod durable;
pub mod enter;
mod exclusive;
pub mod explain;
pub mod fetch;
mod footing;
pub mod holding;
pub mod inside;
pub mod installing;
pub mod jobserver;
pub mod judging;
mod kept;
mod known;
pub mod log;
mod memory;
mod moment;
pub mod orphans;
pub mod ownership;
pub mod prepare;
pub mod process;
pub mod program;
pub mod runner;
pub mod running;
pub mod scheduler;
mod sources;
pub mod style;
mod sys;
pub mod terminal;
mod toolchain;
pub mod unpack;
pub mod view;
pub mod watch;
