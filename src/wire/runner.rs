//! Who a runner is: registration, tokens, what it can do.

use super::{Secret, nullable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Prefix of tokens of runners that were created on the server: their attributes are the server's.
pub const RUNNER_TOKEN: &str = "glrt-";
/// Prefix of the tokens of job attempts.
pub const JOB_TOKEN: &str = "glcbt-";

/// Header with a runner's token (18 and newer); the body's `token` is what all versions send.
pub const RUNNER_TOKEN_HEADER: &str = "RUNNER-TOKEN";

/// What a runner tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// `gitlab-runner`, `slipway`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `17.0.0`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Commit.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// `linux`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// `amd64`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// `docker`, `shell`, `kubernetes`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub executor: String,
    /// `bash`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// What it can do: names as in [`feature`].
    #[serde(deserialize_with = "features", skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, bool>,
}

/// Keys of [`Info::features`] that decide something here.
#[expect(missing_docs, reason = "GitLab's names")]
pub mod feature {
    pub const VARIABLES: &str = "variables";
    pub const IMAGE: &str = "image";
    pub const SERVICES: &str = "services";
    pub const ARTIFACTS: &str = "artifacts";
    pub const CACHE: &str = "cache";
    pub const FALLBACK_CACHE_KEYS: &str = "fallback_cache_keys";
    pub const UPLOAD_MULTIPLE_ARTIFACTS: &str = "upload_multiple_artifacts";
    pub const UPLOAD_RAW_ARTIFACTS: &str = "upload_raw_artifacts";
    pub const REFSPECS: &str = "refspecs";
    pub const MASKING: &str = "masking";
    pub const RAW_VARIABLES: &str = "raw_variables";
    pub const ARTIFACTS_EXCLUDE: &str = "artifacts_exclude";
    pub const MULTI_BUILD_STEPS: &str = "multi_build_steps";
    pub const TRACE_RESET: &str = "trace_reset";
    pub const TRACE_CHECKSUM: &str = "trace_checksum";
    pub const TRACE_SIZE: &str = "trace_size";
    pub const CANCELABLE: &str = "cancelable";
    pub const RETURN_EXIT_CODE: &str = "return_exit_code";
    pub const SERVICE_VARIABLES: &str = "service_variables";
    pub const SERVICE_MULTIPLE_ALIASES: &str = "service_multiple_aliases";
    pub const CANCEL_GRACEFULLY: &str = "cancel_gracefully";
    pub const TWO_PHASE_JOB_COMMIT: &str = "two_phase_job_commit";
}

impl Info {
    /// Can it do this?
    pub fn can(&self, feature: &str) -> bool {
        self.features.get(feature).copied().unwrap_or(false)
    }

    /// As the `features` that are all true.
    pub fn features_of(names: &[&str]) -> BTreeMap<String, bool> {
        names.iter().map(|name| ((*name).to_owned(), true)).collect()
    }
}

/// Values that are no booleans (newer runners may send any) are left out.
fn features<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, bool>, D::Error> {
    let all: Option<BTreeMap<String, serde_json::Value>> = Option::deserialize(from)?;
    let booleans = all.unwrap_or_default().into_iter();
    Ok(booleans.filter_map(|(name, value)| Some((name, value.as_bool()?))).collect())
}

/// `POST runners`: the old registration, by a token of the server and not of the runner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Register {
    /// The registration token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// For people.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// For people.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Separated by commas.
    #[serde(deserialize_with = "nullable")]
    pub tag_list: String,
    /// Takes jobs without tags?
    pub run_untagged: Option<bool>,
    /// Only for the project that it was registered with?
    #[serde(deserialize_with = "nullable")]
    pub locked: bool,
    /// `not_protected`, `ref_protected`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_timeout: Option<i64>,
    /// Begins paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// What `paused` was before 15, turned round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Who it is.
    #[serde(deserialize_with = "nullable")]
    pub info: Info,
}

/// Answer to [`Register`] (201), [`Verify`] (200) and to a reset of the token (201; `id` is absent then).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registered {
    /// The runner.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub id: i64,
    /// Its token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// RFC 3339; none: it does not expire.
    pub token_expires_at: Option<String>,
}

/// `POST runners/verify`, `DELETE runners`, `DELETE runners/managers`, `POST runners/reset_authentication_token`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verify {
    /// The runner's token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Which of the machines that share the token: `s_…` or `r_…`, at most 64 characters.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub system_id: String,
    /// Who it is (18 and newer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
