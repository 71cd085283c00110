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

# Tests that deploy mostly wait for nodes and daemons: they run beside all others.
deploying=(hops deploy steps environments bundle failures services interruptions packages release told)
others=()
for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%.rs}
    name=${name%/main}
    [[ " ${deploying[*]} " == *" $name "* ]] || others+=("$name")
done
tests_of() { cargo test --locked --no-fail-fast -p slipway "${@/#/--test=}"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step "tests, in two streams: the first is shown when the second has ended"
tests_of "${deploying[@]}" >"$log" 2>&1 &
first=$!
failed=()
scripts/with-postgres.sh cargo test --locked --test server || failed+=("server with PostgreSQL")
cargo test --locked --no-fail-fast -p pipelines -p runners || failed+=("pipelines, runners")
cargo test --locked -p slipway --lib --bins || failed+=("slipway")
tests_of "${others[@]}" || failed+=("${others[*]}")
cargo test --locked -p slipway --doc || failed+=("documentation")
step "tests that deploy"
wait "$first" || failed+=("tests that deploy")
cat "$log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
