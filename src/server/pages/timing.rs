//! Jobs over time, as an SVG: waiting, running, and the path that decided how long all took.

use super::graph::before;
use super::pipeline::Shown;
use super::words::{look, span};
use handlebars::html_escape;
use pipelines::plan::Plan;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const ROW: usize = 40;
const TOP: usize = 24;

/// Draws all jobs that were queued, between `times`; a text when there is none.
pub(super) fn draw(plan: &Plan, jobs: &[Shown], times: Option<(i64, i64)>) -> String {
    let Some((from, to)) = times else {
        return "<p class=\"quiet\">No job has started yet.</p>".to_owned();
    };
    let mut shown: Vec<&Shown> = jobs.iter().filter(|job| job.started_at.is_some()).collect();
    shown.sort_by_key(|job| (job.started_at, job.position));
    let critical = critical(plan, jobs);
    let height = TOP + shown.len() * ROW + 8;
    let mut out = format!(
        "<svg class=\"timing\" width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"jobs over time\">"
    );
    ticks(&mut out, to - from, height);
    for (row, job) in shown.into_iter().enumerate() {
        bar(&mut out, job, (from, to), TOP + row * ROW, critical.contains(&job.position));
    }
    out.push_str("</svg>");
    out
}

/// Lines at round times, four to eight of them.
fn ticks(out: &mut String, length: i64, height: usize) {
    const STEPS: [i64; 14] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600];
    let seconds = (length / 1000).max(1);
    let step = STEPS.iter().copied().find(|step| seconds / step <= 6).unwrap_or(7 * 24 * 3600);
    for at in (0..=seconds / step).map(|nth| nth * step) {
        let x = percent(at * 1000, length);
        // the last would leave on the right
        let said = if at * 1000 * 100 > length * 92 { String::new() } else { round(at) };
        // writing into a text can't fail
        let _ = write!(
            out,
            "<line class=\"tick\" x1=\"{x}\" x2=\"{x}\" y1=\"16\" y2=\"{height}\"/>\
             <text class=\"tick\" x=\"{x}\" dx=\"3\" y=\"12\">{said}</text>",
        );
    }
}

fn round(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s} s"),
        (m, 0) if m % 60 == 0 => format!("{} h", m / 60),
        (m, 0) => format!("{m} min"),
        (m, s) => format!("{m}:{s:02}"),
    }
}

fn percent(part: i64, whole: i64) -> String {
    format!("{:.2}%", (part as f64 / whole.max(1) as f64 * 100.0).clamp(0.0, 100.0))
}

fn bar(out: &mut String, job: &Shown, (from, to): (i64, i64), y: usize, critical: bool) {
    let Some(started) = job.started_at else { return };
    let ended = job.finished_at.unwrap_or(to);
    let queued = job.queued_at.unwrap_or(started).min(started);
    let length = to - from;
    let (wait, run) = (span(started - queued), span(ended - started));
    let name = html_escape(&job.name);
    let marked = if critical { " critical" } else { "" };
    // a name that would leave on the right ends where its bar does
    let late = (started - from) * 10 > length * 6;
    let (x, anchor) = if late {
        (percent(ended - from, length), "end")
    } else {
        (percent(started - from, length), "start")
    };
    let _ = write!(
        out,
        "<a href=\"{}\" class=\"bar{marked}\"><title>{name}: {}, waited {wait}, ran {run}</title>\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{name} <tspan>{run}</tspan></text>\
         <rect class=\"waited\" x=\"{}\" width=\"{}\" y=\"{}\" height=\"10\"/>\
         <rect class=\"ran is-{}\" x=\"{}\" width=\"{}\" y=\"{}\" height=\"10\" rx=\"2\"/></a>",
        html_escape(&job.url),
        job.status.replace('_', " "),
        y + 15,
        percent(queued - from, length),
        percent(started - queued, length),
        y + 20,
        look(&job.look),
        percent(started - from, length),
        percent((ended - started).max(length / 400), length),
        y + 20,
    );
}

/// Positions of the jobs that one after the other decided when the last one ended.
fn critical(plan: &Plan, jobs: &[Shown]) -> BTreeSet<i64> {
    let before = before(plan);
    let ended = |at: i64| jobs.iter().find(|job| job.position == at).and_then(|job| job.finished_at);
    let mut path = BTreeSet::new();
    let mut at = jobs.iter().filter(|job| job.started_at.is_some()).max_by_key(|job| job.finished_at);
    while let Some(job) = at {
        if !path.insert(job.position) {
            break;
        }
        let from = usize::try_from(job.position).ok().and_then(|position| before.get(position));
        let last = from.into_iter().flatten().filter_map(|&from| i64::try_from(from).ok());
        let last = last.filter(|from| ended(*from).is_some()).max_by_key(|from| ended(*from));
        at = last.and_then(|position| jobs.iter().find(|job| job.position == position));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shares_of_the_width() {
        assert_eq!(percent(5, 20), "25.00%");
        assert_eq!(percent(30, 20), "100.00%");
        assert_eq!(percent(1, 0), "100.00%");
    }

    #[test]
    fn times_on_the_axis_are_round() {
        let said: Vec<String> = [0, 30, 60, 90, 3600].into_iter().map(round).collect();
        assert_eq!(said, ["0 s", "30 s", "1 min", "1:30", "1 h"]);
    }
}
