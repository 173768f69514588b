"""Mutants of the SQL for PostgreSQL: one condition left out or changed at a time. Part of the table in ``mutants``."""

from __future__ import annotations

from simulation.mutant import Edit, Mutant, SuiteGate

SQL = "stores/postgres/queries.sql"
CONTRACT = SuiteGate(("tests/contract/test_store_contract.py",), "postgres and not never_meet")
ITS_OWN = SuiteGate(("tests/contract/test_postgres.py",))
GUARDED = SuiteGate(("tests/contract/test_postgres.py",), "guard")

KNOWN = """    SELECT name, rev, next_due, manual_at, owner IS NULL AND holds = '{}' AS is_free, CASE
        WHEN partition_hash % :count <> :index THEN -(:patience::bigint)
        WHEN name = ANY ((SELECT :not_ahead::text::text[])::text[]) THEN 0
        ELSE :ahead::bigint
    END AS reach
    FROM kaiju_task WHERE app = :app AND name = ANY ((SELECT :names::text::text[])::text[])
"""
READY = "FROM known WHERE is_free AND (next_due <= :now + reach OR manual_at IS NOT NULL)\n"
CHOSEN = """    ORDER BY oldest.moment, oldest.name LIMIT :limit
"""
LOCKED = "AND task.rev = oldest.rev FOR NO KEY UPDATE SKIP LOCKED\n"
COMING = "WHERE is_free AND next_due > :now + reach AND name NOT IN (SELECT name FROM chosen)\n"
SWAP = "AND task.name = wanted.name AND task.rev = wanted.old_rev FOR NO KEY UPDATE SKIP LOCKED\n"
RENEW = "            task.owner = :me AND task.fence = wanted.fence\n            OR EXISTS"
UNTIL = "            WHEN task.owner = :me AND task.fence = locked.fence THEN :now + :ttl"
IS_RUN = "coalesce(task.owner = :me AND task.fence = locked.fence, false) AS is_run"
FINISH = "        WHEN locked.owner = :me AND locked.fence = wanted.fence THEN\n"
GUARD = "WHERE app = :app AND name = :name AND owner = :me AND fence = :fence FOR NO KEY UPDATE;"
UPDATED = "    WHERE task.app = :app AND task.name = locked.name AND locked.new IS NOT NULL\n"
DELETED = "    WHERE task.app = :app AND task.name = locked.name AND locked.new IS NULL\n"
WON = "    WHERE task.app = :app AND task.ctid = chosen.place\n"
RENEWED = "    FROM locked WHERE task.app = :app AND task.ctid = locked.place  --"
DONE = "    FROM judged WHERE task.app = :app AND task.name = judged.name AND judged.verdict = 'OK'\n"
LEFT = "DELETE FROM kaiju_instance WHERE app = :app AND id = :me;"
SILENT = "DELETE FROM kaiju_instance WHERE app = :app AND seen_at < :now - :age;"


def left_out(name: str, what: str, text: str, *parts: str, gate: SuiteGate = CONTRACT) -> Mutant:
    """Return a mutant that leaves *parts* out of *text*, which occurs exactly once."""
    changed = text
    for part in parts:
        assert changed.count(part) == 1, (name, part)
        changed = changed.replace(part, "")
    return Mutant(f"postgres-{name}", what, (Edit(SQL, text, changed),), (gate,))


def instead(name: str, what: str, text: str, other: str, gate: SuiteGate = CONTRACT) -> Mutant:
    return Mutant(f"postgres-{name}", what, (Edit(SQL, text, other),), (gate,))


POSTGRES = [
    left_out(
        "due-without-due",
        "a claim takes tasks that are not due",
        READY,
        " AND (next_due <= :now + reach OR manual_at IS NOT NULL)",
    ),
    left_out("due-without-asked", "a claim takes no extra runs", READY, " OR manual_at IS NOT NULL"),
    left_out("due-without-free", "a claim takes tasks that are not free", READY, "is_free AND "),
    instead("free-without-free", "tasks that have an owner are free", KNOWN, KNOWN.replace("owner IS NULL AND", "")),
    instead("free-without-held", "held tasks are free", KNOWN, KNOWN.replace(" AND holds = '{}'", "")),
    left_out(
        "due-without-share",
        "a claim takes tasks of other instances' partitions too early",
        KNOWN,
        "        WHEN partition_hash % :count <> :index THEN -(:patience::bigint)\n",
    ),
    left_out(
        "due-without-not-ahead",
        "a claim takes tasks ahead of their tick that must not be claimed ahead",
        KNOWN,
        "        WHEN name = ANY ((SELECT :not_ahead::text::text[])::text[]) THEN 0\n",
    ),
    instead(
        "due-without-names",
        "a claim takes tasks that the caller does not know",
        KNOWN,
        KNOWN.replace("name = ANY ((SELECT :names::text::text[])::text[])", "(true OR :names::text IS NULL)"),
    ),
    instead(
        "known-of-any-application",
        "the tasks of all applications are known",
        KNOWN,
        KNOWN.replace("app = :app", ":app = :app"),
    ),
    left_out("due-without-order", "a claim takes any due tasks instead of the earliest", CHOSEN, "oldest.moment, "),
    instead("due-that-waits", "a claim waits for a locked record", LOCKED, LOCKED.replace(" SKIP LOCKED", ""), ITS_OWN),
    left_out("next-claim-without-free", "tasks that are not free count as claimable", COMING, "is_free AND "),
    left_out(
        "next-claim-without-later",
        "tasks left because of the limit count as claimable later",
        COMING,
        " AND next_due > :now + reach",
    ),
    left_out(
        "next-claim-with-chosen",
        "tasks just claimed count as claimable",
        COMING,
        " AND name NOT IN (SELECT name FROM chosen)",
    ),
    left_out("swap-without-rev", "a swap replaces a record with another rev", SWAP, " AND task.rev = wanted.old_rev"),
    instead(
        "swap-that-waits",
        "a swap waits for a locked record",
        SWAP,
        SWAP.replace(" SKIP LOCKED", ""),
        ITS_OWN,
    ),
    instead(
        "swap-without-news",
        "no instance is notified of a change",
        "(SELECT FROM done WHERE wakes LIMIT 1)",
        "(SELECT FROM done WHERE false LIMIT 1)",
        ITS_OWN,
    ),
    instead(
        "finish-without-news",
        "a suspension is not notified of the end of a run",
        "(SELECT FROM done WHERE held LIMIT 1)",
        "(SELECT FROM done WHERE false LIMIT 1)",
        ITS_OWN,
    ),
    instead(
        "renew-without-owner",
        "a renewal ignores the owner",
        RENEW,
        RENEW.replace("task.owner = :me AND ", ""),
    ),
    left_out("renew-without-fence", "a renewal ignores the fence", RENEW, " AND task.fence = wanted.fence"),
    instead(
        "renewed-until-without-fence",
        "renewing a hold also renews a lost run of the instance",
        UNTIL,
        "            WHEN task.owner = :me THEN :now + :ttl",
    ),
    instead(
        "renewed-run-without-fence",
        "renewing a hold reports a lost run of the instance as renewed",
        IS_RUN,
        "coalesce(task.owner = :me, false) AS is_run",
    ),
    instead(
        "own-claims-without-owner",
        "the claims of all instances are returned as own claims",
        "AND owner = :me\n",
        "AND owner IS NOT NULL\n",
    ),
    instead(
        "own-holds-without-owner",
        "the holds of all instances are returned as own holds",
        "AND split_part(key, '#', 1) = :me\n",
        "AND :me = :me\n",
    ),
    left_out("finish-without-owner", "an ending ignores the owner", FINISH, "locked.owner = :me AND "),
    left_out("finish-without-fence", "an ending ignores the fence", FINISH, " AND locked.fence = wanted.fence"),
    instead(
        "finish-ignores-rule",
        "the next tick is computed with an outdated schedule",
        "WHEN locked.schedule <> wanted.schedule AND NOT locked.manual THEN 'CHANGED'",
        "WHEN false THEN 'CHANGED'",
    ),
    left_out(
        "finish-keeps-requests",
        "a request to end a run outlives the run",
        "FROM jsonb_each(task.holds) WHERE key NOT LIKE '#end of %'",
        " WHERE key NOT LIKE '#end of %'",
    ),
    instead(
        "finish-goes-back",
        "the next tick may be one that has already ended",
        "ELSE greatest(judged.next_tick, task.next_tick + 1)\n",
        "ELSE judged.next_tick\n",
    ),
    instead(
        "finish-busy-is-lost",
        "a run whose record is locked is reported as lost",
        "AND name = wanted.name) THEN 'BUSY'",
        "AND name = wanted.name) THEN 'LOST'",
        ITS_OWN,
    ),
    instead(
        "expired-without-runs",
        "expired leases of runs are not returned",
        "AND lease_until < :now\n",
        "AND false\n",
    ),
    instead(
        "expired-without-holds",
        "expired leases of holds are not returned",
        "(hold.value ->> 'until')::bigint < :now",
        "false",
    ),
    instead(
        "guard-without-owner",
        "guard() ignores the owner",
        GUARD,
        GUARD.replace("owner = :me", ":me = :me"),
        GUARDED,
    ),
    instead(
        "guard-without-lock",
        "guard() does not lock the record",
        GUARD,
        GUARD.replace(" FOR NO KEY UPDATE", ""),
        GUARDED,
    ),
    *(
        instead(f"guard-without-{name}", f"guard() ignores the {name}", GUARD, GUARD.replace(text, other), GUARDED)
        for name, text, other in [
            ("fence", "fence = :fence", ":fence::bigint = :fence"),
            ("app", "app = :app", ":app::text = :app"),
            ("name", "name = :name", ":name::text = :name"),
        ]
    ),
    *(
        instead(
            f"{name}-of-any-application",
            f"{what} of other applications as well",
            text,
            text.replace("app = :app", ":app = :app").replace("task.:app", ":app"),
        )
        for name, what, text in [
            ("swap-updated", "a swap changes the record", UPDATED),
            ("swap-deleted", "a swap deletes the record", DELETED),
            ("claim-won", "a claim takes the task", WON),
            ("renewed", "a renewal renews the lease", RENEWED),
            ("finish-done", "an ending ends the run", DONE),
            ("deregister", "a deregistration removes the instance", LEFT),
            ("prune-instances", "pruning removes instances", SILENT),
        ]
    ),
    instead(
        "scan-of-any-application",
        "tasks of all applications are returned",
        "WHERE task.app = :app AND (:names::text[] IS NULL OR",
        "WHERE :app = :app AND (:names::text[] IS NULL OR",
    ),
]
