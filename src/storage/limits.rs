//! Which things have to go. No clock, no disk: tested as a table.

use super::{Item, Kind};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Snapshots of a project that are kept: the newest makes the next one cheap, the others serve going back and forth.
const SNAPSHOTS: usize = 10;

/// What stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Runs of each project.
    pub runs: Option<usize>,
    /// What nobody used for so long goes.
    pub age: Option<Duration>,
    /// Bytes of everything together.
    pub size: Option<u64>,
}

/// Indexes of what is to be removed, and why it never is everything: the newest run and the newest snapshot of a
/// project stay, whatever their age and size.
pub fn victims(items: &[Item], limits: &Limits, now: SystemTime) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&index| Reverse((items[index].used, number(&items[index]))));
    let mut ranks: HashMap<(Kind, &Path), usize> = HashMap::new();
    let mut victims = Vec::new();
    let mut left: Vec<usize> = Vec::new();
    for index in order {
        let item = &items[index];
        let rank = ranks.entry((item.kind, item.project.as_path())).or_insert(0);
        let newest = *rank == 0 && item.kind != Kind::Cache;
        let most = match item.kind {
            Kind::Run => limits.runs,
            Kind::Snapshot => Some(SNAPSHOTS),
            Kind::Cache => None,
        };
        let old = limits.age.is_some_and(|age| now.duration_since(item.used).is_ok_and(|since| since > age));
        let beyond = most.is_some_and(|most| *rank >= most);
        *rank += 1;
        if newest {
            continue;
        }
        if old || beyond {
            victims.push(index);
        } else {
            left.push(index);
        }
    }
    if let Some(most) = limits.size {
        let gone: u64 = victims.iter().map(|&index| items[index].size).sum();
        let mut total = items.iter().map(|item| item.size).sum::<u64>() - gone;
        // the oldest first
        while total > most
            && let Some(index) = left.pop()
        {
            total -= items[index].size;
            victims.push(index);
        }
    }
    victims
}

/// Runs may have the same time: a later one has a greater number.
fn number(item: &Item) -> u64 {
    item.name.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const DAY: Duration = Duration::from_secs(86_400);

    fn item(kind: Kind, name: &str, days: u32, size: u64) -> Item {
        let used = SystemTime::UNIX_EPOCH + DAY * (1000 - days);
        Item {
            kind,
            project: PathBuf::from("/p"),
            name: name.into(),
            paths: Vec::new(),
            lock: None,
            size,
            used,
        }
    }

    fn names(items: &[Item], limits: Limits) -> Vec<String> {
        let now = SystemTime::UNIX_EPOCH + DAY * 1000;
        let mut names: Vec<String> =
            victims(items, &limits, now).iter().map(|&i| items[i].name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_beyond_a_limit_goes_and_the_newest_stays() {
        let items = [
            item(Kind::Run, "1", 40, 10),
            item(Kind::Run, "2", 20, 10),
            item(Kind::Run, "3", 20, 10),
            item(Kind::Cache, "c", 35, 5),
            item(Kind::Cache, "d", 1, 5),
            item(Kind::Snapshot, "s", 90, 0),
        ];
        let none = Limits::default();
        assert_eq!(names(&items, none), Vec::<String>::new());
        assert_eq!(names(&items, Limits { runs: Some(2), ..none }), ["1"]);
        assert_eq!(names(&items, Limits { runs: Some(0), ..none }), ["1", "2"]);
        assert_eq!(names(&items, Limits { age: Some(DAY * 30), ..none }), ["1", "c"]);
        assert_eq!(names(&items, Limits { size: Some(26), ..none }), ["1", "c"]);
        assert_eq!(names(&items, Limits { size: Some(0), ..none }), ["1", "2", "c", "d"]);
        assert_eq!(names(&items, Limits { size: Some(39), ..none }), ["1"]);
    }

    #[test]
    fn snapshots_are_limited_in_number() {
        let items: Vec<Item> = (0..12).map(|n| item(Kind::Snapshot, &format!("s{n:02}"), n, 0)).collect();
        assert_eq!(names(&items, Limits::default()), ["s10", "s11"]);
    }
}
