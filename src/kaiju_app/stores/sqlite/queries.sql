-- The statements of the store for SQLite. INDEXED BY: without statistics SQLite would scan all records rather than use
-- an index that has hardly a row. Records and rows come in JSON arrays, so that any number of them takes one statement:
-- between two statements the thread of the store waits for the interpreter, which a busy loop gives away only now and then.

-- name: newest
SELECT max(rev) FROM kaiju_task WHERE app = :app;

-- name: all
SELECT * FROM kaiju_task WHERE app = :app ORDER BY name;

-- name: some
SELECT * FROM kaiju_task WHERE app = :app AND name IN (SELECT value FROM json_each(:names)) ORDER BY name;

-- name: one
SELECT * FROM kaiju_task WHERE app = :app AND name = :name;

-- name: active
SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND owner IS NOT NULL
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_held WHERE app = :app AND holds <> '{}'
ORDER BY name;

-- name: due
SELECT * FROM (
    SELECT kaiju_task.*, CASE
        WHEN partition_hash % :count <> :index THEN -:patience
        WHEN name IN (SELECT value FROM json_each(:not_ahead)) THEN 0
        ELSE :ahead
    END AS reach
    FROM json_each(:names) AS one CROSS JOIN kaiju_task  -- This order finds them by name.
    WHERE app = :app AND name = one.value AND owner IS NULL AND holds = '{}'
)
WHERE next_due <= :now + reach OR manual_at IS NOT NULL
ORDER BY CASE WHEN next_due <= :now + reach THEN next_due ELSE manual_at END, name LIMIT :limit;

-- name: left
SELECT
    min(CASE WHEN owner IS NULL AND holds = '{}' AND next_due > :now + reach THEN next_due - min(reach, :lead) END),
    count(*) - count(name)
FROM (
    SELECT kaiju_task.*, CASE
        WHEN partition_hash % :count <> :index THEN -:patience
        WHEN name IN (SELECT value FROM json_each(:not_ahead)) THEN 0
        ELSE :ahead
    END AS reach
    FROM json_each(:names) AS one LEFT JOIN kaiju_task ON app = :app AND name = one.value
);

-- name: missing
SELECT value FROM json_each(:names)
WHERE NOT EXISTS (SELECT 1 FROM kaiju_task WHERE app = :app AND name = value) ORDER BY value;

-- name: forgettable
SELECT name FROM kaiju_task
WHERE app = :app AND owner IS NULL AND holds = '{}' AND :now - known_at > :unseen_for ORDER BY name LIMIT :limit;

-- name: expired
SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND owner IS NOT NULL AND lease_until < :now
UNION SELECT * FROM kaiju_task INDEXED BY kaiju_task_held WHERE app = :app AND holds <> '{}'
    AND EXISTS (SELECT 1 FROM json_each(holds) WHERE json_extract(value, '$.until') < :now)
ORDER BY name;

-- name: own_holds
SELECT * FROM kaiju_task INDEXED BY kaiju_task_held
WHERE app = :app AND holds <> '{}' AND instr(holds, :me) ORDER BY name;

-- name: own_claims
SELECT name, fence FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND owner = :me ORDER BY name;

-- name: traces
SELECT EXISTS (SELECT 1 FROM kaiju_task WHERE owner = :me)
    OR EXISTS (SELECT 1 FROM kaiju_task WHERE holds <> '{}' AND instr(holds, :me));

-- name: put
INSERT INTO kaiju_task SELECT
    :app, json_extract(value, '$[2]'), json_extract(value, '$[1]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'),
    json_extract(value, '$[7]'), json_extract(value, '$[8]'), json_extract(value, '$[9]'),
    json_extract(value, '$[10]'), json_extract(value, '$[11]'), json_extract(value, '$[12]'),
    json_extract(value, '$[13]'), json_extract(value, '$[14]'), json_extract(value, '$[15]'),
    json_extract(value, '$[16]'), json_extract(value, '$[17]'), json_extract(value, '$[18]'),
    json_extract(value, '$[19]'), json_extract(value, '$[20]'), json_extract(value, '$[21]')
FROM json_each(:records) WHERE json_extract(value, '$[0]') IS (
    SELECT rev FROM kaiju_task WHERE app = :app AND name = json_extract(value, '$[2]')
)
ON CONFLICT (app, name) DO UPDATE SET
    partition_hash = excluded.partition_hash, rev = excluded.rev, schedule = excluded.schedule,
    version = excluded.version, next_tick = excluded.next_tick, next_due = excluded.next_due,
    last_done = excluded.last_done, known_at = excluded.known_at, next_unknown = excluded.next_unknown,
    claims = excluded.claims, manual_at = excluded.manual_at, manual_claims = excluded.manual_claims,
    manual = excluded.manual, owner = excluded.owner, fence = excluded.fence, lease_until = excluded.lease_until,
    challenged = excluded.challenged, claimed_at = excluded.claimed_at, holds = excluded.holds,
    held_back_by = excluded.held_back_by;

-- name: delete
DELETE FROM kaiju_task WHERE app = :app AND name = :name AND rev = :old_rev;

-- name: keep
INSERT INTO kaiju_run (
    app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, reason, error, started_at,
    finished_at, attempts, fence, instance, result, held_by
)
SELECT
    :app, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[15]'),
    json_extract(value, '$[11]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]'), json_extract(value, '$[9]'), json_extract(value, '$[5]'),
    json_extract(value, '$[6]'), json_extract(value, '$[10]'), json_extract(value, '$[8]'),
    json_extract(value, '$[7]'), json_extract(value, '$[12]'), json_extract(value, '$[13]'),
    json_extract(value, '$[14]'), json_extract(value, '$[16]'), json_extract(value, '$[17]')
FROM json_each(:rows) WHERE true ON CONFLICT DO NOTHING;

-- name: trim
DELETE FROM kaiju_run WHERE id IN (
    SELECT old.id FROM (
        SELECT value AS name, (
            SELECT id FROM kaiju_run WHERE app = :app AND name = value ORDER BY id DESC LIMIT 1 OFFSET :history
        ) AS last
        FROM json_each(:names)
    ) AS each CROSS JOIN kaiju_run AS old WHERE old.app = :app AND old.name = each.name AND old.id <= each.last
);

-- name: outdated
SELECT id FROM kaiju_run AS old INDEXED BY kaiju_run_age WHERE app = :app AND finished_at < :since
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

-- name: places_of_task
SELECT id, first_tick, name, manual, delivery FROM kaiju_run
WHERE app = :app AND name = :name AND first_tick >= :since
    AND (first_tick, name, manual, delivery) < (:tick, :below, :manual, :delivery)
    AND (:endings IS NULL OR outcome || ' ' || coalesce(reason, '') IN (SELECT value FROM json_each(:endings)))
ORDER BY first_tick DESC, manual DESC, delivery DESC LIMIT :limit;

-- name: places
SELECT id, first_tick, name, manual, delivery FROM kaiju_run INDEXED BY kaiju_run_ending
WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = :ending AND first_tick >= :since
    AND (first_tick, name, manual, delivery) < (:tick, :below, :manual, :delivery)
ORDER BY first_tick DESC, name DESC, manual DESC, delivery DESC LIMIT :limit;

-- name: runs
SELECT * FROM kaiju_run WHERE id IN (SELECT value FROM json_each(:ids));

-- name: edges_of_task
SELECT
    (SELECT min(first_tick) FROM kaiju_run WHERE app = :app AND name = :name),
    (SELECT max(first_tick) FROM kaiju_run WHERE app = :app AND name = :name);

-- name: edges
SELECT
    (SELECT min(first_tick) FROM kaiju_run INDEXED BY kaiju_run_ending
        WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = :ending),
    (SELECT max(first_tick) FROM kaiju_run INDEXED BY kaiju_run_ending
        WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = :ending);

-- name: delete_history
DELETE FROM kaiju_run WHERE app = :app AND name = :name;

-- name: heartbeat
INSERT INTO kaiju_instance VALUES (:app, :me, :info, :now)
ON CONFLICT DO UPDATE SET info = excluded.info, seen_at = excluded.seen_at;

-- name: live
INSERT INTO kaiju_life VALUES (:app, :me, :now, :now) ON CONFLICT DO UPDATE SET seen_at = excluded.seen_at;

-- name: lives
SELECT id, began_at, seen_at, coalesce(note, '') FROM kaiju_life LEFT JOIN kaiju_note USING (app, id)
WHERE app = :app ORDER BY seen_at DESC, id DESC LIMIT :most;

-- name: lives_near
SELECT near.id, began_at, seen_at, coalesce(note, '') FROM (
    SELECT * FROM (
        SELECT id, began_at, seen_at FROM kaiju_life INDEXED BY kaiju_life_seen
        WHERE app = :app AND seen_at >= :since AND began_at <= :until ORDER BY seen_at DESC, id DESC LIMIT :most
    )
    UNION SELECT * FROM (
        SELECT id, began_at, seen_at FROM kaiju_life INDEXED BY kaiju_life_seen
        WHERE app = :app AND seen_at < :since ORDER BY seen_at DESC LIMIT 1
    )
    UNION SELECT * FROM (
        SELECT id, min(began_at), seen_at FROM kaiju_life INDEXED BY kaiju_life_seen
        WHERE app = :app AND seen_at > :until AND began_at > :until
    ) WHERE id IS NOT NULL
) AS near LEFT JOIN kaiju_note ON app = :app AND kaiju_note.id = near.id
ORDER BY seen_at, near.id;

-- name: note
INSERT INTO kaiju_note VALUES (:app, :me, :note) ON CONFLICT DO UPDATE SET note = excluded.note;

-- name: prune_notes
DELETE FROM kaiju_note WHERE app = :app AND id NOT IN (SELECT id FROM kaiju_life WHERE app = :app);

-- name: prune_lives
DELETE FROM kaiju_life WHERE app = :app AND (
    seen_at < :long_ago
    OR id IN (SELECT id FROM kaiju_life WHERE app = :app ORDER BY seen_at DESC, id DESC LIMIT -1 OFFSET :most)
);

-- name: deregister
DELETE FROM kaiju_instance WHERE app = :app AND id = :me;

-- name: prune_instances
DELETE FROM kaiju_instance WHERE app = :app AND seen_at < :long_ago;

-- name: instances
SELECT id, info, seen_at FROM kaiju_instance WHERE app = :app AND seen_at >= :since ORDER BY id;
