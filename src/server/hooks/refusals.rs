//! Who was turned away: told to those who set up the hook, and counted, so that guessing is slow.

use std::collections::HashMap;
use std::sync::Mutex;

/// Refusals from one address within [`WINDOW_MS`] after which it is not listened to.
const MOST: u32 = 60;
const WINDOW_MS: i64 = 60_000;
/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// Deliveries of a project that were turned away since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
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
    addresses: Mutex<HashMap<String, (i64, u32)>>,
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

    /// One more from an address.
    pub(super) fn of_address(&self, address: &str, now: i64) {
        let mut addresses = self.addresses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if addresses.len() >= ADDRESSES {
            addresses.retain(|_, (since, _)| now - *since < WINDOW_MS);
        }
        if addresses.len() >= ADDRESSES && !addresses.contains_key(address) {
            return;
        }
        let (since, count) = addresses.entry(address.to_owned()).or_insert((now, 0));
        if now - *since >= WINDOW_MS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }

    /// Has this address been turned away too often of late?
    pub(super) fn too_many(&self, address: &str, now: i64) -> bool {
        let addresses = self.addresses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        addresses.get(address).is_some_and(|(since, count)| *count >= MOST && now - *since < WINDOW_MS)
    }

    pub(super) fn project(&self, project: i64) -> Option<Refused> {
        self.projects.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&project).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_is_not_listened_to_for_a_while() {
        let refusals = Refusals::default();
        for _ in 0..MOST {
            assert!(!refusals.too_many("192.0.2.1", 1000));
            refusals.of_address("192.0.2.1", 1000);
        }
        assert!(refusals.too_many("192.0.2.1", 1000));
        assert!(!refusals.too_many("192.0.2.2", 1000));
        assert!(!refusals.too_many("192.0.2.1", 1000 + WINDOW_MS));
        refusals.of_address("192.0.2.1", 1000 + WINDOW_MS);
        assert!(!refusals.too_many("192.0.2.1", 1000 + WINDOW_MS), "the count began anew");
    }
}
