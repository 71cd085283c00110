//! One behavioural suite for all executors. A test hands it an [`crate::executor::Executor`] and gets back which
//! rules hold; the same table of jobs runs everywhere, so that a job's behaviour does not depend on where it runs.

mod bench;
mod cases;
mod flows;

pub use bench::{Bench, Report};

use crate::executor::Executor;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: String,
    /// What was seen instead.
    pub seen: String,
}

/// Runs everything that makes sense for the executor; the number of rules that were tried, and those that do not
/// hold.
pub async fn suite(executor: &Executor) -> (usize, Vec<Broken>) {
    let (mut tried, mut broken) = (0, Vec::new());
    for case in cases::CASES.iter().filter(|case| case.applies(executor)) {
        tried += 1;
        if let Err(seen) = case.run(executor).await {
            broken.push(Broken { rule: case.rule.to_owned(), seen });
        }
    }
    if !matches!(executor, Executor::Fake(_)) {
        for (rule, result) in flows::run(executor).await {
            tried += 1;
            broken.extend(result.err().map(|seen| Broken { rule: rule.to_owned(), seen }));
        }
    }
    (tried, broken)
}
