//! Artifacts and caches of a job, as runners want them told.

use crate::wire::job::{Artifact, Cache};
use pipelines::plan::{Artifacts, Job, When};
use runners::variables::Variables;
use serde_json::Value as Json;

/// Type of a report, its format, the name of its file. The formats are GitLab's; types that are not here are `raw`.
const REPORTS: &[(&str, &str, &str)] = &[
    ("junit", "gzip", "junit.xml"),
    ("dotenv", "gzip", ".env"),
    ("cobertura", "gzip", "cobertura-coverage.xml"),
    ("jacoco", "gzip", "jacoco-coverage.xml"),
    ("metrics", "gzip", "metrics.txt"),
    ("cyclonedx", "gzip", "gl-sbom.cdx.json"),
    ("annotations", "gzip", "gl-annotations.json"),
    ("repository_xray", "gzip", "gl-repository-xray.json"),
    ("cluster_applications", "gzip", "gl-cluster-applications.json"),
    ("lsif", "zip", "lsif.json"),
    ("scip", "zip", "index.scip"),
    ("sast", "raw", "gl-sast-report.json"),
    ("secret_detection", "raw", "gl-secret-detection-report.json"),
    ("dependency_scanning", "raw", "gl-dependency-scanning-report.json"),
    ("container_scanning", "raw", "gl-container-scanning-report.json"),
    ("dast", "raw", "gl-dast-report.json"),
    ("license_scanning", "raw", "gl-license-scanning-report.json"),
    ("accessibility", "raw", "gl-accessibility.json"),
    ("codequality", "raw", "gl-code-quality-report.json"),
    ("performance", "raw", "performance.json"),
    ("browser_performance", "raw", "browser-performance.json"),
    ("load_performance", "raw", "load-performance.json"),
    ("terraform", "raw", "tfplan.json"),
    ("requirements", "raw", "requirements.json"),
    ("requirements_v2", "raw", "requirements_v2.json"),
    ("coverage_fuzzing", "raw", "gl-coverage-fuzzing.json"),
    ("api_fuzzing", "raw", "gl-api-fuzzing-report.json"),
    ("sarif", "raw", "gl-report.sarif"),
];

/// The format that files of a type have.
pub(super) fn format_of(kind: &str) -> &'static str {
    if kind == "archive" {
        return "zip";
    }
    REPORTS.iter().find(|(name, ..)| *name == kind).map_or("raw", |(_, format, _)| format)
}

/// The archive, then the reports.
pub(super) fn artifacts(job: &Job) -> Vec<Artifact> {
    let Some(artifacts) = &job.work.artifacts else { return Vec::new() };
    let mut all = Vec::new();
    let untracked = artifacts.untracked == Some(true);
    let paths = artifacts.paths.clone().unwrap_or_default();
    if !paths.is_empty() || untracked {
        all.push(Artifact {
            name: artifacts.other.get("name").and_then(Json::as_str).unwrap_or_default().to_owned(),
            untracked,
            paths,
            exclude: artifacts.exclude.clone().unwrap_or_default(),
            when: when(artifacts).to_owned(),
            artifact_type: "archive".to_owned(),
            artifact_format: "zip".to_owned(),
            expire_in: artifacts.expire_in.clone().unwrap_or_default(),
        });
    }
    let reports = artifacts.reports.iter().flatten();
    all.extend(reports.filter_map(|(kind, paths)| report(artifacts, kind, paths)));
    all
}

fn when(artifacts: &Artifacts) -> &'static str {
    match artifacts.when {
        Some(When::OnFailure) => "on_failure",
        Some(When::Always) => "always",
        _ => "on_success",
    }
}

fn report(artifacts: &Artifacts, kind: &str, value: &Json) -> Option<Artifact> {
    let (kind, paths) = match value {
        Json::String(path) => (kind.to_owned(), vec![path.clone()]),
        Json::Array(list) => {
            (kind.to_owned(), list.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect())
        }
        // `coverage_report: {coverage_format, path}`
        Json::Object(map) => {
            let path = map.get("path")?.as_str()?;
            (map.get("coverage_format")?.as_str()?.to_owned(), vec![path.to_owned()])
        }
        _ => return None,
    };
    let plain = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if paths.is_empty() || !plain {
        return None;
    }
    let known = REPORTS.iter().find(|(name, ..)| *name == kind);
    Some(Artifact {
        name: known.map_or_else(|| format!("{kind}.json"), |(_, _, name)| (*name).to_owned()),
        paths,
        when: "always".to_owned(),
        artifact_format: format_of(&kind).to_owned(),
        artifact_type: kind,
        expire_in: artifacts.expire_in.clone().unwrap_or_default(),
        ..Artifact::default()
    })
}

/// Caches with the keys that keep those of protected refs apart.
pub(super) fn caches(job: &Job, variables: &Variables) -> Vec<Cache> {
    let protected = variables.get("CI_COMMIT_REF_PROTECTED") == Some("true");
    let something = job.cache.iter().filter(|cache| !cache.paths.is_empty() || cache.untracked == Some(true));
    let told = something.map(|cache| {
        let suffix = if protected && !cache.unprotect { "-protected" } else { "-non_protected" };
        let key = |key: &String| format!("{key}{suffix}");
        let policy = match variables.expand(&cache.policy) {
            policy if policy.is_empty() => "pull-push".to_owned(),
            policy => policy,
        };
        Cache {
            key: key(&cache.key),
            untracked: cache.untracked == Some(true),
            policy,
            paths: cache.paths.clone(),
            when: cache.when.clone(),
            fallback_keys: cache.fallback_keys.iter().map(key).collect(),
        }
    });
    told.collect()
}
