//! The order as a diagram for other programs. Jobs without `needs` wait for stages, so stages are nodes, too.

use super::order::{Start, starts};
use pipelines::plan::{Job, Plan};
use std::fmt::Write as _;

/// A Mermaid flowchart, as GitLab shows it in Markdown.
pub fn mermaid(plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, stage) in plan.stages.iter().enumerate() {
        let _ = writeln!(text, "  subgraph s{index}[\"{}\"]", entity(stage));
        for (job, planned) in in_stage(plan, stage) {
            let _ = writeln!(text, "    j{job}[\"{}\"]", entity(&planned.name));
        }
        text.push_str("  end\n");
    }
    for (job, start) in starts(plan).iter().enumerate() {
        match start {
            Start::Now => {}
            Start::Stages(stage) => drop(writeln!(text, "  s{} --> j{job}", stage - 1)),
            Start::Jobs(needs) => {
                needs.iter().for_each(|need| text.push_str(&format!("  j{need} --> j{job}\n")))
            }
        }
    }
    text
}

/// A Graphviz digraph. The end of a stage that jobs wait for is a point.
pub fn dot(plan: &Plan) -> String {
    let starts = starts(plan);
    let awaited =
        starts.iter().filter_map(|start| if let Start::Stages(stage) = start { Some(*stage) } else { None });
    let awaited = awaited.max().unwrap_or(0);
    let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for (index, stage) in plan.stages.iter().enumerate() {
        let _ = writeln!(text, "  subgraph cluster_{index} {{\n    label=\"{}\";", escaped(stage));
        for (job, planned) in in_stage(plan, stage) {
            let _ = writeln!(text, "    j{job} [label=\"{}\"];", escaped(&planned.name));
        }
        text.push_str("  }\n");
        if index < awaited {
            let _ = writeln!(text, "  s{index} [shape=point];");
            in_stage(plan, stage).for_each(|(job, _)| text.push_str(&format!("  j{job} -> s{index};\n")));
            if index > 0 {
                let _ = writeln!(text, "  s{} -> s{index};", index - 1);
            }
        }
    }
    for (job, start) in starts.iter().enumerate() {
        match start {
            Start::Now => {}
            Start::Stages(stage) => drop(writeln!(text, "  s{} -> j{job};", stage - 1)),
            Start::Jobs(needs) => {
                needs.iter().for_each(|need| text.push_str(&format!("  j{need} -> j{job};\n")))
            }
        }
    }
    text.push_str("}\n");
    text
}

fn in_stage<'p>(plan: &'p Plan, stage: &'p str) -> impl Iterator<Item = (usize, &'p Job)> {
    plan.jobs.iter().enumerate().filter(move |(_, job)| job.stage == stage)
}

/// Text between quotes in Mermaid, which reads it as HTML.
fn entity(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace(['\n', '\r'], " ")
}

/// Text between quotes in Graphviz.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ")
}
