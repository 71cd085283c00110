//! Release versions: any string, in a total order.
//!
//! Versions whose core is dot-separated numbers of any count (`1.2`, `25.3.2.8`) compare by these, then by
//! Semantic Versioning 2.0.0 §11: a pre-release comes before its release. So two semantic versions stand as
//! semver says, and OTP's stand as OTP counts. All other strings come before those and compare by runs of
//! digits and of other characters.
//!
//! What `git describe` writes, `1.2.0-3-gabc1234`, is not the pre-release that it looks like: it comes after `1.2.0`, by
//! the number of commits. A leading `v` before a digit does not count.

use std::cmp::Ordering;

/// The order of two release versions.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let ordering = match (Numeric::parse(a), Numeric::parse(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => compare_runs(a, b),
    };
    // different strings are different versions, even `1.0` and `1.0.0`
    ordering.then_with(|| a.cmp(b))
}

/// `version` with its last number increased by one: `0.1.9` -> `0.1.10`; none without a number.
#[must_use]
pub fn bump(version: &str) -> Option<String> {
    let end = version.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = version[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
    let next = version[start..end].parse::<u64>().ok()?.checked_add(1)?;
    Some(format!("{}{next}{}", &version[..start], &version[end..]))
}

/// Which part of a version grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The third number, or the last one of versions with fewer or more.
    Patch,
    /// The second.
    Minor,
    /// The first.
    Major,
}

/// The next version of a level, as Semantic Versioning counts: `1.2.3` -> `1.2.4`, `1.3.0`, `2.0.0`. A pre-release grows
/// into its release: `1.3.0-rc.1` -> `1.3.0` as patch and as minor. Build metadata is dropped. None when the version
/// does not have that number.
#[must_use]
pub fn increase(version: &str, level: Level) -> Option<String> {
    if let Ok(mut semantic) = semver::Version::parse(version) {
        let is_pre = !semantic.pre.is_empty();
        let arrives = is_pre
            && match level {
                Level::Patch => true,
                Level::Minor => semantic.patch == 0,
                Level::Major => semantic.minor == 0 && semantic.patch == 0,
            };
        (semantic.pre, semantic.build) = (semver::Prerelease::EMPTY, semver::BuildMetadata::EMPTY);
        let semver::Version { major, minor, patch, .. } = semantic;
        let next = |n: u64| n.checked_add(1);
        (semantic.major, semantic.minor, semantic.patch) = match level {
            _ if arrives => (major, minor, patch),
            Level::Patch => (major, minor, next(patch)?),
            Level::Minor => (major, next(minor)?, 0),
            Level::Major => (next(major)?, 0, 0),
        };
        return Some(semantic.to_string());
    }
    let place = match level {
        Level::Patch => return bump(version),
        Level::Minor => 1,
        Level::Major => 0,
    };
    let mut numbers: Vec<u64> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let number = numbers.get_mut(place)?;
    *number = number.checked_add(1)?;
    numbers.iter_mut().skip(place + 1).for_each(|number| *number = 0);
    Some(numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}

struct Numeric<'a> {
    core: Vec<&'a str>,
    pre: Option<&'a str>,
    /// Commits since the version's tag, and the rest that `git describe` wrote.
    ahead: Option<(&'a str, &'a str)>,
    build: &'a str,
}

/// `1.2.0-3-gabc1234` or `1.2.0-3-gabc1234-dirty`: the version, the number of commits, the rest.
fn described(version: &str) -> Option<(&str, &str, &str)> {
    let clean = version.strip_suffix("-dirty").unwrap_or(version);
    let (head, hash) = clean.rsplit_once("-g")?;
    let (tag, count) = head.rsplit_once('-')?;
    let is_hash = hash.len() >= 4 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hash && !count.is_empty() && is_number(count)).then(|| (tag, count, &version[head.len()..]))
}

impl<'a> Numeric<'a> {
    fn parse(version: &'a str) -> Option<Numeric<'a>> {
        let digit_after = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
        let version = version.strip_prefix('v').filter(digit_after).unwrap_or(version);
        let (version, ahead) = match described(version) {
            Some((tag, count, rest)) => (tag, Some((count, rest))),
            None => (version, None),
        };
        let (rest, build) = version.split_once('+').unwrap_or((version, ""));
        let (core, pre) = match rest.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (rest, None),
        };
        let mut core: Vec<&str> = core.split('.').collect();
        if core.iter().any(|part| part.is_empty() || !is_number(part)) {
            return None;
        }
        while core.len() > 1 && core.last().is_some_and(|part| part.trim_start_matches('0').is_empty()) {
            core.pop();
        }
        Some(Numeric { core, pre, ahead, build })
    }

    fn compare(&self, other: &Numeric) -> Ordering {
        let core = compare_lists(&self.core, &other.core, compare_numbers);
        let pre = match (self.pre, other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => compare_identifiers(a, b),
        };
        let ahead = |version: &Numeric<'_>| version.ahead.map_or("0", |(count, _)| count).to_owned();
        let ahead = compare_numbers(&ahead(self), &ahead(other));
        let rest = |version: &Numeric<'_>| version.ahead.map_or("", |(_, rest)| rest).to_owned();
        core.then(pre)
            .then_with(|| compare_runs(self.build, other.build))
            .then(ahead)
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// By value, however long: no overflow.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn compare_identifiers(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
    compare_lists(&a, &b, |a, b| match (is_number(a), is_number(b)) {
        (true, true) => compare_numbers(a, b),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    })
}

fn compare_lists(a: &[&str], b: &[&str], compare: impl Fn(&str, &str) -> Ordering) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne());
    differing.unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn compare_runs(a: &str, b: &str) -> Ordering {
    compare_lists(&runs(a), &runs(b), |a, b| match (is_number(a), is_number(b)) {
        (true, true) => compare_numbers(a, b),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    })
}

fn runs(text: &str) -> Vec<&str> {
    let (mut runs, mut start) = (Vec::new(), 0);
    let digit_at = |i: usize| text.as_bytes()[i].is_ascii_digit();
    for i in 1..text.len() {
        if text.is_char_boundary(i) && digit_at(i) != digit_at(i - 1) {
            runs.push(&text[start..i]);
            start = i;
        }
    }
    runs.push(&text[start..]);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_one_order() {
        let ordered = [
            "alpha",
            "release-9",
            "release-10",
            "0.1.9",
            "0.1.10",
            "0.2.0-rc.1",
            "0.2.0-rc.2",
            "0.2.0-rc.10",
            "0.2.0-rc.x",
            "0.2",
            "0.2.0",
            "0.2.0+b1",
            "0.2.0.1",
            "1.0.0-5-gabc",
            "1.0.0",
            "1.0.0-2-gabcd",
            "v1.0.0-2-gabcd-dirty",
            "1.0.0-10-gabcd",
            "1.0.1-rc.1",
            "1.0.1-rc.1-4-gabcd",
            "1.0.1",
            "25.3.2.8",
            "25.10",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_last_number_is_bumped() {
        let cases =
            [("0.1.9", Some("0.1.10")), ("1.0.0-rc1", Some("1.0.0-rc2")), ("v7x", Some("v8x")), ("x", None)];
        for (version, expected) in cases {
            assert_eq!(bump(version).as_deref(), expected, "{version}");
        }
    }

    #[test]
    fn a_level_increases_as_semver_counts() {
        let cases = [
            ("1.2.3", Some("1.2.4"), Some("1.3.0"), Some("2.0.0")),
            ("1.3.0-rc.1", Some("1.3.0"), Some("1.3.0"), Some("2.0.0")),
            ("1.3.1-rc.1+b", Some("1.3.1"), Some("1.4.0"), Some("2.0.0")),
            ("1.2", Some("1.3"), Some("1.3"), Some("2.0")),
            ("25.3.2.8", Some("25.3.2.9"), Some("25.4.0.0"), Some("26.0.0.0")),
            ("7", Some("8"), None, Some("8")),
            ("x7", Some("x8"), None, None),
        ];
        for (version, patch, minor, major) in cases {
            let found = [Level::Patch, Level::Minor, Level::Major].map(|level| increase(version, level));
            assert_eq!(found.each_ref().map(Option::as_deref), [patch, minor, major], "{version}");
        }
    }

    proptest::proptest! {
        #[test]
        fn semantic_versions_stand_as_semver_says(
            a in "[0-2]\\.[0-2]\\.[0-9]{1}(-(rc|a)(\\.[1-9])?)?",
            b in "[0-2]\\.[0-2]\\.[0-9]{1}(-(rc|a)(\\.[1-9])?)?",
        ) {
            let expected = semver::Version::parse(&a).unwrap().cmp(&semver::Version::parse(&b).unwrap());
            proptest::prop_assert_eq!(compare(&a, &b), expected);
        }

        #[test]
        fn the_order_is_transitive(mut versions in proptest::collection::vec("[0-9a.+-]{0,6}", 3)) {
            versions.sort_by(|a, b| compare(a, b));
            proptest::prop_assert!(compare(&versions[0], &versions[2]).is_le());
        }
    }
}
