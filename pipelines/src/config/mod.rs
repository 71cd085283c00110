//! The typed configuration: everything that can be known without a request. Parallel jobs are expanded into
//! instances, `default` is applied, `needs` and `dependencies` are fanned out, static checks have been made.

mod types;

pub use types::{
    CacheConfig, CacheKey, Changes, Config, Exists, Inherit, JobConfig, NeedConfig, Policy, Rule,
    VariableConfig, Workflow,
};
