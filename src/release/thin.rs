//! The thin package: what a target that already has the same Erlang doesn't need to be sent.

use std::path::Path;

use super::{Error, archive, package::Package, rel::AppVersion};

/// The applications of Erlang/OTP. Only these are left out: anything else with an unchanged version is small,
/// and sending it lets the target be checked against the package.
const OTP_APPS: &[&str] = &[
    "asn1",
    "common_test",
    "compiler",
    "crypto",
    "debugger",
    "dialyzer",
    "diameter",
    "edoc",
    "eldap",
    "erl_docgen",
    "erl_interface",
    "et",
    "eunit",
    "ftp",
    "inets",
    "jinterface",
    "kernel",
    "megaco",
    "mnesia",
    "observer",
    "odbc",
    "os_mon",
    "parsetools",
    "public_key",
    "reltool",
    "runtime_tools",
    "sasl",
    "snmp",
    "ssh",
    "ssl",
    "stdlib",
    "syntax_tools",
    "tftp",
    "tools",
    "wx",
    "xmerl",
];

/// Those of Elixir: like them, they never change below a running node.
const ELIXIR_APPS: &[&str] = &["eex", "elixir", "ex_unit", "iex", "logger", "mix"];

/// Whether `app` is part of Erlang/OTP or of Elixir.
#[must_use]
pub fn is_otp_app(app: &str) -> bool {
    OTP_APPS.contains(&app) || ELIXIR_APPS.contains(&app)
}

/// What lies in the target's release directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLibraries {
    /// The version of its runtime system.
    pub erts: String,
    /// The applications with their versions.
    pub apps: Vec<AppVersion>,
}

/// A written thin package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinPackage {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// The directories that were left out, such as `erts-13.1.5` and `lib/kernel-8.5.3`.
    pub left_out: Vec<String>,
}

/// Writes `package` to `to` without the runtime system and the OTP applications that `target` has in the very
/// same version. Everything else stays, `relup`, boot files and `RELEASES` included. The same package and
/// target give the same bytes.
///
/// # Errors
/// The package can't be read or the file not written.
pub fn write(package: &Package, target: &TargetLibraries, to: &Path) -> Result<ThinPackage, Error> {
    let mut left_out = Vec::new();
    if package.has_erts() && package.rel.erts == target.erts {
        left_out.push(format!("erts-{}", package.rel.erts));
    }
    for app in package.rel.apps.iter().filter(|app| is_otp_app(&app.0)) {
        if package.has_app(app) && target.apps.contains(app) {
            left_out.push(format!("lib/{}-{}", app.0, app.1));
        }
    }
    let wanted = |path: &str| {
        let under = |dir: &String| {
            path.strip_prefix(&**dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !left_out.iter().any(under)
    };
    archive::rewrite(&package.path, to, wanted, &[])?;
    let (sha256, size) = archive::digest(to)?;
    Ok(ThinPackage { sha256, size, left_out })
}

#[cfg(test)]
mod tests {
    use super::{super::archive::tests::write_archive, *};

    #[test]
    fn only_what_the_target_has_in_the_same_version_is_left_out() {
        let rel = br#"{release,{"urf","2"},{erts,"13"},[{kernel,"8.5.3"},{stdlib,"4.2"},{urf,"2"}]}."#;
        let dir = tempfile::tempdir().unwrap();
        let (fat, thin) = (dir.path().join("urf-2.tar.gz"), dir.path().join("thin.tar.gz"));
        write_archive(
            &fat,
            &[
                ("releases/2/urf.rel", rel),
                ("releases/2/relup", b"{\"2\",[],[]}."),
                ("erts-13/bin/erl", b"x"),
                ("lib/kernel-8.5.3/ebin/kernel.app", b"x"),
                ("lib/kernel-8.5.30/ebin/kernel.app", b"x"),
                ("lib/stdlib-4.2/ebin/stdlib.app", b"x"),
                ("lib/urf-2/ebin/urf.app", b"x"),
            ],
        );
        let package = Package::read(&fat).unwrap();
        let app = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let apps = vec![app("kernel", "8.5.3"), app("stdlib", "4.1"), app("urf", "2")];
        let target = TargetLibraries { erts: "13".into(), apps };
        let written = write(&package, &target, &thin).unwrap();
        assert_eq!(written.left_out, ["erts-13", "lib/kernel-8.5.3"]);
        let left: Vec<_> = Package::read(&thin).unwrap().files.into_keys().collect();
        assert_eq!(
            left,
            [
                "lib/kernel-8.5.30/ebin/kernel.app",
                "lib/stdlib-4.2/ebin/stdlib.app",
                "lib/urf-2/ebin/urf.app",
                "releases/2/relup",
                "releases/2/urf.rel"
            ]
        );
        assert_eq!(write(&package, &target, &dir.path().join("again")).unwrap().sha256, written.sha256);
        let other = TargetLibraries { erts: "12".into(), apps: Vec::new() };
        assert!(write(&package, &other, &thin).unwrap().left_out.is_empty());
    }
}
