"""Lines of the SQL for PostgreSQL that keep a promise, each left out once; a part of the table in ``mutants``."""

from __future__ import annotations

from mutant import Edit, Mutant, Suite

SQL = "stores/postgres.sql"
CONTRACT = Suite(("tests/test_stores.py",), "postgres and not never_meet")
ITS_OWN = Suite(("tests/test_postgres.py",))
GUARDED = Suite(("tests/test_postgres.py",), "guard")
LOCKED = Suite(("tests/test_postgres.py",), "nothing_waits")

DUE = """    WHERE app = :app AND holder IS NULL AND holds = '{}' AND due <= :now + :ahead
        AND (due <= :now OR name <> ALL (:punctual::text[]))
        AND (bucket % :n = :rank OR due <= :now - :patience) AND name <> ALL (:skip::text[])
    ORDER BY due, name LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
"""
ASKED = """    WHERE app = :app AND asked IS NOT NULL AND holder IS NULL AND holds = '{}' AND name <> ALL (:skip)
        AND NOT (
"""
OWN = """WHERE app = :app AND holder IS NULL AND holds = '{}' AND due > :now + :ahead AND bucket % :n = :rank
                    AND name <> ALL (:skip) AND name <> ALL (:punctual) AND name NOT IN (SELECT name FROM chosen)
"""
PUNCTUAL = """AND name = ANY (:punctual) AND holder IS NULL AND holds = '{}' AND due > :now
"""
OTHERS = """WHERE :n > 1 AND app = :app AND holder IS NULL AND holds = '{}' AND due > :now - :patience
                    AND bucket % :n <> :rank AND name <> ALL (:skip) AND name NOT IN (SELECT name FROM chosen)
"""
SWAP = "WHERE task.app = :app AND task.name = ANY (:names::text[]) AND task.rev = wanted.old_rev\n"
RENEW = "        task.holder = :me AND task.fence = wanted.fence\n        OR EXISTS"
UNTIL = "until = CASE WHEN task.holder = :me AND task.fence = wanted.fence THEN"
IS_RUN = "coalesce(task.holder = :me AND task.fence = wanted.fence, false) AS is_run"
FINISH = "        WHEN locked.holder = :me AND locked.fence = wanted.fence THEN\n"
GUARD = "WHERE app = :app AND name = :name AND holder = :me AND fence = :fence FOR NO KEY UPDATE;"
UPDATED = "    WHERE task.app = :app AND task.name = locked.name AND wanted.new IS NOT NULL\n"
DELETED = "    WHERE task.app = :app AND task.name = locked.name AND wanted.new IS NULL\n"
WON = "    FROM chosen WHERE task.app = :app AND task.name = chosen.name\n"
RENEWED = "    FROM locked JOIN wanted USING (name) WHERE task.app = :app AND task.name = locked.name\n"
DONE = "    FROM judged WHERE task.app = :app AND task.name = judged.name AND judged.verdict = 'OK'\n"
LEFT = "DELETE FROM kaiju_instance WHERE app = :app AND id = :me;"
UNHEARD = "DELETE FROM kaiju_instance WHERE app = :app AND seen < :now - :age;"
FREE, UNHELD = " AND holder IS NULL", " AND holds = '{}'"


def left_out(name: str, what: str, text: str, *parts: str, gate: Suite = CONTRACT) -> Mutant:
    """Leave *parts* out of a *text* that is there once."""
    changed = text
    for part in parts:
        assert changed.count(part) == 1, (name, part)
        changed = changed.replace(part, "")
    return Mutant(f"postgres-{name}", what, (Edit(SQL, text, changed),), (gate,))


def instead(name: str, what: str, text: str, other: str, gate: Suite = CONTRACT) -> Mutant:
    return Mutant(f"postgres-{name}", what, (Edit(SQL, text, other),), (gate,))


POSTGRES = [
    left_out("due-without-due", "a claim takes what is not due", DUE, " AND due <= :now + :ahead"),
    left_out("due-without-free", "a claim takes what somebody has", DUE, FREE),
    left_out("due-without-held", "a claim takes what is held", DUE, UNHELD),
    instead(
        "due-without-skip",
        "a claim takes what is skipped",
        DUE,
        DUE.replace("name <> ALL (:skip::text[])", "(true OR name <> ALL (:skip::text[]))"),
    ),
    instead(
        "due-without-share",
        "a claim takes what is rather others'",
        DUE,
        DUE.replace("(bucket % :n = :rank OR", "(true OR bucket % :n = :rank OR"),
    ),
    instead(
        "due-without-punctual",
        "a claim takes what is punctual ahead",
        DUE,
        DUE.replace("(due <= :now OR name <> ALL (:punctual::text[]))", "(true OR name <> ALL (:punctual::text[]))"),
    ),
    instead(
        "claimable-own-with-punctual",
        "what is punctual counts as claimable ahead",
        OWN,
        OWN.replace(" AND name <> ALL (:punctual)", ""),
    ),
    left_out("claimable-punctual-without-free", "what somebody has counts as claimable", PUNCTUAL, FREE),
    left_out("claimable-punctual-without-held", "what is held counts as claimable", PUNCTUAL, " AND holds = '{}'"),
    left_out("due-without-order", "a claim takes any that are due", DUE, "due, "),
    instead(
        "due-that-waits", "a claim waits for a record that is locked", DUE, DUE.replace(" SKIP LOCKED", ""), ITS_OWN
    ),
    left_out("asked-without-free", "a claim takes an extra run that goes on", ASKED, FREE),
    left_out("asked-without-held", "a claim takes an extra run that is held", ASKED, UNHELD),
    left_out("claimable-own-without-free", "what somebody has counts as claimable", OWN, FREE),
    left_out("claimable-own-without-held", "what is held counts as claimable", OWN, UNHELD),
    left_out("claimable-others-without-free", "others' that somebody has counts as claimable", OTHERS, FREE),
    left_out("claimable-others-without-held", "others' that is held counts as claimable", OTHERS, UNHELD),
    left_out("swap-without-rev", "a swap replaces whatever is there", SWAP, " AND task.rev = wanted.old_rev"),
    instead(
        "swap-that-waits",
        "a swap waits for a record that is locked",
        f"    {SWAP}    ORDER BY task.name FOR NO KEY UPDATE OF task SKIP LOCKED\n",
        f"    {SWAP}    ORDER BY task.name FOR NO KEY UPDATE OF task\n",
        ITS_OWN,
    ),
    instead(
        "swap-without-news",
        "nobody is told of a change",
        "(SELECT FROM done WHERE told LIMIT 1)",
        "(SELECT FROM done WHERE false LIMIT 1)",
        ITS_OWN,
    ),
    instead(
        "finish-without-news",
        "who suspends is not told that a run is over",
        "(SELECT FROM done WHERE held LIMIT 1)",
        "(SELECT FROM done WHERE false LIMIT 1)",
        ITS_OWN,
    ),
    instead(
        "renew-without-owner",
        "a renewal does not look at the owner",
        RENEW,
        RENEW.replace("task.holder = :me AND ", ""),
    ),
    left_out("renew-without-fence", "a renewal does not look at the fence", RENEW, " AND task.fence = wanted.fence"),
    instead(
        "renewed-until-without-fence",
        "whose hold is renewed keeps a run that it has lost",
        UNTIL,
        "until = CASE WHEN task.holder = :me THEN",
    ),
    instead(
        "renewed-run-without-fence",
        "whose hold is renewed believes to have a run that it has lost",
        IS_RUN,
        "coalesce(task.holder = :me, false) AS is_run",
    ),
    instead(
        "mine-without-owner", "everybody's claims count as one's own", "AND holder = :me\n", "AND holder IS NOT NULL\n"
    ),
    instead(
        "own-without-owner",
        "everybody's holds count as one's own",
        "AND split_part(key, '#', 1) = :me\n",
        "AND :me = :me\n",
    ),
    left_out("finish-without-owner", "an ending does not look at the owner", FINISH, "locked.holder = :me AND "),
    left_out(
        "finish-without-fence", "an ending does not look at the fence", FINISH, " AND locked.fence = wanted.fence"
    ),
    instead(
        "finish-ignores-rule",
        "what follows is found by a rule that does not stand any more",
        "WHEN locked.spec <> wanted.spec AND NOT locked.manual THEN 'CHANGED'",
        "WHEN false THEN 'CHANGED'",
    ),
    instead(
        "finish-goes-back",
        "the next tick may be one that has ended",
        "ELSE greatest(judged.next, task.next + 1) END",
        "ELSE judged.next END",
    ),
    instead(
        "finish-busy-is-lost",
        "a run whose record is locked counts as lost",
        "AND name = ANY (:names)) THEN 'BUSY'",
        "AND name = ANY (:names)) THEN 'LOST'",
        ITS_OWN,
    ),
    instead("stale-without-runs", "nobody looks at the leases of runs", "AND task.until < :now\n", "AND false\n"),
    instead(
        "stale-without-holds", "nobody looks at the leases of holds", "(hold.value ->> 'until')::bigint < :now", "false"
    ),
    instead(
        "guard-without-owner",
        "guard() does not look at the owner",
        GUARD,
        GUARD.replace("holder = :me", ":me = :me"),
        GUARDED,
    ),
    instead(
        "guard-without-lock",
        "guard() does not keep the record",
        GUARD,
        GUARD.replace(" FOR NO KEY UPDATE", ""),
        GUARDED,
    ),
    *(
        instead(
            f"guard-without-{name}", f"guard() does not look at the {name}", GUARD, GUARD.replace(text, other), GUARDED
        )
        for name, text, other in [
            ("fence", "fence = :fence", ":fence::bigint = :fence"),
            ("app", "app = :app", ":app::text = :app"),
            ("name", "name = :name", ":name::text = :name"),
        ]
    ),
    *(
        instead(
            f"{name}-of-any-application",
            f"{what} of another application, too",
            text,
            text.replace("app = :app", ":app = :app").replace("task.:app", ":app"),
        )
        for name, what, text in [
            ("swap-updated", "a swap changes the record", UPDATED),
            ("swap-deleted", "a swap deletes the record", DELETED),
            ("claim-won", "a claim takes the task", WON),
            ("renewed", "a renewal prolongs the lease", RENEWED),
            ("finish-done", "an ending ends the run", DONE),
            ("leave", "who leaves takes along the instance", LEFT),
            ("unheard", "to tidy up is to forget instances", UNHEARD),
        ]
    ),
    instead(
        "asked-that-waits",
        "a claim waits for an extra run whose record is locked",
        "ORDER BY asked, name LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY asked, name LIMIT :limit FOR NO KEY UPDATE",
        LOCKED,
    ),
    instead(
        "scan-of-any-application",
        "everybody's tasks are found",
        "WHERE task.app = :app AND (:names::text[] IS NULL OR",
        "WHERE :app = :app AND (:names::text[] IS NULL OR",
    ),
]
