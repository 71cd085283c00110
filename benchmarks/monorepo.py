#!/usr/bin/env python3
"""Writes a git repository whose pipeline has N jobs: `monorepo.py OUT N`.

Up to a hundred services, each with its own included file; in it components of ten jobs each, made of hidden jobs through
three levels of `extends`, with `rules` (`if`, `changes`, `exists`), a matrix, needs, caches, artifacts and variables.
`main` is checked out: all N jobs are in its pipeline. The branch `change` touches one service: few are.
"""

import pathlib
import subprocess
import sys

JOBS_OF_A_COMPONENT = 10
MOST_SERVICES = 100  # GitLab takes 150 includes

ROOT = """\
stages: [build, check, package, deploy]

workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_TAG
    - if: $CI_COMMIT_BRANCH

include:
  - local: ci/base.yml
  - local: ci/deploy.yml
  - local: services/*/ci.yml

variables:
  REGISTRY: registry.example.org/monorepo
  IMAGE_TAG: $CI_COMMIT_SHORT_SHA
  IMAGE: $REGISTRY/$CI_COMMIT_REF_SLUG:$IMAGE_TAG
  GIT_DEPTH: "20"

default:
  image: debian:13
  interruptible: true
  retry:
    max: 2
    when: [runner_system_failure, stuck_or_timeout_failure]
  tags: [linux]
"""

BASE = """\
.base:
  before_script:
    - set -eu
    - echo "$CI_JOB_NAME"
  variables:
    LOG_LEVEL: info
    CACHE_DIR: $CI_PROJECT_DIR/.cache

.cached:
  extends: .base
  cache:
    - key:
        prefix: $CI_JOB_STAGE
        files: [versions.lock]
      paths: [.cache/]
      policy: pull-push

.build:
  extends: .cached
  stage: build
  timeout: 30 minutes
  artifacts:
    paths: [out/]
    expire_in: 1 week

.check:
  extends: .cached
  stage: check
  needs: []
  allow_failure:
    exit_codes: [77]

.package:
  extends: .base
  stage: package
  image: quay.io/buildah/stable
"""

DEPLOY = """\
.deploy:
  extends: .base
  stage: deploy
  resource_group: $CI_ENVIRONMENT_NAME
  script:
    - !reference [.base, before_script]
    - ./deploy.sh "$TARGET" "$IMAGE"

.staging:
  extends: .deploy
  variables:
    TARGET: staging

.production:
  extends: .deploy
  variables:
    TARGET: production
"""

SERVICE = """\
.{service}:
  variables:
    SERVICE: {service}
    SERVICE_DIR: services/$SERVICE
  rules:
    - if: $CI_COMMIT_TAG =~ /^v\\d+\\.\\d+\\.\\d+$/
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH || $CI_PIPELINE_SOURCE == "merge_request_event"
      changes:
        - services/{service}/**/*
        - shared/**/*.lock
    - if: $RUN_EVERYTHING == "true" && $CI_COMMIT_BRANCH != "legacy"
      exists: [services/{service}/Makefile]
"""

COMPONENT = """
{name}:build:
  extends: [.build, .{service}]
  script:
    - cd "$SERVICE_DIR/{component}"
    - make build VERSION="$IMAGE_TAG"

{name}:lint:
  extends: [.check, .{service}]
  script: make -C "$SERVICE_DIR/{component}" lint

{name}:test:
  extends: [.check, .{service}]
  needs: ["{name}:build"]
  parallel:
    matrix:
      - OTP: ["27", "28"]
        DATABASE: [postgres, sqlite]
  services:
    - name: $DATABASE:latest
      alias: db
  script:
    - cd "$SERVICE_DIR/{component}"
    - |
      for suite in unit integration; do
        make test SUITE="$suite"
      done
  coverage: /TOTAL.*\\s(\\d+)%/
  artifacts:
    when: always
    reports:
      junit: [out/junit-*.xml]

{name}:package:
  extends: [.package, .{service}]
  needs:
    - job: "{name}:build"
      artifacts: true
    - job: "{name}:lint"
      artifacts: false
      optional: true
  script:
    - buildah build --tag "$IMAGE-{component}" out/

{name}:scan:
  extends: [.package, .{service}]
  needs: ["{name}:package"]
  allow_failure: true
  script: ./scan.sh "$IMAGE-{component}"

{name}:staging:
  extends: [.staging, .{service}]
  needs: ["{name}:package", "{name}:test"]
  environment:
    name: staging/{component}
    url: https://{component}.staging.example.org

{name}:production:
  extends: [.production, .{service}]
  needs: ["{name}:staging"]
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
      when: manual
      allow_failure: true
  environment:
    name: production/{component}
    url: https://{component}.example.org
"""


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_service(out: pathlib.Path, service: str, components: int) -> None:
    parts = [SERVICE.format(service=service)]
    folder = out / "services" / service
    for number in range(1, components + 1):
        component = f"{service}-c{number:03}"
        parts.append(COMPONENT.format(service=service, component=component, name=f"{service}:c{number:03}"))
        write(folder / component / "Makefile", "build lint test:\n")
        write(folder / component / "src" / "main.erl", f"%% {component}\n")
    write(folder / "ci.yml", "".join(parts))
    write(folder / "Makefile", "all:\n")


def git(out: pathlib.Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(out), *identity, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit() or int(sys.argv[2]) % JOBS_OF_A_COMPONENT:
        sys.exit("usage: monorepo.py OUT N    (N: jobs, a multiple of 10; OUT must not exist)")
    out, jobs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    out.mkdir(parents=True)
    components = jobs // JOBS_OF_A_COMPONENT
    services = min(MOST_SERVICES, components)
    write(out / ".gitlab-ci.yml", ROOT)
    write(out / "ci" / "base.yml", BASE)
    write(out / "ci" / "deploy.yml", DEPLOY)
    write(out / "versions.lock", "otp 28\n")
    for number in range(services):
        share = components // services + (number < components % services)
        write_service(out, f"s{number + 1:03}", share)
    git(out, "init", "--quiet", "--initial-branch=main")
    git(out, "add", ".")
    git(out, "commit", "--quiet", "--message=A monorepo")
    git(out, "switch", "--quiet", "--create=change")
    write(out / "services" / "s001" / "change.txt", "changed\n")
    git(out, "add", ".")
    git(out, "commit", "--quiet", "--message=Change one service")
    git(out, "switch", "--quiet", "main")


if __name__ == "__main__":
    main()
