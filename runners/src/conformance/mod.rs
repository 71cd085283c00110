//! One behavioural suite for all executors. A test hands it an [`crate::executor::Executor`] and gets back which
//! rules hold; the same table of jobs runs everywhere, so that a job's behaviour does not depend on where it runs.

mod bench;
mod cases;
mod flows;

pub use bench::{Bench, Report};

use crate::executor::Executor;
use futures_util::future::{self, FutureExt, LocalBoxFuture};
use futures_util::stream::{self, StreamExt};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: String,
    /// What was seen instead.
    pub seen: String,
}

/// So many rules are tried at once: their jobs mostly wait, for engines and for clocks.
const AT_ONCE: usize = 6;

/// Tries one rule; what was seen where it does not hold.
type Trial<'e> = LocalBoxFuture<'e, Result<(), String>>;

/// Runs everything that makes sense for the executor; the number of rules that were tried, and those that do not
/// hold.
pub async fn suite(executor: &Executor) -> (usize, Vec<Broken>) {
    let cases = cases::CASES.iter().filter(|case| case.applies(executor));
    let mut rules: Vec<(&str, Trial<'_>)> =
        cases.map(|case| (case.rule, case.run(executor).boxed_local())).collect();
    if !matches!(executor, Executor::Fake(_)) {
        rules.extend(flows::rules(executor));
    }
    let tried = rules.len();
    let trials = stream::iter(rules)
        .map(async |(rule, trial)| trial.await.err().map(|seen| Broken { rule: rule.to_owned(), seen }));
    let broken = trials.buffer_unordered(AT_ONCE).filter_map(future::ready).collect().await;
    (tried, broken)
}
