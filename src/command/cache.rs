//! `cache`: the store that all worktrees share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::text::{count, duration, size};
use crate::cli::Cache;
use crate::event::{Event, Listener};
use crate::exit::Exit;
use crate::report::tables::{self, Align};

use super::Context;
use super::error::CommandError;

impl Context {
    pub(super) fn cache(&self, cache: Cache) -> Result<Exit, CommandError> {
        match cache {
            Cache::List => self.cache_list(),
            Cache::Stats => self.cache_stats(),
            Cache::Gc => self.cache_gc(),
            Cache::Verify => self.cache_verify(),
            Cache::Clean => self.cache_clean(),
        }
    }

    fn cache_list(&self) -> Result<Exit, CommandError> {
        let mut listed = self.store()?.list()?;
        listed.sort_by_key(|l| std::cmp::Reverse(l.last_used));
        let now = SystemTime::now();
        let ago = |used: i64| {
            let used = UNIX_EPOCH + Duration::from_nanos(u64::try_from(used).unwrap_or(0));
            duration(Duration::from_secs(now.duration_since(used).unwrap_or_default().as_secs()))
        };
        let place = |bound: Option<&str>| bound.map_or_else(String::new, |path| format!(", only in {path}"));
        let rows: Vec<Vec<String>> = listed
            .iter()
            .map(|l| {
                vec![
                    l.key.0.short(),
                    l.step.to_string(),
                    count(l.files, "file"),
                    size(l.bytes),
                    format!("used {} ago{}", ago(l.last_used), place(l.bound_to.as_deref())),
                ]
            })
            .collect();
        self.answer(
            tables::table(&[Align::Left, Align::Left, Align::Right, Align::Right, Align::Left], &rows).as_bytes(),
        )
    }

    fn cache_stats(&self) -> Result<Exit, CommandError> {
        let store = self.store()?;
        let stats = store.stats()?;
        let text = tables::pairs(&[
            ("place", store.root().display().to_string()),
            ("results", stats.results.to_string()),
            ("fetched archives", stats.sources.to_string()),
            ("used", size(stats.used)),
            ("stands for", size(stats.represented)),
            ("limit", size(stats.limit)),
        ]);
        self.answer(text.as_bytes())
    }

    fn cache_gc(&self) -> Result<Exit, CommandError> {
        let store = self.store()?;
        let report = store.gc(store.limit())?;
        let freed = report.before.saturating_sub(report.after);
        let text = format!(
            "{} removed, {} freed; {} used of {}",
            count(report.dropped, "result"),
            size(freed),
            size(report.after),
            size(store.limit())
        );
        self.reporter.on(Event::Note { text });
        Ok(Exit::Ok)
    }

    fn cache_verify(&self) -> Result<Exit, CommandError> {
        let verified = self.store()?.verify()?;
        let mut text = String::new();
        for damaged in &verified.damaged {
            let steps: Vec<String> = damaged.steps.iter().map(ToString::to_string).collect();
            let of = if steps.is_empty() { String::new() } else { format!(" (of {})", steps.join(", ")) };
            text.push_str(&format!("damaged: {}{of}\n", crate::base::paths::escaped(&damaged.path)));
        }
        text.push_str(&format!(
            "{}, {}: {} damaged\n",
            count(verified.results, "result"),
            count(verified.frames, "frame"),
            verified.damaged.len()
        ));
        self.answer(text.as_bytes())?;
        Ok(if verified.damaged.is_empty() { Exit::Ok } else { Exit::State })
    }

    fn cache_clean(&self) -> Result<Exit, CommandError> {
        let store = self.store()?;
        let question =
            format!("remove all {} results of every worktree from {}?", store.stats()?.results, store.root().display());
        if !self.options.yes {
            match self.reporter.confirm(&question) {
                Some(true) => {}
                Some(false) => return Ok(Exit::StepFailed),
                None => {
                    return Err(CommandError::Usage {
                        text: "`cache clean` asks first, and there is no terminal".to_owned(),
                        help: Some("say --yes".to_owned()),
                    });
                }
            }
        }
        store.clear()?;
        Ok(Exit::Ok)
    }
}
