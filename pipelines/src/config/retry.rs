//! `retry`.

use super::check::{Entry, Findings, ROOT, texts};
use super::ruby;
use crate::plan::Retry;
use crate::yaml::{Node, Value};

const REASONS: [&str; 44] = [
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "missing_dependency_failure",
    "runner_unsupported",
    "stale_schedule",
    "job_execution_timeout",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "forward_deployment_failure",
    "user_blocked",
    "project_deleted",
    "ci_quota_exceeded",
    "pipeline_loop_detected",
    "no_matching_runner",
    "trace_size_exceeded",
    "builds_disabled",
    "environment_creation_failure",
    "deployment_rejected",
    "failed_outdated_deployment_job",
    "protected_environment_failure",
    "insufficient_bridge_permissions",
    "downstream_bridge_project_not_found",
    "invalid_bridge_trigger",
    "upstream_bridge_project_not_found",
    "insufficient_upstream_permissions",
    "bridge_pipeline_is_child_pipeline",
    "downstream_pipeline_creation_failed",
    "secrets_provider_not_found",
    "reached_max_descendant_pipelines_depth",
    "ip_restriction_failure",
    "reached_max_pipeline_hierarchy_size",
    "reached_downstream_pipeline_trigger_rate_limit",
    "image_pull_failure",
    "runner_provisioning_timeout",
    "job_token_expired",
    "duo_workflow_not_allowed",
    "job_router_failure",
    "downstream_pipeline_failure",
    "always",
];

/// `retry`, always as a map. Messages say `retry` wherever it stands.
pub(super) fn retry(node: &Node, findings: &mut Findings<'_>) -> Retry {
    let at = ROOT.child("retry");
    let mut entry = Entry::new(node, &at, findings);
    match &node.value {
        Value::Integer(_) => {
            let max = entry.integer_between("config", 0, 2);
            Retry { max: max.and_then(|n| u32::try_from(n).ok()), ..Retry::default() }
        }
        Value::Mapping(_) => long_form(&mut entry),
        _ => {
            entry.unsupported("config has to be either an integer or a hash");
            Retry::default()
        }
    }
}

fn long_form(entry: &mut Entry<'_, '_, '_>) -> Retry {
    entry.allowed_keys(&["max", "when", "exit_codes"]);
    let max = entry.integer_between("max", 0, 2);
    entry.strings_or_string("when");
    match entry.field("when") {
        Some(n) if n.as_sequence().is_some() => entry.known_items("when", &REASONS),
        Some(n) if ruby::is_string(n) => entry.one_of("when", &REASONS, "is not included in the list"),
        _ => {}
    }
    entry.integers("exit_codes");
    Retry {
        max: max.and_then(|n| u32::try_from(n).ok()),
        when: entry.field("when").map(texts).unwrap_or_default(),
        exit_codes: entry.field("exit_codes").map(integers).unwrap_or_default(),
    }
}

/// One integer or a list of them.
pub(super) fn integers(node: &Node) -> Vec<i64> {
    let integer = |n: &Node| if let Value::Integer(i) = n.value { Some(i) } else { None };
    match node.as_sequence() {
        Some(items) => items.iter().filter_map(integer).collect(),
        None => integer(node).into_iter().collect(),
    }
}
