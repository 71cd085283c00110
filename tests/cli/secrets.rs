//! Masked values: not in any argument, file or output while a job has them.

use crate::tree::{Tree, command_lines, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::Stdio;

const SECRET: &str = "black-box-s3cr3t-value";

#[test]
fn masked_values_are_in_no_argument_and_no_file_while_a_job_runs() {
    let yaml = "
job:
  script:
    - echo \"token $TOKEN\"
    - test \"$TOKEN\" = \"$(cat \"$FILE\")\"
    - echo ready
    - sleep 600
  after_script:
    - echo \"again $TOKEN\"
    - echo \"$TOKEN\" > report
  artifacts: {when: always, paths: [report]}
";
    for executor in ["sandbox", "shell"] {
        let tree = Tree::with(&[
            (".gitlab-ci.yml", yaml),
            (".ci/variables.yml", "TOKEN: {env: MY_TOKEN}\nFILE: {env: MY_TOKEN, as_file: true}\n"),
        ]);
        let mut ci = tree.ci(&["run", "--format", "json", "--executor", executor]);
        let ci = ci.env("MY_TOKEN", SECRET).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the job is ready", || tree.log("job").lines().any(|line| line == "ready"));
        let told: Vec<_> = command_lines().into_iter().filter(|line| line.contains(SECRET)).collect();
        assert!(told.is_empty(), "{executor}: {told:?}");
        let run = tree.newest_run().unwrap();
        assert!(tree.files_with(SECRET).iter().all(|file| !file.starts_with(&run)), "{executor}");
        kill_process(Pid::from_child(&ci), Signal::INT).unwrap();
        let output = ci.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{executor}: {}", tree.log("job"));
        for text in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(text).contains(SECRET), "{executor}");
        }
        let log = tree.log("job");
        assert!(log.contains("\ntoken [MASKED]\n") && log.contains("\nagain [MASKED]\n"), "{log}");
        // the place is gone, and with it the file variable
        assert_eq!(tree.files_with(SECRET), Vec::<PathBuf>::new(), "{executor}");
    }
}
