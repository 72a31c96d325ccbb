//! Floor 6: running. Where a command runs, what it sees, what it may use of the machine, and how it ends.
//!
//! | file | what it owns |
//! |---|---|
//! | [`runner`] | one step's commands, from start to [`runner::Ending`] |
//! | [`process`] | the door to duct: one child process |
//! | [`program`] | which file a command word means |
//! | [`log`] | what the child writes: bounded, masked, in order of arrival |
//! | [`cancel`] | Ctrl-C, timeouts, and the process groups that they end |
//! | [`terminal`] | lending the terminal to an attached step |
//! | [`jobserver`] | one pool of tokens for all makes and cargos |
//! | [`view`] | what a step sees of the sysroots, and the layer that it leaves |
//! | [`inside`] | our own binary as the parent of a step's commands |
//! | `sys` | the unsafe calls, all of them |

pub mod cancel;
pub mod inside;
pub mod jobserver;
pub mod log;
pub mod process;
pub mod program;
pub mod runner;
mod sys;
pub mod terminal;
pub mod view;
