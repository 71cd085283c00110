//! `keep:` in `.ci/settings.yml`: how much of the past stays on this machine. What is beyond goes at the end of a
//! run, and with `ci clean`.
//!
//! ```yaml
//! keep:
//!   runs: 100        # of each project
//!   days: 30         # runs, caches, snapshots, images that were not used for so long
//!   size: 10 GB      # runs and caches of a project together
//!   images: 20 GB    # images of all projects together
//! ```

use serde::{Deserialize, Deserializer};
use std::time::Duration;

const RUNS: usize = 100;
const DAYS: u64 = 30;
const SIZE: u64 = 10_000_000_000;
const IMAGES: u64 = 20_000_000_000;

/// What stays. None: what is said above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepSettings {
    /// Runs of each project, the newest.
    runs: Option<usize>,
    /// Days without use.
    days: Option<u64>,
    /// Bytes of runs and caches of a project.
    #[serde(deserialize_with = "bytes")]
    size: Option<u64>,
    /// Bytes of images.
    #[serde(deserialize_with = "bytes")]
    images: Option<u64>,
}

impl KeepSettings {
    /// These, and what they don't say from `below`.
    #[must_use]
    pub fn over(self, below: KeepSettings) -> KeepSettings {
        KeepSettings {
            runs: self.runs.or(below.runs),
            days: self.days.or(below.days),
            size: self.size.or(below.size),
            images: self.images.or(below.images),
        }
    }

    /// Runs of a project that are kept.
    pub fn runs(&self) -> usize {
        self.runs.unwrap_or(RUNS)
    }

    /// How long something is kept that nobody uses.
    pub fn age(&self) -> Duration {
        Duration::from_secs(self.days.unwrap_or(DAYS).saturating_mul(86_400))
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(SIZE)
    }

    /// Bytes of all images of this machine.
    pub fn images(&self) -> u64 {
        self.images.unwrap_or(IMAGES)
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Option::<Written>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Written::Text(text)) => parse_size(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Bytes of a size as people write it: `10G`, `500 MB`, `1.5 GiB`, `1000`.
///
/// # Errors
/// It is none; the text says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let unit = trimmed[digits..].trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => f64::NAN,
    };
    let bytes = trimmed[..digits].parse::<f64>().unwrap_or(f64::NAN) * factor;
    // larger than any disk, and still exact
    if bytes.is_finite() && bytes < 1e18 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and below 2^60"
        )]
        return Ok(bytes as u64);
    }
    Err(format!("`{text}` is not a size: write `500 MB` or `10G`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_people_write() {
        let table = [
            ("10G", Ok(10_000_000_000)),
            ("500 MB", Ok(500_000_000)),
            ("1.5 kib", Ok(1536)),
            ("0", Ok(0)),
            ("12 b", Ok(12)),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        for text in ["", "G", "-1", "1 fortnight", "1e3", "1.2.3", "99999999999 TB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
