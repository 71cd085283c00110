//! A test binary that runs itself again as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Runs all tests of this binary as a user without any rights; shows what they said if one fails.
pub(crate) async fn same_tests_as_ordinary_user(variables: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = tokio::process::Command::new("setpriv")
        .args(["--reuid=54321", "--regid=54321", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .env("TMPDIR", dir.path())
        .env("HOME", dir.path())
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
