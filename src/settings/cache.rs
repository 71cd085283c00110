//! `cache:` in `.ci/settings.yml`: a bucket that keeps caches for several machines.
//!
//! ```yaml
//! cache:
//!   s3:
//!     bucket: ci-caches
//!     region: eu-west-1
//!     endpoint: http://minio.example.org:9000    # a server that is not Amazon's
//!     prefix: teams/a
//!     shared: true                               # false: each machine has its own caches
//! ```
//!
//! What gives access is never written here: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or a profile.

use runners::bucket::BucketAddress;
use serde::Deserialize;

/// Where caches are kept beside this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// A bucket.
    pub s3: Option<S3Settings>,
}

/// A bucket of Amazon's S3, or of a server that speaks its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    bucket: String,
    region: Option<String>,
    endpoint: Option<String>,
    #[serde(default)]
    prefix: String,
    #[serde(default = "yes")]
    shared: bool,
}

fn yes() -> bool {
    true
}

impl S3Settings {
    /// The bucket's address; caches of `project` lie below its prefix.
    pub fn address(&self, project: &str, machine: &str) -> BucketAddress {
        let own = if self.shared { String::new() } else { format!("machine/{machine}/") };
        let prefix = format!("{}/{own}project/{project}", self.prefix.trim_matches('/'));
        BucketAddress {
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            prefix: prefix.trim_matches('/').to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_lie_below_prefix_machine_and_project() {
        let read =
            |text: &str| serde_yaml::from_str::<S3Settings>(text).expect("valid").address("g/p", "m").prefix;
        assert_eq!(read("bucket: b"), "project/g/p");
        assert_eq!(read("{bucket: b, prefix: /a/b/, shared: false}"), "a/b/machine/m/project/g/p");
        assert!(serde_yaml::from_str::<S3Settings>("{bucket: b, secret: x}").is_err());
    }
}
