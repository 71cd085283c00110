//! A few attempts, bounded in time.

use std::time::Duration;

/// How long one attempt may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second and the third attempt.
const WAITS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// A server may ask for more patience, up to this.
const LONGEST: Duration = Duration::from_secs(5);

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Refusal {
    /// For people.
    pub(super) what: String,
    /// Whether it is worth another attempt.
    pub(super) again: bool,
    /// When, if the other side said it.
    pub(super) after: Option<Duration>,
}

impl Refusal {
    /// Another attempt would fail, too.
    pub(super) fn for_good(what: impl Into<String>) -> Refusal {
        Refusal { what: what.into(), again: false, after: None }
    }
}

/// Attempts until one works, none is worth it, or there were three.
pub(super) fn attempts(mut attempt: impl FnMut() -> Result<(), Refusal>) -> Result<(), String> {
    let mut waits = WAITS.into_iter();
    loop {
        let refusal = match attempt() {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        match waits.next().filter(|_| refusal.again) {
            Some(wait) => std::thread::sleep(refusal.after.unwrap_or(wait).min(LONGEST)),
            None => return Err(refusal.what),
        }
    }
}
