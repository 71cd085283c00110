#!/usr/bin/env bash
# The whole suite: formatting, lints, tests of all crates, the conformance cases where they are at hand.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }

step "what is needed"
scripts/setup.sh test
step "rustfmt"
cargo fmt --all --check
step "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings
step "build"
cargo build --locked --workspace --all-targets
cases=../shared/conformance/check.py
if [ -f "$cases" ]; then
    step "conformance"
    target=${CARGO_TARGET_DIR:-target}
    python3 "$cases" --ci "$target/debug/ci"
fi
step "tests of the server against PostgreSQL"
scripts/with-postgres.sh cargo test --locked --test server
step "tests"
cargo test --locked --workspace --no-fail-fast
