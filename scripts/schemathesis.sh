#!/bin/sh
# schemathesis.sh [EXAMPLES]: starts `ci server` on a free port with a state of its own and a project, and lets
# schemathesis ask everything that its OpenAPI document offers, as an administrator. Fails when an answer is a 5xx.
# CI: the binary [default: target/debug/ci]. SCHEMATHESIS: the program [default: from PyPI, into a temporary directory].
set -eu

examples=${1:-20}
ci=${CI:-target/debug/ci}
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

schemathesis=${SCHEMATHESIS:-$work/venv/bin/schemathesis}
if [ -z "${SCHEMATHESIS:-}" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis
fi

git init -q -b main "$work/app"
mkdir "$work/app/.ci"
printf 'build: {script: ["true"]}\nlater: {script: ["true"], when: manual}\n' >"$work/app/.gitlab-ci.yml"
printf 'environments: {dev: {targets: [app@127.0.0.1]}, prod: {targets: [app@127.0.0.1]}}\n' >"$work/app/.ci/deploy.yml"
git -C "$work/app" add -A
git -C "$work/app" -c user.name=Ann -c user.email=ann@localhost commit -q -m first

SLIPWAY_ADMIN_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export SLIPWAY_ADMIN_PASSWORD
: >"$work/log"
SLIPWAY_HOME=$work "$ci" server --listen 127.0.0.1:0 --data "$work/data" 2>"$work/log" &
server=$!
url=
for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$work/log")
    [ -z "$url" ] || break
    sleep 0.1
done
[ -n "$url" ] || { cat "$work/log"; exit 1; }

# a token of `admin`, and a project with a pipeline
cat >"$work/begin.py" <<'PY'
import json, os, sys, urllib.request

def post(path, body, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=60))

password = os.environ["SLIPWAY_ADMIN_PASSWORD"]
scopes = ["read", "write", "deploy", "admin"]
token = post("/api/v1/login", {"name": "admin", "password": password, "scopes": scopes})["token"]
project = {"path": "group/app", "git_url": "file://" + sys.argv[2], "forge": "generic"}
post("/api/v1/projects", project, token)
post("/api/v1/projects/1/pipelines", {"ref": "main"}, token)
print(token)
PY
SLIPWAY_TOKEN=$(python3 "$work/begin.py" "$url" "$work/app")
export SLIPWAY_TOKEN

cat >"$work/schemathesis.toml" <<'TOML'
headers = { Authorization = "Bearer ${SLIPWAY_TOKEN}" }

# so that more is asked than what is not there
[parameters]
"path.project" = "1"
"path.pipeline" = 1
"path.job" = 1
"path.environment" = "dev"

# whoever ends the token or the project ends the test; streams do not end
[[operations]]
include-path-regex = "/api/v1/(token|login|logout|device|users).*|.*/events"
enabled = false

[[operations]]
include-name = "DELETE /api/v1/projects/{project}"
enabled = false
TOML
# what it has learned lies in the directory where it runs
cd "$work"
if ! "$schemathesis" --config-file "$work/schemathesis.toml" run "$url/api/v1/openapi.json" \
    --checks not_a_server_error --max-examples "$examples" --request-timeout 60 --phases examples,coverage,fuzzing; then
    grep '"level":"ERROR"' "$work/log" | sed 's/"timestamp":"[^"]*",//' | sort | uniq -c | sort -rn | head -20
    exit 1
fi
