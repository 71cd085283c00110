#!/bin/sh
# make-repository.sh DIR: lays the three versions of the application out as a git repository with the tags
# v0.1.0, v0.2.0, v0.3.0 and the branch d_dev at the first of them: the shape that a release pipeline works on.
set -eu
here=$(cd "$(dirname "$0")" && pwd)/versions
dir=${1:?usage: make-repository.sh DIR}
mkdir -p "$dir"
cd "$dir"
git init -q -b d_dev .
git config user.name urf
git config user.email urf@example.org
day=1
for v in 0.1.0 0.2.0 0.3.0; do
    rm -rf src test config ebin
    cp -R "$here/common/." .
    cp -R "$here/v$v/." .
    sed -i "s/@VSN@/$v/" rebar.config config/sys.config
    git add -A
    # fixed dates make the commits the same wherever they are made
    GIT_AUTHOR_DATE="2026-01-0${day}T12:00:00Z" GIT_COMMITTER_DATE="2026-01-0${day}T12:00:00Z" \
        git commit -qm "release $v"
    git tag "v$v"
    day=$((day + 1))
done
git branch -q -m d_dev main
git checkout -q -b d_dev v0.1.0
