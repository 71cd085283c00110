ALTER TABLE jobs ADD COLUMN features TEXT NOT NULL DEFAULT '[]';    -- that its runner has to have
ALTER TABLE pending ADD COLUMN features TEXT NOT NULL DEFAULT '[]';

CREATE TABLE releases (          -- of jobs with `release:`; its tag is made by nobody here
    id {id},
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    sha TEXT NOT NULL,           -- of the pipeline
    document TEXT NOT NULL,      -- see `runners::job::Release`
    job_id BIGINT NOT NULL,      -- may be gone, as may its pipeline
    pipeline_id BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project_id, tag)
);
