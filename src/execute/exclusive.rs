//! Steps with a sysroot where this machine gives no namespaces: one at a time, in the prefixes themselves.
//!
//! For the time of its run, each prefix of the manifest holds just what the step's view would show
//! ([`crate::store::StandIn`]); after it, what the step added is its layer, and the prefix comes back. What
//! it did to the layers of others is found by looking at them all, is its fault, and is put right. Where a file of theirs was
//! written and is the same again, by whomever, the result is not stored. Whoever judges
//! a step of a prefix, installs into it or reads it meanwhile waits for its turn.
//!
//! **Less is hidden** than in a view: programs and packages of the host, and processes of the step may outlive it.
//! So what was made this way answers only where there are no views ([`Action::exclusive`]). While the step
//! runs, people see the view too.
//!
//! [`Action::exclusive`]: crate::action::Action::exclusive

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::ids::StepIx;
use crate::base::paths::escaped;
use crate::base::tree::Tree;
use crate::event::{Event, Failure};
use crate::graph::{Class, PrefixIx, Step};
use crate::store::{Entered, Looked, Needed, StandIn, StepLock};

use super::build::{Build, StepError};
use super::runner::{Ending, Finished};
use super::view::probe::Availability;

impl Build<'_> {
    /// Must the step's view be made without namespaces? An error where that was forbidden.
    pub(super) fn is_exclusive(&self, step: &Step) -> bool {
        step.has_views() && self.views.is_exclusive()
    }

    /// Says it once, where nobody asked for it.
    pub(super) fn say_exclusive(&self) {
        if let (Some(Availability::Not(why)), false) =
            (self.views.found(), self.tally.said_exclusive.swap(true, Ordering::SeqCst))
        {
            let text = format!(
                "this machine gives no namespaces ({why}): steps with a sysroot run one at a time, in the sysroot itself"
            );
            self.listener.on(Event::Note { text });
        }
    }

    /// A share in each prefix that is looked at while the step is judged or put in place, so that it stays what it
    /// is. `None` while another step has one of them.
    pub(super) fn share_prefixes(&self, ix: StepIx) -> Result<Option<Vec<StepLock>>, StepError> {
        let step = self.graph.step(ix);
        let mut prefixes: Vec<PrefixIx> = step.sysroot.into_iter().collect();
        if step.class == Class::Plain {
            prefixes = self.graph.flat_needs(ix).iter().filter_map(|need| self.graph.step(*need).sysroot).collect();
            prefixes.sort();
            prefixes.dedup();
        }
        let share = |prefix: &PrefixIx| self.state.try_share_prefix(self.prefixes[prefix.index()].name());
        let shares = prefixes.iter().map(share).collect::<Result<Option<Vec<_>>, _>>().map_err(StepError::lock)?;
        let is_left = |prefix: &PrefixIx| StandIn::new(self.state, &self.prefixes[prefix.index()]).is_left();
        if shares.is_some() && prefixes.iter().any(is_left) {
            drop(shares);
            self.own_prefixes()?;
            return Ok(None);
        }
        Ok(shares)
    }

    /// All prefixes of the manifest for one step alone. What a build that was killed since this one began left
    /// elsewhere comes back.
    pub(super) fn own_prefixes(&self) -> Result<Option<Vec<StepLock>>, StepError> {
        let own = self.prefixes.iter().map(|prefix| self.state.try_lock_prefix(prefix.name()));
        let own = own.collect::<Result<Option<Vec<_>>, _>>().map_err(StepError::lock)?;
        if own.is_some() {
            let stand_ins = self.prefixes.iter().map(|prefix| StandIn::new(self.state, prefix));
            let left: Vec<StandIn> = stand_ins.filter(StandIn::is_left).collect();
            if !left.is_empty() {
                self.end_orphans()?;
                left.iter().try_for_each(StandIn::put_right)?;
            }
        }
        Ok(own)
    }

    /// Runs `commands` while the prefixes hold what the step may see. What it added is in its top then.
    pub(super) fn in_prefixes(
        &self,
        step: &Step,
        commands: impl FnOnce() -> Result<Finished, StepError>,
    ) -> Result<Finished, StepError> {
        if let Some(name) = self.relocatable_of(step) {
            let headline =
                format!("the sysroot `{name}` is relocatable, and this machine gives no namespaces to build it in");
            return Err(failure(headline, None, Duration::ZERO));
        }
        let top = step.sysroot.map(|_| self.top(step)).transpose()?;
        let stand_ins: Vec<StandIn> = self.prefixes.iter().map(|prefix| StandIn::new(self.state, prefix)).collect();
        let hold = |(i, stand_in)| self.stand_in_holds(step, PrefixIx(i), stand_in);
        let before = (0..).zip(&stand_ins).map(hold).collect::<Result<Vec<Looked>, _>>()?;
        let entered = stand_ins.iter().map(StandIn::enter).collect::<Result<Vec<Entered>, _>>()?;
        let finished = commands();
        let (mut lost, mut trouble) = (None, None);
        for (entered, stand_in) in entered.into_iter().zip(&stand_ins) {
            match entered.leave() {
                Ok(()) => {}
                Err(error) if error.is_of_disk() => trouble = Some(error),
                Err(_) => lost = Some(stand_in.at().to_owned()),
            }
        }
        let mut finished = finished?;
        // Not by the step's doing.
        trouble.map_or(Ok(()), Err)?;
        if let Some(at) = lost {
            finished.ending = Ending::ViewLost { at };
            return Ok(finished);
        }
        for (i, (stand_in, before)) in stand_ins.iter().zip(&before).enumerate() {
            let is_own = step.sysroot == Some(PrefixIx(i as u32));
            let taken = stand_in.take(top.as_ref().filter(|_| is_own).map(|top| top.upper.as_path()), before)?;
            let written = taken.written.map(|path| stand_in.at().join(path));
            finished.astray = finished.astray.or(written);
            let removed = taken.removed.into_iter().map(|path| (stand_in.at().to_owned(), path));
            finished.removed.extend(removed);
            if let (Some(path), Ending::Success) = (taken.foreign.first(), &finished.ending) {
                return Err(wrote_elsewhere(step, &stand_in.at().join(path), &finished));
            }
        }
        Ok(finished)
    }

    fn stand_in_holds(&self, step: &Step, prefix: PrefixIx, stand_in: &StandIn) -> Result<Looked, StepError> {
        let made: Vec<_> = self.layers_at(step, Some(prefix)).collect();
        let mut layers: Vec<(StepIx, &Tree, PathBuf)> = Vec::new();
        for (owner, made) in &made {
            let Some(tree) = &made.layer else { continue };
            if let Some(dir) = self.layer_dir(*owner, tree)? {
                layers.push((*owner, tree, dir));
            }
        }
        let needed = |(owner, tree, dir): (StepIx, _, _)| Needed { step: self.graph.step(owner).id.clone(), tree, dir };
        let needed: Vec<Needed> = layers.into_iter().map(needed).collect();
        Ok(stand_in.prepare(&needed)?)
    }

    /// A sysroot in the step's view that would have to lie at its placeholder.
    fn relocatable_of(&self, step: &Step) -> Option<&str> {
        let needed = step.layers.iter().filter_map(|need| self.graph.step(*need).sysroot);
        let mut used = step.sysroot.into_iter().chain(needed).map(|prefix| self.graph.prefix(prefix));
        used.find(|prefix| prefix.placeholder.is_some()).map(|prefix| prefix.name.as_str())
    }
}

fn wrote_elsewhere(step: &Step, path: &Path, finished: &Finished) -> StepError {
    let headline = format!("`{}` changed `{}`, in a sysroot that is not its own", step.id, escaped(path));
    failure(headline, finished.log.clone(), finished.took)
}

fn failure(headline: String, log_file: Option<PathBuf>, took: Duration) -> StepError {
    let failure = Failure { headline, command: None, log: Arc::from([]), log_file, advice: Vec::new() };
    StepError::Failed { failure: Box::new(failure), took }
}
