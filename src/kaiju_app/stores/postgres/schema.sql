-- The steps from an empty database to the newest schema. A released step is never changed; new steps follow it.
-- Instants are microseconds since the epoch. Names are ordered by their bytes, as in Python.

-- name: 1
CREATE TABLE kaiju_task (
    app text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    partition_hash bigint NOT NULL,
    rev bigint NOT NULL,
    schedule text NOT NULL,
    version jsonb NOT NULL,
    next_tick bigint NOT NULL,
    next_due bigint NOT NULL,
    last_done bigint NOT NULL,
    known_at bigint NOT NULL,
    next_unknown boolean NOT NULL,
    claims integer NOT NULL,
    manual_at bigint,
    manual_claims integer NOT NULL,
    manual boolean NOT NULL,
    owner text COLLATE "C",
    fence bigint NOT NULL,
    lease_until bigint,
    challenged boolean NOT NULL,
    claimed_at bigint,
    holds jsonb NOT NULL,
    held_back_by text,
    PRIMARY KEY (app, name)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX kaiju_task_claimed ON kaiju_task (app, owner) WHERE owner IS NOT NULL;
CREATE INDEX kaiju_task_held ON kaiju_task (app) WHERE holds <> '{}';
CREATE TABLE kaiju_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    first_tick bigint NOT NULL,
    jitter bigint NOT NULL,
    manual boolean NOT NULL,
    delivery integer NOT NULL,
    last_tick bigint NOT NULL,
    count bigint NOT NULL,
    more boolean NOT NULL,
    outcome text NOT NULL,
    reason text,
    error text,
    started_at bigint,
    finished_at bigint NOT NULL,
    attempts integer NOT NULL,
    fence bigint,
    instance text,
    UNIQUE (app, name, first_tick, manual, delivery)
);
CREATE INDEX kaiju_run_latest ON kaiju_run (app, name, id);
CREATE TABLE kaiju_instance (
    app text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    info text NOT NULL,
    seen_at bigint NOT NULL,
    PRIMARY KEY (app, id)
);

-- name: 2
ALTER TABLE kaiju_run ADD COLUMN result text;

-- name: 3
CREATE INDEX kaiju_run_ending
    ON kaiju_run (app, (outcome || ' ' || coalesce(reason, '')), first_tick, name, manual, delivery);

-- name: 4
CREATE TABLE kaiju_life (
    app text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    began_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    PRIMARY KEY (app, id)
);

-- name: 5
CREATE TABLE kaiju_note (
    app text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (app, id)
);

-- name: 6
ALTER TABLE kaiju_run ADD COLUMN held_by text;

-- name: 7
CREATE INDEX kaiju_life_seen ON kaiju_life (app, seen_at, began_at);
