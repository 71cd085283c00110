//! Who was turned away: told to those who set up the hook, and counted, so that guessing is slow.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Refusals of one source within [`WINDOW_MS`] after which it is not listened to.
const MOST: u32 = 60;
const WINDOW_MS: i64 = 60_000;
/// Sources that are remembered.
const SOURCES: usize = 10_000;

/// Deliveries of a project that were turned away since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = DeliveriesRefused)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// When the last came, in milliseconds since the epoch.
    pub last_at: i64,
    /// From where.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    projects: Mutex<HashMap<i64, Refused>>,
    /// An address and a hook: since when, how many.
    sources: Mutex<HashMap<String, (i64, u32)>>,
    total: AtomicU64,
}

impl Refusals {
    /// One more of a project that is there.
    pub(super) fn of_project(&self, project: i64, address: &str, reason: &str, now: i64) {
        let mut projects = self.projects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refused = projects.entry(project).or_default();
        refused.count += 1;
        refused.last_at = now;
        address.clone_into(&mut refused.address);
        reason.clone_into(&mut refused.reason);
    }

    /// One more from an address to a hook.
    pub(super) fn of_source(&self, source: &str, now: i64) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, (since, _)| now - *since < WINDOW_MS);
        }
        if sources.len() >= SOURCES && !sources.contains_key(source) {
            return;
        }
        let (since, count) = sources.entry(source.to_owned()).or_insert((now, 0));
        if now - *since >= WINDOW_MS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }

    /// Has this source been turned away too often of late?
    pub(super) fn too_many(&self, source: &str, now: i64) -> bool {
        let sources = self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sources.get(source).is_some_and(|(since, count)| *count >= MOST && now - *since < WINDOW_MS)
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn project(&self, project: i64) -> Option<Refused> {
        self.projects.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&project).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_guesses_is_not_listened_to_for_a_while() {
        let refusals = Refusals::default();
        for _ in 0..MOST {
            assert!(!refusals.too_many("192.0.2.1", 1000));
            refusals.of_source("192.0.2.1", 1000);
        }
        assert!(refusals.too_many("192.0.2.1", 1000));
        assert!(!refusals.too_many("192.0.2.2", 1000));
        assert!(!refusals.too_many("192.0.2.1", 1000 + WINDOW_MS));
        refusals.of_source("192.0.2.1", 1000 + WINDOW_MS);
        assert!(!refusals.too_many("192.0.2.1", 1000 + WINDOW_MS), "the count began anew");
    }
}
