//! `ci`: CI/CD from commit to running release.
fn main() {}
