//! The order as an indented tree: each job below the need that it waits for longest.

use super::order::{Start, parents, starts};
use crate::report::terminal::text;
use pipelines::plan::{Plan, When};

/// What is left for remarks at least.
const REMARK: usize = 16;

struct Row {
    tree: String,
    job: usize,
}

/// The tree in at most `columns` columns.
pub fn tree(plan: &Plan, columns: usize) -> String {
    let starts = starts(plan);
    let parents = parents(&starts);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); plan.jobs.len()];
    let mut roots: Vec<(usize, Vec<usize>)> = Vec::new();
    for (job, parent) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(job),
            None => {
                let group = if let Start::Stages(stage) = starts[job] { stage } else { 0 };
                match roots.iter_mut().find(|(known, _)| *known == group) {
                    Some((_, jobs)) => jobs.push(job),
                    None => roots.push((group, vec![job])),
                }
            }
        }
    }
    roots.sort_by_key(|(group, _)| *group);
    let groups: Vec<(String, Vec<Row>)> =
        roots.into_iter().map(|(group, jobs)| (title(plan, group), rows(plan, &jobs, &children))).collect();
    let all = || groups.iter().flat_map(|(_, rows)| rows);
    let stages = plan.stages.iter().map(|stage| text::width(stage)).max().unwrap_or(0);
    let widest = all().map(|row| text::width(&row.tree)).max().unwrap_or(0);
    let names = widest.min(columns.saturating_sub(stages + REMARK + 4).max(columns / 3));
    let mut out = String::new();
    for (i, (title, rows)) in groups.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        out.push_str(&format!("{gap}{}\n", text::fit(title, columns)));
        for row in rows {
            let remark = remark(plan, &starts[row.job], parents[row.job], row.job);
            let line = format!(
                "{}  {}  {remark}",
                text::pad(&row.tree, names),
                text::pad(&plan.jobs[row.job].stage, stages)
            );
            out.push_str(text::fit(line.trim_end(), columns).trim_end());
            out.push('\n');
        }
    }
    out
}

fn title(plan: &Plan, stage: usize) -> String {
    match stage {
        0 => "at once".to_owned(),
        1 => format!("after stage {}", plan.stages[0]),
        n => format!("after stages {}", plan.stages[..n].join(", ")),
    }
}

/// The jobs and all below them. A stack of its own: a chain of needs can be as long as the pipeline.
fn rows(plan: &Plan, jobs: &[usize], children: &[Vec<usize>]) -> Vec<Row> {
    let mut rows = Vec::new();
    let push = |stack: &mut Vec<(usize, String, bool)>, jobs: &[usize], indentation: &str| {
        for (i, job) in jobs.iter().enumerate().rev() {
            stack.push((*job, indentation.to_owned(), i + 1 == jobs.len()));
        }
    };
    let mut stack = Vec::new();
    push(&mut stack, jobs, "");
    while let Some((job, indentation, last)) = stack.pop() {
        let branch = if last { "└─ " } else { "├─ " };
        rows.push(Row { tree: format!("{indentation}{branch}{}", text::plain(&plan.jobs[job].name)), job });
        let below = format!("{indentation}{}", if last { "   " } else { "│  " });
        push(&mut stack, &children[job], &below);
    }
    rows
}

fn remark(plan: &Plan, start: &Start, parent: Option<usize>, job: usize) -> String {
    let mut remarks: Vec<String> = Vec::new();
    match plan.jobs[job].when {
        When::Manual => remarks.push("manual".to_owned()),
        When::Delayed => remarks.push("delayed".to_owned()),
        When::OnFailure => remarks.push("on failure".to_owned()),
        When::OnSuccess | When::Always | When::Never => {}
    }
    if let Start::Jobs(needs) = start {
        let others: Vec<&str> = needs
            .iter()
            .filter(|need| Some(**need) != parent)
            .map(|need| plan.jobs[*need].name.as_str())
            .collect();
        if !others.is_empty() {
            remarks.push(format!(
                "{} {}",
                if parent.is_some() { "also needs" } else { "needs" },
                others.join(", ")
            ));
        }
    }
    remarks.join(", ")
}
