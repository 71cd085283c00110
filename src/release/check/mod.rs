//! The static check of a hot upgrade: two packages in, findings out. Nothing runs.
//!
//! | code | rule |
//! |---|---|
//! | `R001` | one release name; `.rel`, its directory and the archive's name agree on the version |
//! | `R002` | `sasl` is in both releases |
//! | `R003` | `bin/NAME-VSN` is in the package |
//! | `R004` | `start.boot` is one whole external term |
//! | `R005` | `sys.config` is one list |
//! | `R006` | `vm.args`: node name and cookie stay; the rest waits for a restart |
//! | `R007` | every application is in the package or in the running release |
//! | `R008` | an application with other modules has another version |
//! | `R009` | the relup parses, is for this version, has the running version up, and down |
//! | `R010` | the runtime system stays, and no emulator restart is asked for |
//! | `R011` | every new or changed module is loaded, every deleted one removed |
//! | `R012` | the objects that the relup loads are in the package |
//! | `R013` | processes whose module is replaced convert their state |
//! | `R014` | calls after the point of no return are known |
//! | `R015` | new applications are started, removed ones stopped |
//! | `R016` | modules whose lingering processes would be killed are known |
//! | `R017` | Erlang/OTP's own applications stay |
//! | `R018` | native code in `priv` stays |
//! | `R019` | changed supervisors come with the calls for their children |
//! | `R020` | the target has twice the space that the package unpacks to |
//! | `R021` | the archive is the one whose digest lies beside it |
//! | `R022` | nothing of the version is left on the target by an earlier attempt |
//! | `R023` | an appup is for the version of its application |
//! | `R024` | the running code is that of the package it should be |
//! | `R025` | `release_handler` will find every process of the modules that it replaces |
//! | `R026` | processes that still run old code are known |
//! | `R027` | the running version is permanent |
//! | `R028` | the configuration is not computed when the node starts |
//!
//! - `package`: the rules about the two packages
//! - `script`: the rules about the relup's upgrade script
//! - `target`: the rules about what lies and runs on a target

mod package;
mod script;
mod target;
#[cfg(test)]
mod tests;

use super::{Finding, package::Package};

pub use target::{Processes, processes, target, touched};

/// Every finding about the hot upgrade of a target that runs `old` to `new`, errors first.
#[must_use]
pub fn upgrade(old: &Package, new: &Package) -> Vec<Finding> {
    let mut findings = package::check(old, new);
    findings.extend(script::check(old, new));
    findings.sort_by_key(|finding| (!finding.is_error(), finding.code));
    findings
}

/// The findings that need no relup: whether a hot upgrade can be built at all. Errors first.
#[must_use]
pub fn packages(old: &Package, new: &Package) -> Vec<Finding> {
    let mut findings = package::check(old, new);
    findings.sort_by_key(|finding| (!finding.is_error(), finding.code));
    findings
}

/// The findings about a package without another to upgrade from. Errors first.
#[must_use]
pub fn alone(package: &Package) -> Vec<Finding> {
    let mut findings = package::check_alone(package);
    findings.extend(script::check_alone(package));
    findings.sort_by_key(|finding| (!finding.is_error(), finding.code));
    findings
}
