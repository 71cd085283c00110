//! How long jobs usually take.

use super::stored::{Line, stored};
use crate::settings::State;
use pipelines::status::Status;
use std::collections::HashMap;

/// Runs that are looked at: enough for a median, few enough to be read while the first job starts.
const RUNS: usize = 10;

/// The median time of each job's successes in the last runs, in milliseconds. What can't be read tells nothing.
pub fn estimates(state: &State) -> HashMap<String, u64> {
    let mut times: HashMap<String, Vec<u64>> = HashMap::new();
    for run in stored(state).unwrap_or_default().into_iter().take(RUNS) {
        let Ok(lines) = run.job_lines() else { continue };
        successes(lines, &mut times);
    }
    times.into_iter().map(|(job, times)| (job, median(times))).collect()
}

fn successes(lines: impl Iterator<Item = Line>, times: &mut HashMap<String, Vec<u64>>) {
    let mut began: HashMap<String, u64> = HashMap::new();
    for line in lines {
        let Some((job, status)) = line.job.zip(line.status) else { continue };
        match status {
            Status::Running => drop(began.insert(job, line.at)),
            Status::Success => {
                let took = began.remove(&job).map(|began| line.at.saturating_sub(began));
                times.entry(job).or_default().extend(took);
            }
            _ => {}
        }
    }
    times.retain(|_, times| !times.is_empty());
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_successful_attempts_count() {
        let line = |at: u64, job: &str, status: &str| {
            let text = format!(r#"{{"at":{at},"event":"job_status","job":"{job}","status":"{status}"}}"#);
            serde_json::from_str::<Line>(&text).expect("a line")
        };
        let lines = [
            line(0, "a", "running"),
            line(5, "a", "failed"),
            line(10, "a", "running"),
            line(40, "a", "success"),
            line(41, "b", "success"),
            line(50, "c", "running"),
        ];
        let mut times = HashMap::new();
        successes(lines.into_iter(), &mut times);
        assert_eq!(times, [("a".to_owned(), vec![30])].into());
        assert_eq!(median(vec![9, 1, 5]), 5);
    }
}
