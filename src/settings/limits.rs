//! `limits:` in `.ci/settings.yml`: what each job's container may use.
//!
//! ```yaml
//! limits:
//!   memory: 2g         # bytes, or with k, m, g; swap included
//!   cpus: 1.5
//!   pids: 1000         # processes and threads
//! ```

use runners::sandbox::Limits;
use serde::{Deserialize, Deserializer, de::Error};

/// What each job's container may use; nothing said: what the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    #[serde(deserialize_with = "memory")]
    memory: Option<u64>,
    #[serde(deserialize_with = "cpus")]
    cpus: Option<f64>,
    #[serde(deserialize_with = "pids")]
    pids: Option<u32>,
}

impl LimitSettings {
    /// These, and of what they don't say, those.
    pub(super) fn over(self, other: LimitSettings) -> LimitSettings {
        LimitSettings {
            memory: self.memory.or(other.memory),
            cpus: self.cpus.or(other.cpus),
            pids: self.pids.or(other.pids),
        }
    }

    /// For the runner.
    pub fn limits(&self) -> Limits {
        Limits { memory: self.memory, cpus: self.cpus, pids: self.pids }
    }
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_yaml::Value::deserialize(deserializer)?;
    let text = match &value {
        serde_yaml::Value::Number(number) => number.to_string(),
        serde_yaml::Value::String(text) => text.clone(),
        _ => String::new(),
    };
    // a container of ours needs a few megabytes before the job begins
    bytes(&text)
        .filter(|bytes| *bytes >= 4 << 20)
        .map(Some)
        .ok_or_else(|| D::Error::custom("`memory` must be a size such as `512m` or `2g`, and at least `4m`"))
}

/// Docker's sizes: `512m`, `2g`, `2GiB`; a bare number is bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * unit) as u64)
}

fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let cpus = f64::deserialize(deserializer)?;
    if cpus >= 0.01 && cpus.is_finite() {
        return Ok(Some(cpus));
    }
    Err(D::Error::custom("`cpus` must be a number of processors, at least 0.01"))
}

fn pids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let pids = u32::deserialize(deserializer)?;
    if pids >= 10 {
        return Ok(Some(pids));
    }
    Err(D::Error::custom("`pids` must be at least 10: a shell and what it starts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let table = [
            ("1048576", Some(1 << 20)),
            ("512m", Some(512 << 20)),
            ("2g", Some(2 << 30)),
            ("1.5G", Some(3 << 29)),
            ("64 MiB", Some(64 << 20)),
            ("10kb", Some(10 << 10)),
            ("m", None),
            ("10x", None),
            ("-5m", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_project_says_wins_over_its_user() {
        let read = |text: &str| serde_yaml::from_str::<LimitSettings>(text).expect("valid");
        let both = read("{memory: 1g, cpus: 2}").over(read("{memory: 2g, pids: 100}"));
        assert_eq!(both.limits(), Limits { memory: Some(1 << 30), cpus: Some(2.0), pids: Some(100) });
    }

    #[test]
    fn mistakes_say_what_is_wanted() {
        for (text, part) in [
            ("memory: lots", "such as `512m`"),
            ("memory: 1k", "at least `4m`"),
            ("cpus: 0", "at least 0.01"),
            ("pids: 1", "at least 10"),
            ("disk: 1g", "unknown field `disk`"),
        ] {
            let error = serde_yaml::from_str::<LimitSettings>(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
