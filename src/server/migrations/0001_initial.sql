-- One text for SQLite and PostgreSQL. `{id}` is an automatic 64-bit key, `{blob}` bytes. Times are milliseconds since
-- the epoch, yes and no are 1 and 0, lists and documents are JSON. What must not be read from a copy of the database
-- is sealed (`vault`) or only its SHA-256 is kept.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta (key, value) VALUES ('audit', '0 '); -- number and digest of the last entry; its row is the lock

-- people

CREATE TABLE users (
    id {id},
    name TEXT NOT NULL UNIQUE,
    display TEXT NOT NULL,
    email TEXT NOT NULL,
    password TEXT,               -- argon2id, PHC form; none: signs in elsewhere
    subject TEXT UNIQUE,         -- OpenID Connect: ISSUER SUBJECT
    admin BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT
);
CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL
);
CREATE TABLE tokens (
    id {id},
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    scopes TEXT NOT NULL,        -- of read, write, deploy, admin
    project_id BIGINT,           -- only there
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT,
    revoked_at BIGINT,
    revoked_why TEXT
);
CREATE TABLE members (
    id {id},
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project_id BIGINT,           -- none: all projects
    role TEXT NOT NULL,          -- viewer, developer, deployer, maintainer
    environment TEXT NOT NULL    -- of a deployer: its name, or `*`
);
CREATE TABLE links (             -- one-time addresses that set a password
    hash TEXT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);
CREATE TABLE devices (           -- command lines that wait for a person's yes
    hash TEXT PRIMARY KEY,       -- of what they ask with
    code TEXT NOT NULL UNIQUE,   -- what the person compares
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    user_id BIGINT,              -- who said yes
    scopes TEXT NOT NULL,
    refused BIGINT NOT NULL
);
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,        -- noun.verb: project.create, deployment.approve
    project_id BIGINT,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);

-- projects

CREATE TABLE projects (
    id {id},
    path TEXT NOT NULL UNIQUE,   -- group/name
    git_url TEXT NOT NULL,
    forge TEXT NOT NULL,         -- github, gitlab, gitea, bitbucket-cloud, bitbucket-dc, gogs, generic
    forge_url TEXT NOT NULL,     -- of its API; empty: no statuses are sent
    default_branch TEXT NOT NULL,
    hook TEXT NOT NULL UNIQUE,   -- last part of the hook's address
    protected_refs TEXT NOT NULL,-- globs
    settings TEXT NOT NULL,      -- see `projects::Settings`
    paused BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE secrets (           -- of hooks, git, the forge's API; several hook secrets may be valid at once
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,          -- hook, git, forge
    name TEXT NOT NULL,          -- user name, or what people call it
    sealed {blob} NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE TABLE variables (
    id {id},
    project_id BIGINT,           -- none: of all projects
    key TEXT NOT NULL,
    sealed {blob} NOT NULL,
    environment_scope TEXT NOT NULL,
    protected BIGINT NOT NULL,
    masked BIGINT NOT NULL,
    file BIGINT NOT NULL,
    raw BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    used_at BIGINT
);
CREATE TABLE schedules (
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    description TEXT NOT NULL,
    ref TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    variables TEXT NOT NULL,
    active BIGINT NOT NULL,
    owner TEXT NOT NULL,
    next_at BIGINT,
    last_pipeline BIGINT
);
CREATE TABLE refs (              -- what was last seen, so that a push is noticed without a hook
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    ref TEXT NOT NULL,           -- refs/heads/main
    sha TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, ref)
);

-- what comes in and goes out

CREATE TABLE deliveries (
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    key TEXT NOT NULL,           -- the forge's id of the delivery; our own: `reconcile:REF:SHA`, `replay:ID:…`, `approved:ID`
    forge TEXT NOT NULL,
    event TEXT NOT NULL,         -- as the forge names it
    headers TEXT NOT NULL,
    body {blob} NOT NULL,
    received_at BIGINT NOT NULL,
    body_digest TEXT NOT NULL,   -- of forges that do not sign the delivery's id; else empty
    state TEXT NOT NULL,         -- waiting, held (for a maintainer), pipeline, skipped, ignored, failed
    reason TEXT NOT NULL,        -- why nothing ran, in a sentence
    pipeline_id BIGINT,
    processed_at BIGINT,         -- the last try
    tries BIGINT NOT NULL,
    UNIQUE (project_id, key)
);
CREATE INDEX deliveries_body ON deliveries (project_id, body_digest) WHERE body_digest <> '';
CREATE INDEX deliveries_waiting ON deliveries (id) WHERE state = 'waiting';
CREATE TABLE statuses (          -- outbox of commit statuses; the last word of a context wins
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    context TEXT NOT NULL,
    ref TEXT NOT NULL,
    state TEXT NOT NULL,         -- pending, running, success, failed, canceled, skipped
    description TEXT NOT NULL,
    target_url TEXT NOT NULL,
    version BIGINT NOT NULL,     -- grows with each change; sent is the last that arrived
    sent BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (project_id, sha, context)
);

-- pipelines

CREATE TABLE pipelines (
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    iid BIGINT NOT NULL,
    ref TEXT NOT NULL,
    tag BIGINT NOT NULL,
    sha TEXT NOT NULL,
    before_sha TEXT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    name TEXT NOT NULL,
    message TEXT NOT NULL,
    author TEXT NOT NULL,
    actor TEXT NOT NULL,         -- who pushed, or asked
    merge_request TEXT NOT NULL, -- JSON; empty: none
    trusted BIGINT NOT NULL,     -- 0: of a fork; no secrets, no protected runners
    protected BIGINT NOT NULL,
    plan TEXT NOT NULL,          -- without values of variables; empty: none could be made
    sealed {blob},               -- `engine::Sealed`: request and plan as they run
    plan_digest TEXT NOT NULL,
    merged TEXT NOT NULL,        -- the configuration, merged
    errors TEXT NOT NULL,        -- JSON list of texts
    why TEXT NOT NULL,           -- why it runs, or was skipped
    delivery_id BIGINT,
    parent_job BIGINT,           -- the trigger job
    priority BIGINT NOT NULL,
    coverage TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    UNIQUE (project_id, iid)
);
CREATE INDEX pipelines_of_project ON pipelines (project_id, id);
CREATE INDEX pipelines_of_commit ON pipelines (project_id, sha);
CREATE INDEX pipelines_live ON pipelines (id) WHERE finished_at IS NULL;
CREATE TABLE inputs (            -- what the scheduler was told, in order: replayed, they give its state
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    input TEXT NOT NULL,
    PRIMARY KEY (pipeline_id, seq)
);
CREATE TABLE jobs (              -- one row for each attempt; the newest of a position counts
    id {id},
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    position BIGINT NOT NULL,    -- in plan.jobs
    attempt BIGINT NOT NULL,     -- from 1
    newest BIGINT NOT NULL,
    name TEXT NOT NULL,
    stage TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    exit_code BIGINT,
    message TEXT,
    allowed_to_fail BIGINT NOT NULL,
    tags TEXT NOT NULL,
    resource_group TEXT NOT NULL,-- expanded; empty: none
    environment TEXT NOT NULL,
    interruptible BIGINT NOT NULL,
    timeout_s BIGINT NOT NULL,
    waits_for TEXT NOT NULL,     -- why it waits, in a sentence; empty: it does not
    runner_id BIGINT,
    system_id TEXT NOT NULL,
    token TEXT UNIQUE,           -- SHA-256 of the attempt's token; none: before it started, after it ended
    sealed_token {blob},
    cancel BIGINT NOT NULL,      -- 1 canceling, 2 canceled
    cancel_at BIGINT,            -- when somebody wished it
    bridge BIGINT NOT NULL DEFAULT 0, -- a trigger job: the server does it itself
    lease_until BIGINT,
    acknowledged BIGINT NOT NULL,-- has its runner been heard of since it was handed out?
    child_pipeline BIGINT,
    log_size BIGINT NOT NULL,
    coverage TEXT,
    queued_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX jobs_of_pipeline ON jobs (pipeline_id, position, attempt);
CREATE INDEX jobs_leased ON jobs (lease_until, project_id) WHERE lease_until IS NOT NULL;
CREATE INDEX jobs_open ON jobs (pipeline_id) WHERE newest = 1 AND finished_at IS NULL;
CREATE INDEX jobs_in_groups ON jobs (project_id, resource_group) WHERE resource_group <> '' AND finished_at IS NULL;
CREATE TABLE pending (           -- jobs that may be handed out now
    job_id BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    tags TEXT NOT NULL,
    protected BIGINT NOT NULL,
    trusted BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    queued_at BIGINT NOT NULL
);
CREATE TABLE timers (            -- delayed jobs
    job_id BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    fires_at BIGINT NOT NULL
);
CREATE TABLE held (              -- resource groups in use
    project_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, name)
);
CREATE TABLE resource_groups (
    project_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    mode TEXT NOT NULL,          -- unordered, oldest_first, newest_first, newest_ready_first
    PRIMARY KEY (project_id, name)
);
CREATE TABLE runners (
    id {id},
    description TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE,  -- SHA-256
    short_token TEXT NOT NULL,
    tags TEXT NOT NULL,
    run_untagged BIGINT NOT NULL,
    protected_only BIGINT NOT NULL,
    trusted_only BIGINT NOT NULL,-- 0: takes jobs of forks, too
    paused BIGINT NOT NULL,
    project_id BIGINT,
    maximum_timeout BIGINT,
    local BIGINT NOT NULL,       -- the server's own pool
    info TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    contacted_at BIGINT
);
CREATE TABLE runner_machines (
    runner_id BIGINT NOT NULL REFERENCES runners (id) ON DELETE CASCADE,
    system_id TEXT NOT NULL,
    info TEXT NOT NULL,
    contacted_at BIGINT NOT NULL,
    PRIMARY KEY (runner_id, system_id)
);
CREATE TABLE artifacts (
    id {id},
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    file_type TEXT NOT NULL,     -- archive, junit, dotenv ...
    file_format TEXT NOT NULL,   -- zip, gzip, raw
    filename TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,        -- of the blob
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX artifacts_of_job ON artifacts (job_id);
CREATE INDEX artifacts_of_blob ON artifacts (sha256);
CREATE TABLE test_reports (
    job_id BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    pipeline_id BIGINT NOT NULL,
    total BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    cases TEXT NOT NULL          -- JSON: suite, name, status, seconds, message
);

-- releases

CREATE TABLE deployments (
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,          -- promote, deploy, rollback, bundle
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    content TEXT NOT NULL,       -- what is in the release
    sha TEXT NOT NULL,
    status TEXT NOT NULL,        -- planning, waiting (for people), queued, running, done, failed, rolled_back, refused, expired, rejected, canceled, superseded, unknown
    plan TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_aside TEXT NOT NULL,     -- why a rule does not count; empty: all do
    requested_by TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT
);
CREATE INDEX deployments_of_project ON deployments (project_id, environment, id);
CREATE TABLE approvals (
    id {id},
    deployment_id BIGINT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    approved BIGINT NOT NULL,
    comment TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE (deployment_id, user_id)
);
CREATE TABLE environment_locks (
    project_id BIGINT NOT NULL,
    environment TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (project_id, environment)
);
CREATE TABLE bundles (
    id {id},
    project_id BIGINT NOT NULL,
    deployment_id BIGINT,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    filename TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE notices (           -- outbox of messages to people
    id {id},
    project_id BIGINT,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    next_at BIGINT,
    error TEXT NOT NULL
);
