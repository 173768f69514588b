-- The steps from an empty file to the newest schema. A step that was released is never changed; new ones follow it.
-- Instants are microseconds since the epoch. A semicolon ends a statement, and is nowhere else.

-- name: 1
CREATE TABLE kaiju_task (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    spec TEXT NOT NULL,
    version TEXT NOT NULL,
    next INTEGER NOT NULL,
    due INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    take INTEGER NOT NULL,
    asked INTEGER,
    asked_take INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    holder TEXT,
    fence INTEGER NOT NULL,
    until INTEGER,
    suspect INTEGER NOT NULL,
    started INTEGER,
    holds TEXT NOT NULL,
    kept_back TEXT,
    PRIMARY KEY (app, name)
) WITHOUT ROWID;
CREATE INDEX kaiju_task_due ON kaiju_task (app, due, bucket) WHERE holder IS NULL AND holds = '{}';
CREATE INDEX kaiju_task_asked ON kaiju_task (app) WHERE asked IS NOT NULL;
CREATE INDEX kaiju_task_claimed ON kaiju_task (app, holder) WHERE holder IS NOT NULL;
CREATE INDEX kaiju_task_held ON kaiju_task (app) WHERE holds <> '{}';
CREATE INDEX kaiju_task_rev ON kaiju_task (app, rev);
CREATE TABLE kaiju_run (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    first INTEGER NOT NULL,
    jitter INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    take INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    more INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    started INTEGER,
    finished INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    fence INTEGER,
    instance TEXT,
    UNIQUE (app, name, first, manual, take)
);
CREATE INDEX kaiju_run_latest ON kaiju_run (app, name, id);
CREATE INDEX kaiju_run_age ON kaiju_run (app, finished);
CREATE TABLE kaiju_instance (
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    info TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;
