-- What the store asks of PostgreSQL. Each statement is a transaction of its own, and one way there and back.
--
-- :now is the time at which the statement began, and :clock that at which it is read, both by the database's own clock;
-- whatever else begins with a colon is a parameter. No statement waits for the lock on a record: what somebody else has
-- locked at that moment is skipped, and tried again. So one long transaction of a user's holds up one task, not all.
-- :names says once more which records are meant: without it, the planner would rather look at all of them.

-- name: facts
SELECT
    pg_backend_pid() AS backend, current_setting('synchronous_commit') AS durable,
    current_setting('server_encoding') AS encoding, current_setting('default_transaction_isolation') AS isolation,
    to_regclass('kaiju_schema') IS NOT NULL AS known;

-- name: tell
SELECT pg_notify('kaiju', :what);

-- name: scan
SELECT
    (
        SELECT json_agg(task ORDER BY task.name) FROM kaiju_task AS task
        WHERE task.app = :app AND (:names::text[] IS NULL OR task.name = ANY (:names))
            AND (
                NOT :active::boolean OR task.holder IS NOT NULL OR task.holds <> '{}' OR task.asked IS NOT NULL
                OR task.due <= :now
            )
    ) AS records,
    :now AS now;

-- name: swap
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:changes::json)
        AS each (name text, old_rev bigint, new json, rows json, told boolean)
), locked AS MATERIALIZED (
    SELECT task.name FROM kaiju_task AS task JOIN wanted ON wanted.name = task.name
    WHERE task.app = :app AND task.name = ANY (:names::text[]) AND task.rev = wanted.old_rev
    ORDER BY task.name FOR NO KEY UPDATE OF task SKIP LOCKED
), updated AS (
    UPDATE kaiju_task AS task SET
        rev = new.rev, spec = new.spec, version = new.version, next = new.next, due = new.due, floor = new.floor,
        seen = new.seen, take = new.take, asked = new.asked, asked_take = new.asked_take, manual = new.manual,
        holder = new.holder, fence = new.fence, until = new.until, suspect = new.suspect, started = new.started,
        holds = new.holds, kept_back = new.kept_back
    FROM locked JOIN wanted USING (name), json_populate_record(NULL::kaiju_task, wanted.new) AS new
    WHERE task.app = :app AND task.name = locked.name AND wanted.new IS NOT NULL
    RETURNING task.name
), deleted AS (
    DELETE FROM kaiju_task AS task USING locked JOIN wanted USING (name)
    WHERE task.app = :app AND task.name = locked.name AND wanted.new IS NULL
    RETURNING task.name
), inserted AS (
    INSERT INTO kaiju_task
    SELECT new.* FROM wanted, json_populate_record(NULL::kaiju_task, wanted.new) AS new
    WHERE wanted.old_rev IS NULL ORDER BY wanted.name
    ON CONFLICT DO NOTHING
    RETURNING name
), done AS MATERIALIZED (
    SELECT wanted.* FROM wanted
    JOIN (TABLE updated UNION ALL TABLE deleted UNION ALL TABLE inserted) AS changed USING (name)
), kept AS (
    INSERT INTO kaiju_run (
        app, name, first, jitter, manual, take, last, count, more, outcome, reason, error, started, finished, attempts,
        fence, instance
    )
    SELECT
        :app, row.name, row.first, row.jitter, row.manual, row.take, row.last, row.count, row.more, row.outcome,
        row.reason, row.error, row.started, row.finished, row.attempts, row.fence, row.instance
    FROM done, json_populate_recordset(NULL::kaiju_run, done.rows) AS row
    ON CONFLICT DO NOTHING
)
SELECT
    array(SELECT name FROM done) AS done,
    (SELECT count(pg_notify('kaiju', :app)) FROM (SELECT FROM done WHERE told LIMIT 1) AS any_of_them) AS told;

-- name: claim
WITH due AS MATERIALIZED (
    SELECT name, due AS moment, false AS manual FROM kaiju_task
    WHERE app = :app AND holder IS NULL AND holds = '{}' AND due <= :now + :ahead
        AND (due <= :now OR name <> ALL (:punctual::text[]))
        AND (bucket % :n = :rank OR due <= :now - :patience) AND name <> ALL (:skip::text[])
    ORDER BY due, name LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
), asked AS MATERIALIZED (
    SELECT name, asked AS moment, true AS manual FROM kaiju_task
    WHERE app = :app AND asked IS NOT NULL AND holder IS NULL AND holds = '{}' AND name <> ALL (:skip)
        AND NOT (
            due <= :now + :ahead AND (due <= :now OR name <> ALL (:punctual))
            AND (bucket % :n = :rank OR due <= :now - :patience)
        )
    ORDER BY asked, name LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT * FROM (TABLE due UNION ALL TABLE asked) AS both_of_them ORDER BY moment, name LIMIT :limit
), won AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now), fence = greatest(task.rev + 1, :now), holder = :me, until = :now + :ttl,
        suspect = false, started = CASE WHEN chosen.manual THEN :now ELSE greatest(:now, task.due) END,
        take = task.take + (NOT chosen.manual)::integer, asked_take = task.asked_take + chosen.manual::integer,
        manual = chosen.manual
    FROM chosen WHERE task.app = :app AND task.name = chosen.name
    RETURNING task.*
)
SELECT
    (SELECT json_agg(won) FROM won) AS won,
    (
        SELECT min(moment) FROM (
            (
                SELECT due - :lead AS moment FROM kaiju_task
                WHERE app = :app AND holder IS NULL AND holds = '{}' AND due > :now + :ahead AND bucket % :n = :rank
                    AND name <> ALL (:skip) AND name <> ALL (:punctual) AND name NOT IN (SELECT name FROM chosen)
                ORDER BY due LIMIT 1
            )
            UNION ALL (
                SELECT min(due) FROM kaiju_task
                WHERE app = :app AND name = ANY (:punctual) AND holder IS NULL AND holds = '{}' AND due > :now
                    AND bucket % :n = :rank AND name <> ALL (:skip) AND name NOT IN (SELECT name FROM chosen)
            )
            UNION ALL (
                SELECT due + :patience FROM kaiju_task
                WHERE :n > 1 AND app = :app AND holder IS NULL AND holds = '{}' AND due > :now - :patience
                    AND bucket % :n <> :rank AND name <> ALL (:skip) AND name NOT IN (SELECT name FROM chosen)
                ORDER BY due LIMIT 1
            )
        ) AS coming
    ) AS claimable,
    (
        SELECT json_agg(task ORDER BY task.name) FROM kaiju_task AS task
        WHERE task.app = :app AND (
            task.holder IS NOT NULL AND task.until < :now
            OR task.holds <> '{}'
                AND EXISTS (SELECT FROM jsonb_each(task.holds) AS hold WHERE (hold.value ->> 'until')::bigint < :now)
        )
    ) AS stale,
    :clock AS now;

-- name: renew
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:leases::json) AS each (name text, fence bigint, keys jsonb)
), locked AS MATERIALIZED (
    SELECT task.name FROM kaiju_task AS task JOIN wanted USING (name)
    WHERE task.app = :app AND task.name = ANY (:names::text[]) AND (
        task.holder = :me AND task.fence = wanted.fence
        OR EXISTS (SELECT FROM jsonb_array_elements_text(wanted.keys) AS key WHERE task.holds ? key)
    )
    ORDER BY task.name FOR NO KEY UPDATE OF task SKIP LOCKED
), renewed AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now),
        until = CASE WHEN task.holder = :me AND task.fence = wanted.fence THEN :now + :ttl ELSE task.until END,
        suspect = task.suspect AND (task.holder = :me AND task.fence = wanted.fence) IS NOT TRUE,
        holds = task.holds || coalesce(
            (
                SELECT jsonb_object_agg(
                    key, task.holds -> key || jsonb_build_object('until', :now + :ttl, 'suspect', false)
                )
                FROM jsonb_array_elements_text(wanted.keys) AS key WHERE task.holds ? key
            ),
            '{}'
        )
    FROM locked JOIN wanted USING (name) WHERE task.app = :app AND task.name = locked.name
    RETURNING task.name, task.fence, coalesce(task.holder = :me AND task.fence = wanted.fence, false) AS is_run, task.holds
)
SELECT
    (
        SELECT json_agg(json_build_array(name, is_run, array(SELECT jsonb_object_keys(holds)))) FROM renewed
    ) AS renewed,
    (
        SELECT json_agg(json_build_array(name, fence) ORDER BY name) FROM kaiju_task WHERE app = :app AND holder = :me
    ) AS mine,
    (
        SELECT json_agg(json_build_array(name, key)) FROM kaiju_task, jsonb_object_keys(holds) AS key
        WHERE app = :app AND holds <> '{}' AND split_part(key, '#', 1) = :me
    ) AS own,
    :clock AS now;

-- name: finish
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:endings::json)
        AS each (place integer, name text, fence bigint, tick bigint, spec text, next bigint, due bigint, rows json)
), locked AS MATERIALIZED (
    SELECT task.* FROM kaiju_task AS task WHERE task.app = :app AND task.name = ANY (:names::text[])
    ORDER BY task.name FOR NO KEY UPDATE OF task SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT wanted.*, CASE
        WHEN locked.name IS NULL THEN
            CASE
                WHEN wanted.name IN (SELECT name FROM kaiju_task WHERE app = :app AND name = ANY (:names)) THEN 'BUSY'
                ELSE 'LOST'
            END
        WHEN locked.holder = :me AND locked.fence = wanted.fence THEN
            CASE WHEN locked.spec <> wanted.spec AND NOT locked.manual THEN 'CHANGED' ELSE 'OK' END
        WHEN locked.fence = wanted.fence AND locked.holder IS NULL AND CASE
            WHEN wanted.next IS NULL THEN locked.asked IS DISTINCT FROM wanted.tick ELSE locked.floor >= wanted.tick
        END THEN 'DONE'
        ELSE 'LOST'
    END AS verdict
    FROM wanted LEFT JOIN locked ON locked.name = wanted.name
), done AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now), seen = :now, holder = NULL, until = NULL, suspect = false, started = NULL,
        manual = false,
        asked = CASE WHEN task.manual THEN NULL ELSE task.asked END,
        asked_take = CASE WHEN task.manual THEN 0 ELSE task.asked_take END,
        next = CASE WHEN task.manual THEN task.next ELSE greatest(judged.next, task.next + 1) END,
        due = CASE WHEN task.manual THEN task.due ELSE greatest(judged.due, judged.next, task.next + 1) END,
        floor = CASE WHEN task.manual THEN task.floor ELSE task.next END,
        take = CASE WHEN task.manual THEN task.take ELSE 0 END,
        kept_back = CASE WHEN task.manual THEN task.kept_back END
    FROM judged WHERE task.app = :app AND task.name = judged.name AND judged.verdict = 'OK'
    RETURNING task.name, task.holds <> '{}' AS held
), kept AS (
    INSERT INTO kaiju_run (
        app, name, first, jitter, manual, take, last, count, more, outcome, reason, error, started, finished, attempts,
        fence, instance
    )
    SELECT
        :app, row.name, row.first, row.jitter, row.manual, row.take, row.last, row.count, row.more, row.outcome,
        row.reason, row.error, row.started, row.finished, row.attempts, row.fence, row.instance
    FROM judged, json_populate_recordset(NULL::kaiju_run, judged.rows) AS row
    WHERE judged.verdict = 'OK'
    ON CONFLICT DO NOTHING
)
SELECT
    array(SELECT verdict FROM judged ORDER BY place) AS verdicts,
    (SELECT count(pg_notify('kaiju', :app)) FROM (SELECT FROM done WHERE held LIMIT 1) AS any_of_them) AS told;

-- name: guard
SELECT 1 FROM kaiju_task WHERE app = :app AND name = :name AND holder = :me AND fence = :fence FOR NO KEY UPDATE;

-- name: history
SELECT json_agg(latest ORDER BY latest.id) AS rows FROM (
    SELECT * FROM kaiju_run WHERE app = :app AND name = :name ORDER BY id DESC LIMIT :limit
) AS latest;

-- name: beat
WITH beat AS (
    INSERT INTO kaiju_instance VALUES (:app, :me, :info, :now)
    ON CONFLICT (app, id) DO UPDATE SET info = excluded.info, seen = excluded.seen
    RETURNING id, info, seen
)
SELECT json_agg(json_build_array(id, info, seen) ORDER BY id) AS instances FROM (
    TABLE beat
    UNION ALL
    SELECT id, info, seen FROM kaiju_instance WHERE app = :app AND id <> :me AND seen >= :now - :ttl
) AS heard_of;

-- name: leave
DELETE FROM kaiju_instance WHERE app = :app AND id = :me;

-- name: unheard
DELETE FROM kaiju_instance WHERE app = :app AND seen < :now - :age;

-- name: tidy
WITH RECURSIVE names AS (
    SELECT min(name) AS name, 1 AS number FROM kaiju_run WHERE app = :app AND name > :after::text
    UNION ALL
    SELECT (SELECT min(name) FROM kaiju_run WHERE app = :app AND name > names.name), number + 1
    FROM names WHERE name IS NOT NULL AND number < 25
), old AS MATERIALIZED (
    SELECT run.id, names.name FROM names, LATERAL (
        SELECT id, finished, row_number() OVER (ORDER BY id DESC) AS place FROM kaiju_run
        WHERE app = :app AND name = names.name
    ) AS run
    WHERE run.place > :keep OR run.place > 1 AND run.finished < :now - :age
    ORDER BY names.name LIMIT :most
), gone AS (
    DELETE FROM kaiju_run WHERE id IN (SELECT id FROM old) RETURNING 1
)
SELECT
    (SELECT count(*) FROM gone) AS gone,
    CASE WHEN (SELECT count(*) FROM old) < :most THEN (SELECT max(name) FROM names) ELSE :after END AS reached,
    (SELECT count(*) FROM names WHERE name IS NOT NULL) AS looked_at;
