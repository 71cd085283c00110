//! Release versions: any string, in a total order.
//!
//! Versions whose core is dot-separated numbers of any count (`1.2`, `25.3.2.8`) compare by these, then by
//! Semantic Versioning 2.0.0 §11: a pre-release comes before its release. So two semantic versions stand as
//! semver says, and OTP's stand as OTP counts. All other strings come before those and compare by runs of
//! digits and of other characters.

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

struct Numeric<'a> {
    core: Vec<&'a str>,
    pre: Option<&'a str>,
    build: &'a str,
}

impl<'a> Numeric<'a> {
    fn parse(version: &'a str) -> Option<Numeric<'a>> {
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
        Some(Numeric { core, pre, build })
    }

    fn compare(&self, other: &Numeric) -> Ordering {
        let core = compare_lists(&self.core, &other.core, compare_numbers);
        let pre = match (self.pre, other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => compare_identifiers(a, b),
        };
        core.then(pre).then_with(|| compare_runs(self.build, other.build))
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
