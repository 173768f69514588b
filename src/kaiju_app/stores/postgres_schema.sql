-- The steps from an empty database to the newest schema. A step that was released is never changed; new ones follow it.
-- Instants are microseconds since the epoch. Names are ordered by their bytes, as everywhere else.

-- name: 1
CREATE TABLE kaiju_task (
    app text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    bucket bigint NOT NULL,
    rev bigint NOT NULL,
    spec text NOT NULL,
    version jsonb NOT NULL,
    next bigint NOT NULL,
    due bigint NOT NULL,
    floor bigint NOT NULL,
    seen bigint NOT NULL,
    take integer NOT NULL,
    asked bigint,
    asked_take integer NOT NULL,
    manual boolean NOT NULL,
    holder text COLLATE "C",
    fence bigint NOT NULL,
    until bigint,
    suspect boolean NOT NULL,
    started bigint,
    holds jsonb NOT NULL,
    kept_back text,
    PRIMARY KEY (app, name)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX kaiju_task_due ON kaiju_task (app, due, bucket) WHERE holder IS NULL AND holds = '{}';
CREATE INDEX kaiju_task_asked ON kaiju_task (app) WHERE asked IS NOT NULL;
CREATE INDEX kaiju_task_claimed ON kaiju_task (app, holder) WHERE holder IS NOT NULL;
CREATE INDEX kaiju_task_held ON kaiju_task (app) WHERE holds <> '{}';
CREATE TABLE kaiju_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    jitter bigint NOT NULL,
    manual boolean NOT NULL,
    take integer NOT NULL,
    last bigint NOT NULL,
    count bigint NOT NULL,
    more boolean NOT NULL,
    outcome text NOT NULL,
    reason text,
    error text,
    started bigint,
    finished bigint NOT NULL,
    attempts integer NOT NULL,
    fence bigint,
    instance text,
    UNIQUE (app, name, first, manual, take)
);
CREATE INDEX kaiju_run_latest ON kaiju_run (app, name, id);
CREATE TABLE kaiju_instance (
    app text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    info text NOT NULL,
    seen bigint NOT NULL,
    PRIMARY KEY (app, id)
);
