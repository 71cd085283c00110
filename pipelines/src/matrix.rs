//! `parallel:matrix`: the product of the values, and the names of the instances.

use indexmap::IndexMap;

/// One entry of a matrix: variable to its values, all as text.
pub type Combination = IndexMap<String, Vec<String>>;

/// Largest number of instances of one job.
pub const LIMIT: usize = 200;

/// Number of instances that the entries make, without making them.
pub fn count(entries: &[Combination]) -> usize {
    let one = |e: &Combination| e.values().fold(1usize, |n, values| n.saturating_mul(values.len()));
    entries.iter().map(one).fold(0, usize::saturating_add)
}

/// All instances: entry by entry, in each the first variable changes slowest.
pub fn product(entries: &[Combination]) -> Vec<IndexMap<String, String>> {
    let mut all = Vec::new();
    for entry in entries {
        let mut rows = vec![IndexMap::new()];
        for (name, values) in entry {
            let with = |row: &IndexMap<String, String>| {
                let row = row.clone();
                values.iter().map(move |value| {
                    let mut next = row.clone();
                    next.insert(name.clone(), value.clone());
                    next
                })
            };
            rows = rows.iter().flat_map(with).collect();
        }
        all.append(&mut rows);
    }
    all
}

/// `build: [linux, x86]`: names hold the values only.
pub fn name(job: &str, instance: &IndexMap<String, String>) -> String {
    let values: Vec<&str> = instance.values().map(String::as_str).collect();
    format!("{job}: [{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pairs: &[(&str, &[&str])]) -> Combination {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.iter().map(|s| (*s).to_owned()).collect())).collect()
    }

    #[test]
    fn the_first_variable_changes_slowest() {
        let entries = [entry(&[("A", &["1", "2"]), ("B", &["x", "y"])]), entry(&[("C", &["z"])])];
        let names: Vec<String> = product(&entries).iter().map(|i| name("j", i)).collect();
        assert_eq!(names, ["j: [1, x]", "j: [1, y]", "j: [2, x]", "j: [2, y]", "j: [z]"]);
        assert_eq!(count(&entries), 5);
    }

    #[test]
    fn counting_does_not_overflow() {
        let many = vec!["v".to_owned(); 1000];
        let big: Combination = (0..30).map(|i| (format!("V{i}"), many.clone())).collect();
        assert_eq!(count(&[big.clone(), big]), usize::MAX);
    }
}
