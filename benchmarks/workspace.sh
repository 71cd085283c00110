#!/bin/sh
# What it costs to give a job its sources: workspace.sh [CI] [FILES]. A repository of FILES files (20,000) is run for
# the first time, again, after an edit and after a commit; beside it, what copying and cloning the same would take.
# Needs python3 and git.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ci=${1:-$here/../target/release/ci}
case $ci in /*) ;; *) ci=$PWD/$ci ;; esac
files=${2:-20000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SLIPWAY_HOME="$work/home" NO_COLOR=1

python3 - "$work/app" "$files" <<'PYTHON'
import os, sys

root, files = sys.argv[1], int(sys.argv[2])
for number in range(files):
    directory = f"{root}/d{number // 1000}/s{number // 100}"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/f{number}.txt", "w") as file:
        file.write(f"line of {number}\n" * 60)
with open(f"{root}/.gitlab-ci.yml", "w") as file:
    file.write("job:\n  script: ['true']\n")
PYTHON
cd "$work/app"
git init -q -b main .
commit() {
    git add -A
    git -c user.name=b -c user.email=b@localhost commit -q -m "$1"
}
commit first

measure() {
    name=$1
    shift
    python3 - "$name" "$@" <<'PYTHON'
import subprocess, sys, time

name, command = sys.argv[1], sys.argv[2:]
start = time.perf_counter()
code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(f"{name:32} {(time.perf_counter() - start) * 1000:8.0f} ms" + ("" if code == 0 else f"  exit code {code}"))
PYTHON
}

measure "ci run, first" "$ci" run
for round in 1 2 3; do
    measure "ci run, again" "$ci" run
done
for round in 1 2 3; do
    echo "edit $round" >>d0/s0/f1.txt
    measure "ci run, one file edited" "$ci" run
    commit "commit $round"
    measure "ci run, one commit later" "$ci" run
done
measure "cp -a" cp -a "$work/app" "$work/copy"
measure "git clone --local" git clone -q --local "$work/app" "$work/clone"
