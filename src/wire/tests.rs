//! The types against what runners and servers were seen to send.

use super::job::Job;
use super::runner::{Info, Register, Registered, Verify, feature};
use super::update::{ContentRange, JobRequest, JobState, JobStatus, Output, Stored, UpdateJob};
use serde_json::json;

#[test]
fn the_smallest_job_that_a_runner_took_is_read() {
    let job: Job = serde_json::from_value(json!({
        "id": 7, "token": "glcbt-x",
        "git_info": {"repo_url": "http://gitlab-ci-token:glcbt-x@h/p.git", "ref": "main", "sha": "abc",
                     "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 20},
        "variables": [], "steps": [{"name": "script", "script": ["true"]}],
        "runner_info": {"timeout": 3600}
    }))
    .unwrap();
    assert_eq!((job.id, job.token.expose(), job.runner_info.timeout), (7, "glcbt-x", 3600));
    assert_eq!(job.git_info.reference, "main");
    assert_eq!(job.steps[0].script, ["true"]);
    assert_eq!(job.image, None);
}

#[test]
fn null_and_unknown_fields_are_as_if_they_were_absent() {
    let job: Job = serde_json::from_value(json!({
        "id": 1, "token": null, "artifacts": null, "image": null, "services": null, "cache": null, "run": null,
        "hooks": null, "policy_options": {"x": 1}, "inputs": null, "secrets": null, "features": null,
        "git_info": {"protected": null, "refspecs": null}, "dependencies": [{"id": 2, "artifacts_file": null}],
        "variables": [{"key": "A", "value": null, "public": null, "file": null, "masked": null, "raw": null}]
    }))
    .unwrap();
    assert!(job.artifacts.is_empty() && job.dependencies[0].artifacts_file.filename.is_empty());
    let request: JobRequest = serde_json::from_value(json!({
        "info": {"name": "gitlab-runner", "features": {"refspecs": true, "future": {"a": 1}, "masking": false},
                 "config": {"gpus": ""}, "labels": {}},
        "token": "glrt-a", "last_update": null, "session": {"url": "https://h"}
    }))
    .unwrap();
    assert!(request.info.can(feature::REFSPECS) && !request.info.can(feature::MASKING));
    assert!(!request.info.can("future"));
}

#[test]
fn debug_shows_no_secret() {
    let job: Job = serde_json::from_value(json!({
        "id": 1, "token": "glcbt-hidden", "git_info": {"repo_url": "http://u:hidden@h/p.git"},
        "variables": [{"key": "K", "value": "hidden"}], "credentials": [{"password": "hidden"}],
        "dependencies": [{"id": 1, "token": "hidden"}]
    }))
    .unwrap();
    let request = JobRequest { token: "glrt-hidden".into(), ..JobRequest::default() };
    let update = UpdateJob { token: "glcbt-hidden".into(), ..UpdateJob::default() };
    assert!(!format!("{job:?} {request:?} {update:?}").contains("hidden"));
}

#[test]
fn a_final_update_has_the_form_that_servers_know() {
    let update = UpdateJob {
        info: Info { name: "slipway".to_owned(), ..Info::default() },
        token: "glcbt-x".into(),
        state: JobState::Failed,
        failure_reason: "script_failure".to_owned(),
        output: Some(Output::new(0xab, 1138)),
        exit_code: Some(3),
        ..UpdateJob::default()
    };
    let expected = json!({
        "info": {"name": "slipway"}, "token": "glcbt-x", "state": "failed", "failure_reason": "script_failure",
        "output": {"checksum": "crc32:000000ab", "bytesize": 1138}, "exit_code": 3
    });
    assert_eq!(serde_json::to_value(&update).unwrap(), expected);
    assert_eq!(serde_json::from_value::<UpdateJob>(expected).unwrap(), update);
}

#[test]
fn registration_of_old_and_new_runners_is_read() {
    let old: Register = serde_json::from_value(json!({
        "token": "r", "description": "d", "tag_list": "a,b", "run_untagged": false, "locked": true, "active": true,
        "maximum_timeout": 600, "info": {"version": "14.7.0"}
    }))
    .unwrap();
    assert_eq!((old.tag_list.as_str(), old.run_untagged, old.active), ("a,b", Some(false), Some(true)));
    let verify: Verify =
        serde_json::from_value(json!({"token": "glrt-a", "system_id": "s_1746f8786189"})).unwrap();
    assert_eq!(verify.system_id, "s_1746f8786189");
    let answer = Registered { id: 3, token: "glrt-a".into(), token_expires_at: None };
    let expected = json!({"id": 3, "token": "glrt-a", "token_expires_at": null});
    assert_eq!(serde_json::to_value(answer).unwrap(), expected);
}

#[test]
fn ranges_and_statuses_are_as_on_the_wire() {
    assert_eq!(ContentRange::new(0, 1138).to_string(), "0-1137");
    assert_eq!(ContentRange::of("100-618"), Some(ContentRange { start: 100, end: 618 }));
    for wrong in ["", "-", "5", "a-b", "+1-2", "-1-2", "1-2-3", "99999999999999999999-1"] {
        assert_eq!(ContentRange::of(wrong), None, "{wrong}");
    }
    assert_eq!(Stored(618).to_string(), "0-618");
    assert_eq!(Stored::of("0-618"), Some(Stored(618)));
    assert_eq!(JobStatus::of("canceling"), Some(JobStatus::Canceling));
    assert!(JobStatus::Failed.aborts() && !JobStatus::Canceling.aborts());
    assert_eq!(JobStatus::of("waiting"), None);
}
