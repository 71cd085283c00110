//! Slows down who guesses passwords: so many failures for a name, so many from an address, then a quarter of an hour of
//! nothing. In memory: a restart forgives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

const WINDOW_MS: i64 = 15 * 60 * 1000;
const FOR_A_NAME: usize = 10;
const FROM_AN_ADDRESS: usize = 30;
/// What is remembered at most; then what is old goes.
const REMEMBERED: usize = 20_000;

/// Failures of late.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<String, Vec<i64>>>);

impl Attempts {
    /// Takes one attempt; the caller says [`Attempts::forgive`] when it was right. Counted before the password is
    /// looked at, so that many at once are no way around.
    ///
    /// # Errors
    /// Seconds to wait.
    pub(super) fn take(&self, name: &str, address: &str, now: i64) -> Result<(), u64> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() > REMEMBERED {
            failures.retain(|_, times| times.last().is_some_and(|last| now - last < WINDOW_MS));
        }
        let keys = keys(name, address);
        for (key, limit) in &keys {
            let Some(times) = failures.get_mut(key) else { continue };
            times.retain(|time| now - time < WINDOW_MS);
            if times.len() >= *limit {
                let first = times.first().copied().unwrap_or(now);
                return Err(u64::try_from((first + WINDOW_MS - now) / 1000).unwrap_or(0) + 1);
            }
        }
        for (key, _) in keys {
            failures.entry(key).or_default().push(now);
        }
        Ok(())
    }

    /// It was right.
    pub(super) fn forgive(&self, name: &str, address: &str) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [(name, _), (address, _)] = keys(name, address);
        failures.remove(&name);
        // one right password does not forgive an address all the wrong ones
        if let Some(times) = failures.get_mut(&address) {
            times.pop();
        }
    }
}

fn keys(name: &str, address: &str) -> [(String, usize); 2] {
    // who has one IPv6 address has a network of them
    let network = match address.parse() {
        Ok(IpAddr::V6(v6)) => format!("{:x?}", &v6.segments()[..4]),
        _ => address.to_owned(),
    };
    let name: String = name.to_lowercase().chars().take(100).collect();
    [(format!("name {name}"), FOR_A_NAME), (format!("address {network}"), FROM_AN_ADDRESS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_address_have_so_many_failures_in_a_quarter_of_an_hour() {
        let attempts = Attempts::default();
        for n in 0..10 {
            assert_eq!(attempts.take("ann", &format!("10.0.0.{n}"), n), Ok(()));
        }
        assert_eq!(attempts.take("ANN", "10.0.0.99", 10), Err(900));
        assert_eq!(attempts.take("bob", "10.0.0.99", 10), Ok(()));
        assert_eq!(attempts.take("ann", "10.0.0.99", WINDOW_MS + 10), Ok(()));
        for n in 0..30 {
            assert_eq!(attempts.take(&format!("n{n}"), &format!("fd00::{n}"), 0), Ok(()));
        }
        assert!(attempts.take("other", "fd00::ffff", 0).is_err());
        assert_eq!(attempts.take("other", "fd00:0:0:1::1", 0), Ok(()));
    }

    #[test]
    fn the_right_password_forgives_the_name_and_not_the_address() {
        let attempts = Attempts::default();
        for n in 0..29 {
            assert_eq!(attempts.take(&format!("n{n}"), "::1", 0), Ok(()));
        }
        assert_eq!(attempts.take("ann", "::1", 0), Ok(()));
        assert!(attempts.take("ann", "::1", 0).is_err());
        attempts.forgive("ann", "::1");
        assert_eq!(attempts.take("ann", "::1", 0), Ok(()));
        assert!(attempts.take("ann", "::1", 0).is_err());
    }
}
