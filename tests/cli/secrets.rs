//! Masked values: not in any argument, file or output while a job has them.

use crate::tree::{Tree, command_lines, until};
use std::process::Stdio;

const SECRET: &str = "black-box-s3cr3t-value";

#[test]
fn masked_values_are_in_no_argument_and_no_file_while_a_job_runs() {
    let yaml = "
job:
  script:
    - echo \"token $TOKEN\"
    - test \"$TOKEN\" = \"$(cat \"$FILE\")\"
    - echo \"TOKEN=$TOKEN\" > .env
    - echo ready
    - while test ! -e \"$GO\"; do sleep 0.05; done
  artifacts: {reports: {dotenv: .env}}
";
    for executor in ["sandbox", "shell"] {
        let tree = Tree::with(&[
            (".gitlab-ci.yml", yaml),
            (".ci/variables.yml", "TOKEN: {env: MY_TOKEN}\nFILE: {env: MY_TOKEN, as_file: true}\n"),
        ]);
        let go = tree.home().join("go");
        let go_argument = format!("GO={}", go.display());
        let mut ci = tree.ci(&["run", "--format", "json", "--executor", executor, "--variable", &go_argument]);
        let ci = ci.env("MY_TOKEN", SECRET).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the job is ready", || tree.log("job").contains("\nready"));
        let told: Vec<_> = command_lines().into_iter().filter(|line| line.contains(SECRET)).collect();
        assert!(told.is_empty(), "{executor}: {told:?}");
        let run = tree.newest_run().unwrap();
        let kept = || tree.files_with(SECRET).into_iter().filter(|file| file.starts_with(&run));
        assert_eq!(kept().count(), 0, "{executor}");
        std::fs::write(go, "").unwrap();
        let output = ci.wait_with_output();
        let output = output.unwrap();
        assert!(output.status.success(), "{executor}: {}", tree.log("job"));
        for text in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(text).contains(SECRET), "{executor}");
        }
        assert!(tree.log("job").contains("\ntoken [MASKED]\n"));
        assert_eq!(tree.files_with(SECRET), Vec::<std::path::PathBuf>::new(), "{executor}");
    }
}
