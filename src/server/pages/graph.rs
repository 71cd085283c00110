//! The graph of needs, as an SVG that is drawn here, so that it is there without a script.

use super::pipeline::Shown;
use super::words::look;
use handlebars::html_escape;
use pipelines::plan::Plan;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: usize = 188;
const HEIGHT: usize = 36;
const GAP: usize = 56;
const ROW: usize = 48;
const MARGIN: usize = 8;
/// Letters of a name that fit.
const LETTERS: usize = 20;
/// More edges than this, and those that only follow from the order of stages are left out.
const MANY_EDGES: usize = 120;

/// Where a job stands.
struct Spot {
    column: usize,
    row: usize,
}

/// Draws the jobs from left to right, each after what it waits for. Jobs without a row yet are left out.
pub(super) fn draw(plan: &Plan, jobs: &[Shown]) -> String {
    let rows: BTreeMap<&str, &Shown> = jobs.iter().map(|job| (job.name.as_str(), job)).collect();
    let before = before(plan);
    let spots = spots(plan, &before);
    let columns = spots.iter().map(|spot| spot.column + 1).max().unwrap_or(0);
    let lines = spots.iter().map(|spot| spot.row + 1).max().unwrap_or(0);
    let (width, height) =
        (columns * (WIDTH + GAP) - GAP.min(columns * GAP) + 2 * MARGIN, lines * ROW + 2 * MARGIN);
    let mut out = format!(
        "<svg class=\"graph\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"jobs and what they wait for\">"
    );
    let count: usize = before.iter().map(Vec::len).sum();
    for (to, from) in before.iter().enumerate() {
        let implied = plan.jobs[to].needs.is_none();
        for &from in from.iter().filter(|_| !implied || count <= MANY_EDGES) {
            edge(&mut out, &spots[from], &spots[to], implied);
        }
    }
    for (job, spot) in plan.jobs.iter().zip(&spots) {
        node(&mut out, &job.name, rows.get(job.name.as_str()).copied(), spot);
    }
    out.push_str("</svg>");
    out
}

/// For each job the positions of those that it waits for: its needs, or all jobs of the stage before.
pub(super) fn before(plan: &Plan) -> Vec<Vec<usize>> {
    let at: BTreeMap<&str, usize> =
        plan.jobs.iter().enumerate().map(|(at, job)| (job.name.as_str(), at)).collect();
    let stage = |name: &str| plan.stages.iter().position(|stage| stage == name).unwrap_or(0);
    let of_stage = |wanted: usize| -> Vec<usize> {
        let here = |(_, job): &(usize, &pipelines::plan::Job)| stage(&job.stage) == wanted;
        plan.jobs.iter().enumerate().filter(here).map(|(at, _)| at).collect()
    };
    let of = |(own, job): (usize, &pipelines::plan::Job)| -> Vec<usize> {
        let mut before: Vec<usize> = match &job.needs {
            Some(needs) => needs.iter().filter_map(|need| at.get(need.job.as_str()).copied()).collect(),
            None => {
                let earlier = (0..stage(&job.stage)).rev().map(of_stage);
                earlier.into_iter().find(|jobs| !jobs.is_empty()).unwrap_or_default()
            }
        };
        before.retain(|other| *other != own);
        before
    };
    plan.jobs.iter().enumerate().map(of).collect()
}

/// A column after all that it waits for; in a column, near the middle of them.
fn spots(plan: &Plan, before: &[Vec<usize>]) -> Vec<Spot> {
    let mut columns = vec![0_usize; plan.jobs.len()];
    // each round moves every job behind what it waits for; a plan without a circle settles in as many as it has jobs
    for _ in 0..plan.jobs.len() {
        let next: Vec<usize> =
            before.iter().map(|from| from.iter().map(|&at| columns[at] + 1).max().unwrap_or(0)).collect();
        if next == columns {
            break;
        }
        columns = next.into_iter().map(|column| column.min(plan.jobs.len())).collect();
    }
    let mut rows = vec![0_usize; plan.jobs.len()];
    for column in 0..=columns.iter().copied().max().unwrap_or(0) {
        let mut here: Vec<usize> = (0..columns.len()).filter(|&at| columns[at] == column).collect();
        let middle = |at: usize| {
            let from = &before[at];
            if from.is_empty() {
                at * 1000
            } else {
                from.iter().map(|&f| rows[f] * 1000).sum::<usize>() / from.len()
            }
        };
        let order: BTreeMap<usize, usize> = here.iter().map(|&at| (at, middle(at))).collect();
        here.sort_by_key(|at| (order[at], *at));
        for (row, at) in here.into_iter().enumerate() {
            rows[at] = row;
        }
    }
    columns.into_iter().zip(rows).map(|(column, row)| Spot { column, row }).collect()
}

fn corner(spot: &Spot) -> (usize, usize) {
    (MARGIN + spot.column * (WIDTH + GAP), MARGIN + spot.row * ROW)
}

fn edge(out: &mut String, from: &Spot, to: &Spot, implied: bool) {
    let ((x1, y1), (x2, y2)) = (corner(from), corner(to));
    let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
    let kind = if implied { "edge implied" } else { "edge" };
    let half = GAP / 2;
    let end = x2.saturating_sub(half);
    // writing into a text can't fail
    let _ = write!(out, "<path class=\"{kind}\" d=\"M{x1} {y1}C{} {y1} {end} {y2} {x2} {y2}\"/>", x1 + half);
}

fn node(out: &mut String, name: &str, job: Option<&Shown>, spot: &Spot) {
    let (x, y) = corner(spot);
    let status = job.map_or("created", |job| job.look.as_str());
    let look = look(status);
    let shown: String = if name.chars().count() > LETTERS {
        name.chars().take(LETTERS - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let (open, close) = match job {
        Some(job) => (format!("<a href=\"{}\">", html_escape(&job.url)), "</a>"),
        None => ("<g>".to_owned(), "</g>"),
    };
    let _ = write!(
        out,
        "{open}<title>{}: {}</title><rect class=\"node is-{look}\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" rx=\"6\"/><svg class=\"icon is-{look}\" x=\"{}\" y=\"{}\" width=\"16\" height=\"16\">\
         <use href=\"/assets/icons.svg#{look}\"/></svg><text x=\"{}\" y=\"{}\">{}</text>{close}",
        html_escape(name),
        status.replace('_', " "),
        x + 10,
        y + 10,
        x + 34,
        y + 23,
        html_escape(&shown),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::plan::{Job, Need};

    fn need(job: &str) -> Need {
        Need { job: job.into(), artifacts: true, optional: false }
    }

    fn plan() -> Plan {
        let mut quick = Job::new("quick", "deploy");
        quick.needs = Some(vec![need("build")]);
        let jobs =
            vec![Job::new("build", "build"), Job::new("<b>test", "test"), Job::new("ship", "deploy"), quick];
        let stages = ["build", "test", "deploy"].map(str::to_owned).to_vec();
        Plan { stages, jobs, ..Plan::default() }
    }

    #[test]
    fn a_job_stands_behind_its_needs_and_not_behind_its_stage() {
        let plan = plan();
        let before = before(&plan);
        assert_eq!(before, [vec![], vec![0], vec![1], vec![0]]);
        let columns: Vec<usize> = spots(&plan, &before).iter().map(|spot| spot.column).collect();
        assert_eq!(columns, [0, 1, 2, 1]);
    }

    #[test]
    fn two_jobs_never_share_a_spot() {
        let mut plan = plan();
        for number in 0..30 {
            let mut job = Job::new(format!("j{number}"), "test");
            job.needs = (number % 3 == 0).then(|| vec![need("build"), need("gone")]);
            plan.jobs.push(job);
        }
        let spots = spots(&plan, &before(&plan));
        let mut taken: Vec<(usize, usize)> = spots.iter().map(|spot| (spot.column, spot.row)).collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), plan.jobs.len());
    }

    #[test]
    fn names_are_texts() {
        let drawn = draw(&plan(), &[]);
        assert!(drawn.contains("&lt;b&gt;test") && !drawn.contains("<b>"), "{drawn}");
    }

    #[test]
    fn a_circle_in_a_broken_plan_ends() {
        let mut plan = plan();
        plan.jobs[0].needs = Some(vec![need("ship")]);
        assert!(draw(&plan, &[]).ends_with("</svg>"));
    }
}
