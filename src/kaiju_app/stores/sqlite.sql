-- What the store asks of SQLite. INDEXED BY: without statistics, SQLite would rather look at every record than use an
-- index with hardly a row in it.

-- name: newest
SELECT max(rev) FROM kaiju_task WHERE app = :app;

-- name: all
SELECT * FROM kaiju_task WHERE app = :app ORDER BY name;

-- name: some
SELECT * FROM kaiju_task WHERE app = :app AND name IN (SELECT value FROM json_each(:names)) ORDER BY name;

-- name: one
SELECT * FROM kaiju_task WHERE app = :app AND name = :name;

-- name: active
SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND holder IS NOT NULL
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_held WHERE app = :app AND holds <> '{}'
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_asked WHERE app = :app AND asked IS NOT NULL
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_due
WHERE app = :app AND holder IS NULL AND holds = '{}' AND due <= :now
ORDER BY name;

-- name: due
SELECT * FROM (
    SELECT * FROM kaiju_task INDEXED BY kaiju_task_due
    WHERE app = :app AND holder IS NULL AND holds = '{}' AND due <= :now + :ahead
        AND (bucket % :n = :rank OR due <= :now - :patience)
        AND (due <= :now OR name NOT IN (SELECT value FROM json_each(:punctual)))
        AND name NOT IN (SELECT value FROM json_each(:skip))
    ORDER BY due, name LIMIT :limit
)
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_asked
WHERE app = :app AND asked IS NOT NULL AND holder IS NULL AND holds = '{}'
    AND name NOT IN (SELECT value FROM json_each(:skip));

-- name: claimable
SELECT min(moment) FROM (
    SELECT * FROM (
        SELECT due - :lead AS moment FROM kaiju_task INDEXED BY kaiju_task_due
        WHERE app = :app AND holder IS NULL AND holds = '{}' AND due > :now + :ahead AND bucket % :n = :rank
            AND name NOT IN (SELECT value FROM json_each(:punctual))
            AND name NOT IN (SELECT value FROM json_each(:skip))
        ORDER BY due LIMIT 1
    )
    UNION ALL
    SELECT min(due) AS moment FROM json_each(:punctual) AS one CROSS JOIN kaiju_task  -- In this order: by their names.
    WHERE app = :app AND name = one.value
        AND holder IS NULL AND holds = '{}' AND due > :now AND bucket % :n = :rank
        AND name NOT IN (SELECT value FROM json_each(:skip))
    UNION ALL SELECT * FROM (
        SELECT due + :patience AS moment FROM kaiju_task INDEXED BY kaiju_task_due
        WHERE :n > 1 AND app = :app AND holder IS NULL AND holds = '{}' AND due > :now - :patience
            AND bucket % :n <> :rank AND name NOT IN (SELECT value FROM json_each(:skip))
        ORDER BY due LIMIT 1
    )
);

-- name: stale
SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND holder IS NOT NULL AND until < :now
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_held WHERE app = :app AND holds <> '{}'
    AND EXISTS (SELECT 1 FROM json_each(holds) WHERE json_extract(value, '$.until') < :now)
ORDER BY name;

-- name: own
SELECT * FROM kaiju_task INDEXED BY kaiju_task_held
WHERE app = :app AND holds <> '{}' AND instr(holds, :me) ORDER BY name;

-- name: mine
SELECT name, fence FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND holder = :me ORDER BY name;

-- name: traces
SELECT EXISTS (SELECT 1 FROM kaiju_task WHERE holder = :me)
    OR EXISTS (SELECT 1 FROM kaiju_task WHERE holds <> '{}' AND instr(holds, :me));

-- name: insert
INSERT INTO kaiju_task VALUES (
    :app, :name, :bucket, :rev, :spec, :version, :next, :due, :floor, :seen, :take, :asked, :asked_take, :manual,
    :holder, :fence, :until, :suspect, :started, :holds, :kept_back
) ON CONFLICT DO NOTHING;

-- name: update
UPDATE kaiju_task SET
    rev = :rev, spec = :spec, version = :version, next = :next, due = :due, floor = :floor, seen = :seen,
    take = :take, asked = :asked, asked_take = :asked_take, manual = :manual, holder = :holder, fence = :fence,
    until = :until, suspect = :suspect, started = :started, holds = :holds, kept_back = :kept_back
WHERE app = :app AND name = :name AND rev = :old_rev;

-- name: delete
DELETE FROM kaiju_task WHERE app = :app AND name = :name AND rev = :old_rev;

-- name: keep
INSERT INTO kaiju_run (
    app, name, first, jitter, manual, take, last, count, more, outcome, reason, error, started, finished, attempts,
    fence, instance
) VALUES (
    :app, :name, :first, :jitter, :manual, :take, :last, :count, :more, :outcome, :reason, :error, :started, :finished,
    :attempts, :fence, :instance
) ON CONFLICT DO NOTHING;

-- name: trim
DELETE FROM kaiju_run WHERE app = :app AND name = :name AND id <= (
    SELECT id FROM kaiju_run WHERE app = :app AND name = :name ORDER BY id DESC LIMIT 1 OFFSET :history
);

-- name: outdated
SELECT id FROM kaiju_run AS old INDEXED BY kaiju_run_age WHERE app = :app AND finished < :since
    AND id < (SELECT max(id) FROM kaiju_run WHERE app = :app AND name = old.name)
LIMIT :most;

-- name: overfull
SELECT name FROM kaiju_run INDEXED BY kaiju_run_latest WHERE app = :app GROUP BY name HAVING count(*) > :keep;

-- name: surplus
SELECT id FROM kaiju_run WHERE app = :app AND name = :name ORDER BY id DESC LIMIT :most OFFSET :keep;

-- name: discard
DELETE FROM kaiju_run WHERE app = :app AND id IN (SELECT value FROM json_each(:ids))
    AND id < (SELECT max(id) FROM kaiju_run AS newer WHERE app = :app AND newer.name = kaiju_run.name);

-- name: history
SELECT * FROM kaiju_run WHERE app = :app AND name = :name ORDER BY id DESC LIMIT :limit;

-- name: beat
INSERT INTO kaiju_instance VALUES (:app, :me, :info, :now)
ON CONFLICT DO UPDATE SET info = excluded.info, seen = excluded.seen;

-- name: leave
DELETE FROM kaiju_instance WHERE app = :app AND id = :me;

-- name: unheard
DELETE FROM kaiju_instance WHERE app = :app AND seen < :long_ago;

-- name: instances
SELECT id, info, seen FROM kaiju_instance WHERE app = :app AND seen >= :since ORDER BY id;
