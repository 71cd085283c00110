//! How long to wait before trying again.

use std::time::Duration;

/// Grows with each failure, and differs from machine to machine so that they don't all come back at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Patience {
    pub(super) fn new(first: Duration, most: Duration) -> Patience {
        Patience { first, most, next: first }
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// It failed; `asked` is what the server wants, which is believed up to a minute more than the most.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.next;
        self.next = (self.next * 2).min(self.most);
        let spread = own.mul_f64(0.5 + 0.5 * random());
        asked.map_or(spread, |asked| asked.min(self.most + Duration::from_secs(60)).max(spread))
    }
}

/// Of [0, 1].
fn random() -> f64 {
    let mut bytes = [0; 2];
    // without chance all wait the longest
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_most_and_starts_again() {
        let mut patience = Patience::new(Duration::from_millis(100), Duration::from_secs(1));
        for most in [100, 200, 400, 800, 1000, 1000] {
            let wait = patience.wait(None).as_millis();
            assert!(wait <= most && wait >= most / 2, "{wait} of {most}");
        }
        assert_eq!(patience.wait(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(patience.wait(Some(Duration::from_secs(3600))), Duration::from_secs(61));
        patience.reset();
        assert!(patience.wait(None) <= Duration::from_millis(100));
    }
}
