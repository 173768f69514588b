-- The steps from an empty file to the newest schema. A released step is never changed; new steps follow it.
-- Instants are microseconds since the epoch. Semicolons only end statements.

-- name: 1
CREATE TABLE kaiju_task (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    partition_hash INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    version TEXT NOT NULL,
    next_tick INTEGER NOT NULL,
    next_due INTEGER NOT NULL,
    last_done INTEGER NOT NULL,
    known_at INTEGER NOT NULL,
    next_unknown INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    manual_at INTEGER,
    manual_claims INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    owner TEXT,
    fence INTEGER NOT NULL,
    lease_until INTEGER,
    challenged INTEGER NOT NULL,
    claimed_at INTEGER,
    holds TEXT NOT NULL,
    held_back_by TEXT,
    PRIMARY KEY (app, name)
) WITHOUT ROWID;
CREATE INDEX kaiju_task_claimed ON kaiju_task (app, owner) WHERE owner IS NOT NULL;
CREATE INDEX kaiju_task_held ON kaiju_task (app) WHERE holds <> '{}';
CREATE INDEX kaiju_task_rev ON kaiju_task (app, rev);
CREATE TABLE kaiju_run (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    first_tick INTEGER NOT NULL,
    jitter INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    last_tick INTEGER NOT NULL,
    count INTEGER NOT NULL,
    more INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    started_at INTEGER,
    finished_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    fence INTEGER,
    instance TEXT,
    UNIQUE (app, name, first_tick, manual, delivery)
);
CREATE INDEX kaiju_run_latest ON kaiju_run (app, name, id);
CREATE INDEX kaiju_run_age ON kaiju_run (app, finished_at);
CREATE TABLE kaiju_instance (
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    info TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

-- name: 2
ALTER TABLE kaiju_run ADD COLUMN result TEXT;

-- name: 3
CREATE INDEX kaiju_run_ending
    ON kaiju_run (app, (outcome || ' ' || coalesce(reason, '')), first_tick, name, manual, delivery);

-- name: 4
CREATE TABLE kaiju_life (
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

-- name: 5
CREATE TABLE kaiju_note (
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

-- name: 6
ALTER TABLE kaiju_run ADD COLUMN held_by TEXT;

-- name: 7
CREATE INDEX kaiju_life_seen ON kaiju_life (app, seen_at, began_at);
