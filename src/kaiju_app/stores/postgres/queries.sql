-- The statements of the store for PostgreSQL. Each is a transaction of its own, and one round trip.
--
-- :now is the time when the statement started, and :clock the current time, both by the database's clock; all other
-- names with a colon are parameters. No statement waits for the lock on a record: locked records are skipped and tried
-- again. So a long transaction of a user delays one task, not all. LATERAL looks up records one by one: without statistics
-- of a new table the planner would compare each record that is wanted with each that was found. Arrays come as texts,
-- which asyncpg sends in a fraction of the time.

-- name: facts
SELECT
    pg_backend_pid() AS backend, current_setting('synchronous_commit') AS durable,
    current_setting('server_encoding') AS encoding, current_setting('default_transaction_isolation') AS isolation,
    to_regclass('kaiju_schema') IS NOT NULL AS known,
    to_regclass('kaiju_task') IS NOT NULL AND to_regclass('kaiju_run') IS NOT NULL
        AND to_regclass('kaiju_instance') IS NOT NULL AND to_regclass('kaiju_life') IS NOT NULL
        AND to_regclass('kaiju_note') IS NOT NULL AS complete;

-- name: notify
SELECT pg_notify('kaiju', :what);

-- name: scan
SELECT
    (
        SELECT json_agg(task ORDER BY task.name) FROM kaiju_task AS task
        WHERE task.app = :app AND (:names::text[] IS NULL OR task.name = ANY (:names))
            AND (NOT :only_active::boolean OR task.owner IS NOT NULL OR task.holds <> '{}')
    ) AS records,
    :now AS now;

-- name: swap
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:changes::json)
        AS each (name text, old_rev bigint, new json, rows json, wakes boolean)
), locked AS MATERIALIZED (
    SELECT wanted.* FROM wanted CROSS JOIN LATERAL (
        SELECT FROM kaiju_task AS task
        WHERE task.app = :app AND task.name = wanted.name AND task.rev = wanted.old_rev FOR NO KEY UPDATE SKIP LOCKED
    ) AS found
), updated AS (
    UPDATE kaiju_task AS task SET
        rev = new.rev, schedule = new.schedule, version = new.version, next_tick = new.next_tick,
        next_due = new.next_due, last_done = new.last_done, known_at = new.known_at,
        next_unknown = new.next_unknown, claims = new.claims, manual_at = new.manual_at,
        manual_claims = new.manual_claims, manual = new.manual, owner = new.owner, fence = new.fence,
        lease_until = new.lease_until, challenged = new.challenged, claimed_at = new.claimed_at, holds = new.holds,
        held_back_by = new.held_back_by
    FROM locked, json_populate_record(NULL::kaiju_task, locked.new) AS new
    WHERE task.app = :app AND task.name = locked.name AND locked.new IS NOT NULL
    RETURNING task.name
), deleted AS (
    DELETE FROM kaiju_task AS task USING locked
    WHERE task.app = :app AND task.name = locked.name AND locked.new IS NULL
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
        app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, reason, error, started_at,
        finished_at, attempts, fence, instance, result, held_by
    )
    SELECT
        :app, row.name, row.first_tick, row.jitter, row.manual, row.delivery, row.last_tick, row.count, row.more,
        row.outcome, row.reason, row.error, row.started_at, row.finished_at, row.attempts, row.fence, row.instance,
        row.result, row.held_by
    FROM done, json_populate_recordset(NULL::kaiju_run, done.rows) AS row
    ON CONFLICT DO NOTHING
)
SELECT
    array(SELECT name FROM done) AS done,
    (SELECT count(pg_notify('kaiju', :app)) FROM (SELECT FROM done WHERE wakes LIMIT 1) AS any_of_them) AS woken;

-- name: claim
WITH known AS MATERIALIZED (
    SELECT name, rev, next_due, manual_at, owner IS NULL AND holds = '{}' AS is_free, CASE
        WHEN partition_hash % :count <> :index THEN -(:patience::bigint)
        WHEN name = ANY ((SELECT :not_ahead::text::text[])::text[]) THEN 0
        ELSE :ahead::bigint
    END AS reach
    FROM kaiju_task WHERE app = :app AND name = ANY ((SELECT :names::text::text[])::text[])
), ready AS MATERIALIZED (
    SELECT name, rev, next_due > :now + reach AS manual,
        CASE WHEN next_due <= :now + reach THEN next_due ELSE manual_at END AS moment
    FROM known WHERE is_free AND (next_due <= :now + reach OR manual_at IS NOT NULL)
), chosen AS MATERIALIZED (  -- A record that has changed since it was read above is left to the next claim.
    SELECT oldest.*, locked.place FROM (SELECT * FROM ready ORDER BY moment, name) AS oldest CROSS JOIN LATERAL (
        SELECT task.ctid AS place FROM kaiju_task AS task
        WHERE task.app = :app AND task.name = oldest.name AND task.rev = oldest.rev FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
    ORDER BY oldest.moment, oldest.name LIMIT :limit
), won AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now), fence = greatest(task.rev + 1, :now), owner = :me,
        lease_until = :now + :ttl, challenged = false,
        claimed_at = CASE WHEN chosen.manual THEN :now ELSE greatest(:now, task.next_due) END,
        claims = task.claims + (NOT chosen.manual)::integer,
        manual_claims = task.manual_claims + chosen.manual::integer,
        manual = chosen.manual
    FROM chosen
    WHERE task.app = :app AND task.ctid = chosen.place
    RETURNING task.*
)
SELECT
    array_agg(name) AS name, array_agg(rev) AS rev, array_agg(schedule) AS schedule, array_agg(version) AS version,
    array_agg(next_tick) AS next_tick, array_agg(next_due) AS next_due, array_agg(last_done) AS last_done,
    array_agg(known_at) AS known_at, array_agg(next_unknown) AS next_unknown, array_agg(claims) AS claims,
    array_agg(manual_at) AS manual_at, array_agg(manual_claims) AS manual_claims, array_agg(manual) AS manual,
    array_agg(owner) AS owner, array_agg(fence) AS fence, array_agg(lease_until) AS lease_until,
    array_agg(challenged) AS challenged, array_agg(claimed_at) AS claimed_at, array_agg(holds) AS holds,
    array_agg(held_back_by) AS held_back_by,
    (
        SELECT min(next_due - least(reach, :lead)) FROM known
        WHERE is_free AND next_due > :now + reach AND name NOT IN (SELECT name FROM chosen)
    ) AS next_claim_at,
    CASE WHEN :number > (SELECT count(*) FROM known)
        THEN array(SELECT unnest(:names::text::text[]) EXCEPT SELECT name FROM known) ELSE '{}'
    END AS missing,
    (
        SELECT json_agg(task ORDER BY task.name) FROM kaiju_task AS task
        WHERE task.app = :app AND task.name = ANY (ARRAY(  -- Two queries, as each has its partial index.
            SELECT name FROM kaiju_task WHERE app = :app AND owner IS NOT NULL AND lease_until < :now
            UNION
            SELECT name FROM kaiju_task WHERE app = :app AND holds <> '{}'
                AND EXISTS (SELECT FROM jsonb_each(holds) AS hold WHERE (hold.value ->> 'until')::bigint < :now)
        ))
    ) AS expired,
    :clock AS now
FROM won;

-- name: renew
WITH wanted AS MATERIALIZED (
    SELECT name, fence, keys::jsonb
    FROM unnest(:names::text::text[], :fences::text::bigint[], :keys::text::text[]) AS each (name, fence, keys)
), locked AS MATERIALIZED (
    SELECT wanted.*, found.place FROM wanted CROSS JOIN LATERAL (
        SELECT task.ctid AS place FROM kaiju_task AS task WHERE task.app = :app AND task.name = wanted.name AND (
            task.owner = :me AND task.fence = wanted.fence
            OR EXISTS (SELECT FROM jsonb_array_elements_text(wanted.keys) AS key WHERE task.holds ? key)
        )
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS found
), renewed AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now),
        lease_until = CASE
            WHEN task.owner = :me AND task.fence = locked.fence THEN :now + :ttl ELSE task.lease_until
        END,
        challenged = task.challenged AND (task.owner = :me AND task.fence = locked.fence) IS NOT TRUE,
        holds = task.holds || coalesce(
            (
                SELECT jsonb_object_agg(
                    key, task.holds -> key || jsonb_build_object('until', :now + :ttl, 'challenged', false)
                )
                FROM jsonb_array_elements_text(locked.keys) AS key WHERE task.holds ? key
            ),
            '{}'
        )
    FROM locked WHERE task.app = :app AND task.ctid = locked.place  -- One that was just changed is renewed next time.
    RETURNING
        task.name, task.fence, coalesce(task.owner = :me AND task.fence = locked.fence, false) AS is_run, task.holds
)
SELECT
    (
        SELECT json_agg(json_build_array(name, is_run, array(SELECT jsonb_object_keys(holds)))) FROM renewed
    ) AS renewed,
    (
        SELECT json_agg(json_build_array(name, fence) ORDER BY name) FROM kaiju_task WHERE app = :app AND owner = :me
    ) AS own_claims,
    (
        SELECT json_agg(json_build_array(name, key)) FROM kaiju_task, jsonb_object_keys(holds) AS key
        WHERE app = :app AND holds <> '{}' AND split_part(key, '#', 1) = :me
    ) AS own_holds,
    :clock AS now;

-- name: finish
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(
        :names::text::text[], :fences::text::bigint[], :ticks::text::bigint[], :schedules::text::text[],
        :next_ticks::text::bigint[], :next_dues::text::bigint[], :next_unknowns::text::boolean[]
    ) WITH ORDINALITY AS each (name, fence, tick, schedule, next_tick, next_due, next_unknown, place)
), judged AS MATERIALIZED (
    SELECT wanted.*, CASE
        WHEN locked.name IS NULL THEN
            CASE
                WHEN (SELECT true FROM kaiju_task WHERE app = :app AND name = wanted.name) THEN 'BUSY'
                ELSE 'LOST'
            END
        WHEN locked.owner = :me AND locked.fence = wanted.fence THEN
            CASE WHEN locked.schedule <> wanted.schedule AND NOT locked.manual THEN 'CHANGED' ELSE 'OK' END
        WHEN locked.fence = wanted.fence AND locked.owner IS NULL AND CASE
            WHEN wanted.next_tick IS NULL THEN locked.manual_at IS DISTINCT FROM wanted.tick
            ELSE locked.last_done >= wanted.tick
        END THEN 'DONE'
        ELSE 'LOST'
    END AS verdict
    FROM wanted LEFT JOIN LATERAL (
        SELECT * FROM kaiju_task AS task
        WHERE task.app = :app AND task.name = wanted.name FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked ON true
), done AS (
    UPDATE kaiju_task AS task SET
        rev = greatest(task.rev + 1, :now), known_at = :now, owner = NULL, lease_until = NULL, challenged = false,
        claimed_at = NULL, manual = false,
        manual_at = CASE WHEN task.manual THEN NULL ELSE task.manual_at END,
        manual_claims = CASE WHEN task.manual THEN 0 ELSE task.manual_claims END,
        next_tick = CASE
            WHEN task.manual THEN task.next_tick ELSE greatest(judged.next_tick, task.next_tick + 1)
        END,
        next_due = CASE
            WHEN task.manual THEN task.next_due
            ELSE greatest(judged.next_due, judged.next_tick, task.next_tick + 1)
        END,
        next_unknown = CASE WHEN task.manual THEN task.next_unknown ELSE judged.next_unknown END,
        last_done = CASE WHEN task.manual THEN task.last_done ELSE task.next_tick END,
        claims = CASE WHEN task.manual THEN task.claims ELSE 0 END,
        held_back_by = CASE WHEN task.manual THEN task.held_back_by END,
        holds = CASE WHEN task.holds = '{}' THEN task.holds ELSE (  -- Without requests to end the run.
            SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(task.holds) WHERE key NOT LIKE '#end of %'
        ) END
    FROM judged WHERE task.app = :app AND task.name = judged.name AND judged.verdict = 'OK'
    RETURNING task.name, task.holds <> '{}' AS held
), kept AS (
    INSERT INTO kaiju_run (
        app, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, reason, error, started_at,
        finished_at, attempts, fence, instance, result, held_by
    )
    SELECT
        :app, row.name, row.first_tick, row.jitter, row.manual, row.delivery, row.last_tick, row.count, row.more,
        row.outcome, row.reason, row.error, row.started_at, row.finished_at, row.attempts, row.fence, row.instance,
        row.result, row.held_by
    FROM judged JOIN unnest(
        :row_places::text::bigint[], :row_name::text::text[], :row_first_tick::text::bigint[],
        :row_jitter::text::bigint[], :row_manual::text::boolean[], :row_delivery::text::integer[],
        :row_last_tick::text::bigint[], :row_count::text::bigint[], :row_more::text::boolean[],
        :row_outcome::text::text[], :row_reason::text::text[], :row_error::text::text[],
        :row_started_at::text::bigint[], :row_finished_at::text::bigint[], :row_attempts::text::integer[],
        :row_fence::text::bigint[], :row_instance::text::text[], :row_result::text::text[],
        :row_held_by::text::text[]
    ) AS row (
        place, name, first_tick, jitter, manual, delivery, last_tick, count, more, outcome, reason, error, started_at,
        finished_at, attempts, fence, instance, result, held_by
    ) USING (place)
    WHERE judged.verdict = 'OK'
    ON CONFLICT DO NOTHING
)
SELECT
    array(SELECT verdict FROM judged ORDER BY place) AS verdicts,
    (SELECT count(pg_notify('kaiju', :app)) FROM (SELECT FROM done WHERE held LIMIT 1) AS any_of_them) AS woken;

-- name: forgettable
SELECT array(
    SELECT name FROM kaiju_task
    WHERE app = :app AND owner IS NULL AND holds = '{}' AND :now - known_at > :unseen_for::bigint
    ORDER BY name LIMIT :limit
) AS names;

-- name: guard
SELECT 1 FROM kaiju_task WHERE app = :app AND name = :name AND owner = :me AND fence = :fence FOR NO KEY UPDATE;

-- name: history
SELECT json_agg(latest ORDER BY latest.id) AS rows FROM (
    SELECT * FROM kaiju_run WHERE app = :app AND name = :name ORDER BY id DESC LIMIT :limit
) AS latest;

-- name: runs_of_task
SELECT
    (
        SELECT json_agg(found ORDER BY first_tick DESC, manual DESC, delivery DESC) FROM (
            SELECT * FROM kaiju_run
            WHERE app = :app AND name = :name AND first_tick >= :since::bigint AND first_tick <= :tick::bigint
                AND (first_tick, name, manual, delivery) < (:tick, :below::text, :manual::boolean, :delivery::integer)
                AND (:endings::text[] IS NULL OR outcome || ' ' || coalesce(reason, '') = ANY (:endings))
            ORDER BY first_tick DESC, manual DESC, delivery DESC LIMIT :limit
        ) AS found
    ) AS rows,
    (SELECT min(first_tick) FROM kaiju_run WHERE app = :app AND name = :name) AS oldest,
    (SELECT max(first_tick) FROM kaiju_run WHERE app = :app AND name = :name) AS newest;

-- name: runs
WITH ends AS MATERIALIZED (  -- One after the other: each has its stretch of the index.
    SELECT ending, ending = ANY (coalesce(:endings::text[], :every::text[])) AS wanted
    FROM unnest(:every::text[]) AS ending
), places AS (
    SELECT run.* FROM ends, LATERAL (
        SELECT id, first_tick, name, manual, delivery FROM kaiju_run
        WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = ending
            AND first_tick >= :since::bigint AND first_tick <= :tick::bigint
            AND (first_tick, name, manual, delivery) < (:tick, :below::text, :manual::boolean, :delivery::integer)
        ORDER BY first_tick DESC, name DESC, manual DESC, delivery DESC LIMIT :limit
    ) AS run WHERE ends.wanted
), page AS (
    SELECT id FROM places ORDER BY first_tick DESC, name DESC, manual DESC, delivery DESC LIMIT :limit
)
SELECT
    (
        SELECT json_agg(found ORDER BY first_tick DESC, name DESC, manual DESC, delivery DESC)
        FROM kaiju_run AS found WHERE id = ANY (ARRAY(SELECT id FROM page))
    ) AS rows,
    (
        SELECT min(edge) FROM ends, LATERAL (
            SELECT min(first_tick) AS edge FROM kaiju_run
            WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = ending
        ) AS known
    ) AS oldest,
    (
        SELECT max(edge) FROM ends, LATERAL (
            SELECT max(first_tick) AS edge FROM kaiju_run
            WHERE app = :app AND outcome || ' ' || coalesce(reason, '') = ending
        ) AS known
    ) AS newest;

-- name: delete_history
WITH deleted AS (
    DELETE FROM kaiju_run WHERE app = :app AND name = :name RETURNING 1
)
SELECT count(*) AS deleted FROM deleted;

-- name: heartbeat
WITH sender AS (
    INSERT INTO kaiju_instance VALUES (:app, :me, :info, :now)
    ON CONFLICT (app, id) DO UPDATE SET info = excluded.info, seen_at = excluded.seen_at
    RETURNING id, info, seen_at
), life AS (
    INSERT INTO kaiju_life VALUES (:app, :me, :now, :now)
    ON CONFLICT (app, id) DO UPDATE SET seen_at = excluded.seen_at
)
SELECT json_agg(json_build_array(id, info, seen_at) ORDER BY id) AS instances FROM (
    TABLE sender
    UNION ALL
    SELECT id, info, seen_at FROM kaiju_instance WHERE app = :app AND id <> :me AND seen_at >= :now - :ttl
) AS heard_of;

-- name: instances
SELECT json_agg(json_build_array(id, info, seen_at) ORDER BY id) AS instances
FROM kaiju_instance WHERE app = :app AND seen_at >= :now - :ttl;

-- name: lives
SELECT json_agg(json_build_array(id, began_at, seen_at, note) ORDER BY seen_at, id) AS lives FROM (
    SELECT id, began_at, seen_at, coalesce(note, '') AS note FROM kaiju_life LEFT JOIN kaiju_note USING (app, id)
    WHERE app = :app ORDER BY seen_at DESC, id DESC LIMIT :most
) AS latest;

-- name: lives_near
SELECT json_agg(json_build_array(near.id, began_at, seen_at, coalesce(note, '')) ORDER BY seen_at, near.id) AS lives
FROM (
    (
        SELECT id, began_at, seen_at FROM kaiju_life
        WHERE app = :app AND seen_at >= :since::bigint AND began_at <= :until::bigint
        ORDER BY seen_at DESC, id DESC LIMIT :most
    )
    UNION (
        SELECT id, began_at, seen_at FROM kaiju_life
        WHERE app = :app AND seen_at < :since::bigint ORDER BY seen_at DESC LIMIT 1
    )
    UNION (
        SELECT id, began_at, seen_at FROM kaiju_life
        WHERE app = :app AND seen_at > :until::bigint AND began_at > :until::bigint ORDER BY began_at LIMIT 1
    )
) AS near LEFT JOIN kaiju_note ON kaiju_note.app = :app AND kaiju_note.id = near.id;

-- name: note
INSERT INTO kaiju_note VALUES (:app, :me, :note)
ON CONFLICT (app, id) DO UPDATE SET note = excluded.note;

-- name: prune_notes
DELETE FROM kaiju_note WHERE app = :app AND id NOT IN (SELECT id FROM kaiju_life WHERE app = :app);

-- name: deregister
DELETE FROM kaiju_instance WHERE app = :app AND id = :me;

-- name: prune_instances
DELETE FROM kaiju_instance WHERE app = :app AND seen_at < :now - :age;

-- name: prune_lives
DELETE FROM kaiju_life WHERE app = :app AND (
    seen_at < :now - :age
    OR id IN (SELECT id FROM kaiju_life WHERE app = :app ORDER BY seen_at DESC, id DESC OFFSET :most)
);

-- name: prune
WITH RECURSIVE names AS (
    SELECT min(name) AS name, 1 AS number FROM kaiju_run WHERE app = :app AND name > :after::text
    UNION ALL
    SELECT (SELECT min(name) FROM kaiju_run WHERE app = :app AND name > names.name), number + 1
    FROM names WHERE name IS NOT NULL AND number < 25
), old AS MATERIALIZED (
    SELECT run.id, names.name FROM names, LATERAL (
        SELECT id, finished_at, row_number() OVER (ORDER BY id DESC) AS place FROM kaiju_run
        WHERE app = :app AND name = names.name
    ) AS run
    WHERE run.place > :keep OR run.place > 1 AND run.finished_at < :now - :age
    ORDER BY names.name LIMIT :most
), gone AS (
    DELETE FROM kaiju_run WHERE id IN (SELECT id FROM old) RETURNING 1
)
SELECT
    (SELECT count(*) FROM gone) AS gone,
    CASE WHEN (SELECT count(*) FROM old) < :most THEN (SELECT max(name) FROM names) ELSE :after END AS reached,
    (SELECT count(*) FROM names WHERE name IS NOT NULL) AS looked_at;
