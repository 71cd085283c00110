//! Running only some jobs of a plan.

use crate::diagnostic::did_you_mean;
use crate::plan::{Job, Plan};
use std::collections::{BTreeSet, HashMap};

/// Which jobs of a plan to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names; the name of a parallel job stands for all its instances. Empty: all jobs.
    pub jobs: Vec<String>,
    /// Also all that these wait for: their needs, or else the earlier stages; transitively.
    pub needs: bool,
    /// All jobs of these stages.
    pub stages: Vec<String>,
    /// These jobs, what they wait for, and all jobs of the stages before theirs: the pipeline as far as them.
    pub until: Vec<String>,
}

/// A name that no job, or no stage, of the plan has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has no {what} `{name}`{}", near.as_ref().map_or(String::new(), |n| format!("; did you mean `{n}`?")))]
pub struct UnknownJob {
    /// `job` or `stage`.
    pub what: &'static str,
    /// What was asked for.
    pub name: String,
    /// One with a similar name.
    pub near: Option<String>,
}

/// Is the job meant by that name: its own, or that of the parallel job it is an instance of?
pub fn names(job: &Job, name: &str) -> bool {
    let instance = |rest: &str| rest.starts_with(": [") || rest.strip_prefix(' ').is_some_and(is_fraction);
    job.name == name || (job.work.parallel.is_some() && job.name.strip_prefix(name).is_some_and(instance))
}

fn is_fraction(text: &str) -> bool {
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    text.split_once('/').is_some_and(|(index, total)| number(index) && number(total))
}

/// The plan with the selected jobs only: for scheduling the others don't exist, so nothing waits for them.
///
/// # Errors
/// A name fits no job, or no stage.
pub fn select(plan: &Plan, selection: &Selection) -> Result<Plan, UnknownJob> {
    if selection.jobs.is_empty() && selection.stages.is_empty() && selection.until.is_empty() {
        return Ok(plan.clone());
    }
    let mut chosen = meant(plan, &selection.jobs)?;
    if selection.needs {
        add_predecessors(plan, &mut chosen);
    }
    let mut last = meant(plan, &selection.until)?;
    if !last.is_empty() {
        let stage = |index: usize| plan.stages.iter().position(|s| *s == plan.jobs[index].stage);
        let furthest = last.iter().filter_map(|index| stage(*index)).max();
        add_predecessors(plan, &mut last);
        chosen.extend((0..plan.jobs.len()).filter(|index| stage(*index) < furthest));
        chosen.extend(last);
    }
    for name in &selection.stages {
        let known = plan.stages.iter().any(|stage| stage == name);
        if !known {
            let near = did_you_mean(name, plan.stages.iter().map(String::as_str)).map(str::to_owned);
            return Err(UnknownJob { what: "stage", name: name.clone(), near });
        }
        chosen.extend((0..plan.jobs.len()).filter(|index| plan.jobs[*index].stage == *name));
    }
    Ok(only(plan, |index| chosen.contains(&index)))
}

/// The plan with only the jobs at the places that `keep` wants, and their stages.
pub fn only(plan: &Plan, keep: impl Fn(usize) -> bool) -> Plan {
    let kept = plan.jobs.iter().enumerate().filter(|(index, _)| keep(*index));
    let jobs: Vec<Job> = kept.map(|(_, job)| job.clone()).collect();
    let used: BTreeSet<&str> = jobs.iter().map(|j| j.stage.as_str()).collect();
    let stages = plan.stages.iter().filter(|s| used.contains(s.as_str())).cloned().collect();
    Plan { name: plan.name.clone(), auto_cancel: plan.auto_cancel.clone(), stages, jobs }
}

/// The jobs that are meant by these names.
fn meant(plan: &Plan, wanted: &[String]) -> Result<BTreeSet<usize>, UnknownJob> {
    let mut chosen = BTreeSet::new();
    for name in wanted {
        let found: Vec<usize> = (0..plan.jobs.len()).filter(|i| names(&plan.jobs[*i], name)).collect();
        chosen.extend(&found);
        if found.is_empty() {
            let near = did_you_mean(name, plan.jobs.iter().map(|j| j.name.as_str())).map(str::to_owned);
            return Err(UnknownJob { what: "job", name: name.clone(), near });
        }
    }
    Ok(chosen)
}

fn add_predecessors(plan: &Plan, chosen: &mut BTreeSet<usize>) {
    let by_name: HashMap<&str, usize> =
        plan.jobs.iter().enumerate().map(|(i, j)| (j.name.as_str(), i)).collect();
    let stage_of: HashMap<&str, usize> =
        plan.stages.iter().enumerate().map(|(i, s)| (s.as_str(), i)).collect();
    let stages: Vec<usize> =
        plan.jobs.iter().map(|j| stage_of.get(j.stage.as_str()).copied().unwrap_or(0)).collect();
    let mut open: Vec<usize> = chosen.iter().copied().collect();
    let mut taken_before = 0;
    while let Some(index) = open.pop() {
        match &plan.jobs[index].needs {
            Some(needs) => {
                let needed = needs.iter().filter_map(|need| by_name.get(need.job.as_str()).copied());
                open.extend(needed.filter(|needed| chosen.insert(*needed)));
            }
            // all earlier stages, once for the latest such job
            None if stages[index] > taken_before => {
                taken_before = stages[index];
                let earlier = (0..plan.jobs.len()).filter(|other| stages[*other] < taken_before);
                open.extend(earlier.filter(|earlier| chosen.insert(*earlier)));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AllowFailure, Instance, Need, When, Work};

    fn job(name: &str, stage: &str, needs: Option<&[&str]>) -> Job {
        let need = |n: &&str| Need { job: (*n).to_owned(), artifacts: true, optional: false };
        let base = serde_json::json!({
            "name": name, "stage": stage, "when": When::OnSuccess, "allow_failure": AllowFailure::Static(false),
        });
        let mut job: Job = serde_json::from_value(base).unwrap();
        job.needs = needs.map(|n| n.iter().map(need).collect());
        if name.contains('/') || name.contains('[') {
            job.work = Work { parallel: Some(Instance { index: 1, total: 2 }), ..Work::default() };
        }
        job
    }

    fn plan() -> Plan {
        let jobs = vec![
            job("lint", "build", None),
            job("compile", "build", None),
            job("unit 1/2", "test", Some(&["compile"])),
            job("unit 2/2", "test", Some(&["compile"])),
            job("site: [a]", "test", None),
            job("deploy", "deploy", Some(&["unit 1/2"])),
            job("report", "deploy", None),
        ];
        let stages = ["build", "test", "deploy"].map(str::to_owned).to_vec();
        Plan { stages, jobs, ..Plan::default() }
    }

    #[test]
    fn selection_takes_named_jobs_and_what_they_wait_for() {
        let table: [(&str, bool, &str); 8] = [
            ("", false, "lint,compile,unit 1/2,unit 2/2,site: [a],deploy,report"),
            ("deploy", false, "deploy"),
            ("deploy", true, "compile,unit 1/2,deploy"),
            ("unit", true, "compile,unit 1/2,unit 2/2"),
            ("site", true, "lint,compile,site: [a]"),
            ("unit 2/2", false, "unit 2/2"),
            ("lint,lint", true, "lint"),
            ("report", true, "lint,compile,unit 1/2,unit 2/2,site: [a],report"),
        ];
        for (wanted, needs, expected) in table {
            let jobs = wanted.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
            let selected = select(&plan(), &Selection { jobs, needs, ..Selection::default() }).unwrap();
            let names: Vec<&str> = selected.jobs.iter().map(|j| j.name.as_str()).collect();
            assert_eq!(names.join(","), expected, "{wanted} {needs}");
        }
    }

    #[test]
    fn a_pipeline_is_run_stage_by_stage_or_as_far_as_a_job() {
        let list = |text: &str| text.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        let table = [
            ("test", "", "", "unit 1/2,unit 2/2,site: [a]"),
            ("build,deploy", "", "", "lint,compile,deploy,report"),
            ("", "deploy", "", "lint,compile,unit 1/2,unit 2/2,site: [a],deploy"),
            ("", "unit", "", "lint,compile,unit 1/2,unit 2/2"),
            ("", "compile", "", "compile"),
            ("build", "", "deploy", "lint,compile,deploy"),
        ];
        for (stages, until, jobs, expected) in table {
            let (stages, until, jobs) = (list(stages), list(until), list(jobs));
            let selection = Selection { jobs, stages, until, needs: false };
            let selected = select(&plan(), &selection).unwrap();
            let names: Vec<&str> = selected.jobs.iter().map(|j| j.name.as_str()).collect();
            assert_eq!(names.join(","), expected, "{selection:?}");
        }
        let unknown = Selection { stages: vec!["tset".to_owned()], ..Selection::default() };
        let error = select(&plan(), &unknown).unwrap_err();
        assert_eq!(error.to_string(), "the pipeline has no stage `tset`; did you mean `test`?");
    }

    #[test]
    fn stages_without_a_selected_job_vanish() {
        let selection = Selection { jobs: vec!["deploy".to_owned()], ..Selection::default() };
        assert_eq!(select(&plan(), &selection).unwrap().stages, ["deploy"]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_suggests() {
        let selection = Selection { jobs: vec!["deplyo".to_owned()], ..Selection::default() };
        let error = select(&plan(), &selection).unwrap_err();
        assert_eq!(error.to_string(), "the pipeline has no job `deplyo`; did you mean `deploy`?");
    }
}
