use super::{dot, mermaid, tree};
use pipelines::plan::{Job, Need, Plan, When};

fn job(name: &str, stage: &str, needs: Option<&[&str]>) -> Job {
    let need = |name: &&str| Need { job: (*name).to_owned(), artifacts: true, optional: false };
    Job { needs: needs.map(|needs| needs.iter().map(need).collect()), ..Job::new(name, stage) }
}

fn plan() -> Plan {
    let jobs = vec![
        job("compile", "build", None),
        job("docs", "build", None),
        job("unit", "test", Some(&["compile"])),
        job("lint", "test", Some(&[])),
        job("smoke", "test", None),
        job("package", "deploy", Some(&["lint", "unit"])),
        Job { when: When::Manual, ..job("prod \"eu\"", "deploy", None) },
    ];
    let stages = ["build", "test", "deploy"].map(str::to_owned).to_vec();
    Plan { name: None, auto_cancel: None, stages, jobs }
}

#[test]
fn jobs_hang_below_what_they_wait_for() {
    let expected = "\
at once
├─ compile        build
│  └─ unit        test
│     └─ package  deploy  also needs lint
├─ docs           build
└─ lint           test

after stage build
└─ smoke          test

after stages build, test
└─ prod \"eu\"      deploy  manual
";
    assert_eq!(tree(&plan(), 80), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for columns in [10, 20, 30, 40] {
        for line in tree(&plan(), columns).lines() {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn circles_of_needs_are_drawn_too() {
    let jobs = vec![job("a", "s", Some(&["b"])), job("b", "s", Some(&["a"]))];
    let plan = Plan { stages: vec!["s".to_owned()], jobs, ..Plan::default() };
    assert_eq!(tree(&plan, 80), "at once\n├─ a  s  needs b\n└─ b  s  needs a\n");
}

#[test]
fn diagrams_have_all_jobs_and_edges() {
    let text = mermaid(&plan());
    for line in [
        "subgraph s1[\"test\"]",
        "j0[\"compile\"]",
        "j6[\"prod &quot;eu&quot;\"]",
        "j0 --> j2",
        "j3 --> j5",
        "s0 --> j4",
        "s1 --> j6",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let text = dot(&plan());
    for line in
        ["j6 [label=\"prod \\\"eu\\\"\"];", "j0 -> j2;", "j2 -> s1;", "s0 -> s1;", "s1 -> j6;", "s0 -> j4;"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("s2 "), "nobody waits for the last stage\n{text}");
}
