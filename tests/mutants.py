"""The lines that keep a promise between instances, each left out once, and what finds out that it is missing.

``tools/mutants`` applies them; this is only the table. A text occurs exactly once in its file, or the table has to
follow the source. What nothing can find is here too, with the reason, and is to stay so: if it dies one day, the reason
was wrong.
"""

from __future__ import annotations

from mutant import Edit, Mutant, Suite, mutant, times
from mutants_postgres import POSTGRES

CLUSTER, CLAIMING, HOLDING = "_cluster.py", "_claiming.py", "_holding.py"
ASKING, TAKEOVER = "_asking.py", "_takeover.py"
CLOCK, SUSPEND, STORE = "_store_clock.py", "_shared_suspend.py", "stores/_store.py"
TRANSITIONS, SQL, SQLITE, MEMORY = (
    "stores/_transitions.py",
    "stores/sqlite.sql",
    "stores/_sqlite_records.py",
    "stores/memory.py",
)


CONTRACT = Suite(("tests/test_stores.py",))
PURE = Suite(("tests/test_transitions.py",))
ALONE = Suite(("tests/test_cluster.py",))

SIMULATED = [
    mutant(
        "no-self-fence",
        "the deadline of a run is not looked at",
        CLUSTER,
        "elif now >= claim.deadline and claim.state is State.STARTED:\n                self._lose(claim)",
        "elif now >= claim.deadline and claim.state is State.STARTED:\n                claim.lost = True",
        times("cut off"),
    ),
    mutant(
        "no-self-fence-of-holds",
        "the deadline of a suspension is not looked at",
        CLUSTER,
        "            if now >= held.deadline:\n                self._lose_hold(held)",
        "            if now >= held.deadline:\n                held.lost = True",
        times("cut off inside"),
    ),
    mutant(
        "lost-hold-ended",
        "a hold that was lost is ended in the store, though whoever is inside has not come out",
        HOLDING,
        "            held.lost = True  # It is renewed all the same, until whoever is inside has come out.\n",
        "            held.lost = True\n            self.holds.pop(held.key, None)\n",
        times("back inside"),
    ),
    mutant(
        "deadline-from-answer",
        "a renewed lease counts from the answer, not from the question",
        CLUSTER,
        "            claim.deadline = sent + self.ttl\n",
        "            claim.deadline = self._steady() + self.ttl\n",
        times("cut off"),
    ),
    mutant(
        "claim-deadline-from-answer",
        "the lease of a claim counts from the answer, not from the question",
        CLAIMING,
        "claim = Claim(record, sent + self.ttl, self._store)",
        "claim = Claim(record, self._steady() + self.ttl, self._store)",
        times("frozen asking"),
    ),
    mutant(
        "hold-deadline-from-answer",
        "a renewed hold counts from the answer, not from the question",
        CLUSTER,
        "held.deadline = sent + self.ttl",
        "held.deadline = self._steady() + self.ttl",
        times("cut off inside"),
    ),
    mutant(
        "no-challenge-no-grace",
        "a lease that is over is taken away at first sight",
        TAKEOVER,
        "new = expire(old, over) or challenge(old, now, grace) or old",
        "new = expire(replace(old, suspect=True), over) or old",
        times("cut off"),
    ),
    mutant(
        "expiry-without-challenge",
        "a lease is taken away when it has been over for the grace; its holder is not asked",
        TAKEOVER,
        "new = expire(old, over) or challenge(old, now, grace) or old",
        "new = expire(replace(old, suspect=True, until=(old.until or now) + grace), over) or old",
        times("late orders", "set again"),
    ),
    mutant(
        "challenge-without-grace",
        "who was challenged has no time to answer",
        TAKEOVER,
        "challenge(old, now, grace) or old",
        "challenge(old, now, 0) or old",
        times("cut off"),
    ),
    mutant(
        "hold-expiry-without-challenge",
        "a hold whose lease is over is taken away at first sight",
        TAKEOVER,
        "new = expire_hold(new, over, key) or challenge_hold(new, now, key, grace) or new",
        "held = {**new.holds, key: replace(new.holds[key], suspect=True)}\n"
        "                new = expire_hold(replace(new, holds=held), over, key) or new",
        times("cut off inside"),
    ),
    mutant(
        "hold-challenge-without-grace",
        "who holds and was challenged has no time to answer",
        TAKEOVER,
        "challenge_hold(new, now, key, grace) or new",
        "challenge_hold(new, now, key, 0) or new",
        times("cut off inside"),
    ),
    mutant(
        "takeover-by-the-later-clock",
        "what was not over when it was seen is taken away, if the clock of the store was set since",
        TAKEOVER,
        "over = min(at, now)",
        "over = now",
        times("two inside"),
    ),
    mutant(
        "grace-too-short",
        "the grace is two seconds shorter than LeaseTiming says",
        TAKEOVER,
        "challenge(old, now, grace) or old",
        "challenge(old, now, grace - 2_000_000) or old",
        times("cut off"),
    ),
    mutant(
        "no-clock-guard",
        "the clock of the store is always trusted",
        CLOCK,
        "return self._middle is not None and steady - self._calm_since >= self.trust_after",
        "return True",
        times("set again"),
    ),
    mutant(
        "guard-trusts-at-once",
        "a clock that has jumped is trusted again after a second",
        CLOCK,
        "steady - self._calm_since >= self.trust_after",
        "steady - self._calm_since >= 1_000_000",
        times("set again"),
    ),
    mutant(
        "new-observer-trusts-at-once",
        "whoever has just come trusts the clock of the store",
        CLOCK,
        "if self._middle is None or abs(",
        "if self._middle is None:\n            self._calm_since = -self.trust_after\n        elif abs(",
        times("set again"),
    ),
    mutant(
        "first-hold-deadline-from-answer",
        "the lease of a hold counts from the answer, not from the question",
        HOLDING,
        "OwnHold(name, key, sent + self.ttl)",
        "OwnHold(name, key, self._steady() + self.ttl)",
        times("frozen asking"),
    ),
    mutant(
        "finish-ignores-fence",
        "an ending counts for whatever claim the task has by then",
        TRANSITIONS,
        "    if not is_mine(old, me, fence):\n        is_over",
        "    if old.holder is None:\n        is_over",
        times("late answers"),
    ),
    mutant(
        "claim-ignores-holds",
        "a claim does not look at holds",
        TRANSITIONS,
        "return old.holder is None and not old.holds and (",
        "return old.holder is None and (",
        times("back to back"),
    ),
    mutant(
        "hold-key-by-instance",
        "all holds of one instance have one key",
        HOLDING,
        'keys[name] = f"{self.me}#{self._numbers}"',
        'keys[name] = f"{self.me}#{name}"',
        times("back to back"),
    ),
    mutant(
        "early-entry",
        "a suspender does not wait for a claim that was made before its tick",
        SUSPEND,
        "for each in records if each.holder and",
        "for each in records if each.holder and each.fence >= each.due and",
        times("claimed ahead", "back to back"),
    ),
    mutant(
        "entry-without-waiting",
        "a suspender does not wait for runs on other instances",
        SUSPEND,
        "    while running:\n",
        "    while False:\n",
        times("back to back"),
    ),
    Mutant(
        "start-before-tick",
        "a claim starts when it is made, whatever the clock of the store shows",
        (
            Edit(CLAIMING, "if due is not None and due <= now:", "if due is not None:"),
            Edit(CLAIMING, "elif shown is None or shown < claim.record.tick_due:", "elif shown is None:"),
        ),
        (times("claimed ahead"),),
    ),
    Mutant(
        "timer-left-armed",
        "a claim that was given back starts all the same, by its timer",
        (
            Edit(
                CLAIMING,
                "        claim.state = State.RETURNED\n        claim.stop_timer()\n",
                "        claim.state = State.RETURNED\n",
            ),
            Edit(
                CLAIMING,
                "    def _start(self, claim: Claim) -> None:\n        if claim.state is not State.CLAIMED:\n"
                "            return\n",
                "    def _start(self, claim: Claim) -> None:\n",
            ),
        ),
        (times("claimed ahead"),),
    ),
    mutant(
        "hand-back-of-started",
        "a run that somebody waits for is given back while it goes on",
        CLUSTER,
        "if claim.held and claim.state is State.CLAIMED:",
        "if claim.held:",
        times("back to back"),
    ),
    mutant(
        "hand-back-of-started-on-stop",
        "who stops gives back what has begun, too, before it is over",
        CLUSTER,
        "        for claim in list(self.claims.values()):\n            if claim.state is State.CLAIMED:\n"
        "                self._give_back(claim)\n        self._wake.set()\n",
        "        for claim in list(self.claims.values()):\n            self._give_back(claim)\n"
        "        self._wake.set()\n",
        times("orderly"),
    ),
    mutant(
        "hold-in-the-making-ended",
        "a hold that the store has and nobody here knows yet is ended",
        HOLDING,
        "if key not in self.holds and key not in self._making:",
        "if key not in self.holds:",
        times("back to back", "frozen asking"),
    ),
    mutant(
        "takeover-of-whatever-is-there",
        "a lease is taken over though its record is not the one that was seen",
        TAKEOVER,
        "if old is None or old.rev != seen.rev:",
        "if old is None:",
        Suite(("tests/test_takeover.py",)),  # What was renewed since was not over when it was seen: twice secured.
    ),
    mutant(
        "fence-by-the-clock-alone",
        "the fence of a claim is what the clock of the store shows",
        TRANSITIONS,
        "fence = max(old.rev + 1, now)",
        "fence = now",
        times("claimed ahead", "set again"),
    ),
    mutant(
        "hand-back-counts",
        "a claim that was given back before it began counts as a take",
        TRANSITIONS,
        "return _freed(old, now, take=old.take - (not old.manual), asked_take=old.asked_take - old.manual)",
        "return _freed(old, now)",
        times("fine weather", "claimed ahead"),
        PURE,
    ),
    mutant(
        "release-does-not-count",
        "a run that was cut does not count as a take",
        CLAIMING,
        "release(old, now, self.me, claim.fence)",
        "hand_back(old, now, self.me, claim.fence)",
        times("orderly"),
    ),
    mutant(
        "mid-point-clock",
        "the clock of the store is estimated by the middle of question and answer",
        CLOCK,
        "steady + self._low - _drift(max(0, steady - self._at))",
        "steady + (self._low + self._high) // 2",
        times("slow way"),
    ),
    Mutant(
        "wall-clock",
        "runs start by the instance's own wall clock",
        (
            Edit(CLAIMING, "shown = self.clock.at_least(now)", "shown = self._host.driver.wall()  # type: ignore"),
            Edit(
                CLAIMING,
                "due = self.clock.when(claim.record.tick_due, now)",
                "due = now + max(0, claim.record.due - self._host.driver.wall())  # type: ignore",
            ),
        ),
        (times("claimed ahead"),),
    ),
    mutant(
        "no-return-on-stop",
        "who stops does not give back what has not begun",
        CLUSTER,
        "        for claim in list(self.claims.values()):\n            if claim.state is State.CLAIMED:\n"
        "                self._give_back(claim)\n        self._wake.set()\n",
        "        self._wake.set()\n",
        Suite(("tests/test_shared.py",), "stop_gives_back"),
    ),
    mutant(
        "skip-ahead",
        "what a crash would skip is claimed ahead, too",
        CLUSTER,
        "            punctual=self._punctual,\n",
        "",
        Suite(("tests/test_shared.py",), "not_claimed_before"),
    ),
    mutant(
        "no-poison",
        "a claim that is handed back is not poisoned",
        CLAIMING,
        "        self._poison.add(key)\n",
        "",
        times("late answers", "claimed ahead"),
        lives="no answer comes to a question that was given up: `_ask()` cancels it, so no claim can come in that was "
        "handed back before",
    ),
]


def of_stores(name: str, what: str, file: str, old: str, new: str, *more: Suite) -> Mutant:
    return mutant(name, what, file, old, new, CONTRACT, *more)


# What a claim that stands is told by, in each change that needs one: the text before it, and the one after it.
CLAIM = "is_mine(old, me, fence)"
BY_CLAIM = {
    "renew": ("suspect=False) if ", " else None"),
    "finish": ("    if not ", ":\n        is_over"),
    "hand_back": ("    if not ", ":\n        return None\n"),
    "release": ("return _freed(old, now) if ", " else None"),
}
PARTS = {"owner": "old.fence == fence", "fence": "old.holder == me"}


def without(change: str, part: str) -> Mutant:
    """Return the mutant of *change* that does not look at *part* of a claim."""
    before, after = BY_CLAIM[change]
    old, new = f"{before}{CLAIM}{after}", f"{before}({PARTS[part]}){after}"
    return of_stores(f"{change}-without-{part}", f"`{change}` does not look at the {part}", TRANSITIONS, old, new, PURE)


CHANGES = [without(change, part) for change in BY_CLAIM for part in PARTS]

JUDGED = "return old.holder is None and not old.holds and (old.asked is not None or old.due <= now + ahead)"
CHANGES += [
    of_stores(
        "claim-without-due",
        "a claim does not look whether it is due",
        TRANSITIONS,
        JUDGED,
        "return old.holder is None and not old.holds",
    ),
    of_stores(
        "claim-without-free",
        "a claim does not look whether somebody has one",
        TRANSITIONS,
        JUDGED,
        "return not old.holds and (old.asked is not None or old.due <= now + ahead)",
    ),
    of_stores(
        "claim-without-held",
        "a claim does not look at holds",
        TRANSITIONS,
        JUDGED,
        "return old.holder is None and (old.asked is not None or old.due <= now + ahead)",
    ),
    of_stores(
        "finish-ignores-rule",
        "what follows a run is found by a rule that does not stand any more",
        TRANSITIONS,
        "if spec != old.spec:",
        "if False:",
    ),
    of_stores(
        "finish-goes-back",
        "the next tick may be one that has ended",
        TRANSITIONS,
        "coming = max(following.tick, old.next + 1)",
        "coming = following.tick",
        PURE,
    ),
    of_stores(
        "put-goes-back",
        "another rule brings a tick back that has ended",
        TRANSITIONS,
        "tick = max(new.by_rule.tick, old.floor + 1)",
        "tick = new.by_rule.tick",
        PURE,
    ),
    of_stores(
        "put-moves-what-is-due",
        "another rule takes a tick away that is due, or being run",
        TRANSITIONS,
        "if old.holder is None and old.next > now:",
        "if True:",
        PURE,
    ),
    of_stores(
        "put-of-any-version",
        "an old version brings its rule back",
        TRANSITIONS,
        "if new.version < old.version or (new.version == old.version and (",
        "if (new.version == old.version and (",
        PURE,
    ),
    of_stores(
        "swap-in-memory-without-rev",
        "a swap does not look at the rev",
        MEMORY,
        "if (stored and stored.rev) != (old and old.rev):",
        "if (stored is None) != (old is None):",
    ),
    of_stores(
        "renewed-without-fence",
        "a run whose lease was lost counts as renewed",
        STORE,
        "if name in after and is_mine(after[name], me, fence)}",
        "if name in after}",
    ),
    of_stores(
        "settle-without-judging-again",
        "after a conflict the first judgement stands",
        STORE,
        "        for conflicts in range(MOST_CONFLICTS):\n            wanted = transition(old, now)\n",
        "        wanted = transition(old, now)\n        for conflicts in range(MOST_CONFLICTS):\n",
    ),
]

DUE = "SELECT * FROM kaiju_task INDEXED BY kaiju_task_due\n    WHERE app = :app AND "
ALL = "SELECT * FROM kaiju_task\n    WHERE app = :app AND "  # An index of what is left out could not be used.
ASKED = "WHERE app = :app AND asked IS NOT NULL AND holder IS NULL AND holds = '{}'\n"
OWN = (
    "SELECT due - :lead AS moment FROM kaiju_task INDEXED BY kaiju_task_due\n        WHERE app = :app AND ",
    "SELECT due - :lead AS moment FROM kaiju_task\n        WHERE app = :app AND ",
)
LATER = "SELECT due + :patience AS moment FROM kaiju_task"
OTHERS = (
    f"{LATER} INDEXED BY kaiju_task_due\n        WHERE :n > 1 AND app = :app AND ",
    f"{LATER}\n        WHERE :n > 1 AND app = :app AND ",
)
FREE, UNHELD = "holder IS NULL AND ", "holds = '{}' AND "
APPS = Suite(("tests/test_sqlite.py::test_applications_do_not_see_each_others_tasks",))

QUERIES = [
    of_stores(
        "sql-due-without-due",
        "`due` finds what is not due, too",
        SQL,
        f"{DUE}{FREE}{UNHELD}due <= :now + :ahead\n        AND (bucket",
        f"{DUE}{FREE}{UNHELD}true\n        AND (bucket",
    ),
    of_stores("sql-due-without-free", "`due` finds what somebody has", SQL, DUE + FREE + UNHELD, ALL + UNHELD),
    of_stores("sql-due-without-held", "`due` finds what is held", SQL, DUE + FREE + UNHELD, ALL + FREE),
    of_stores(
        "sql-due-without-share",
        "`due` finds what is rather others'",
        SQL,
        "        AND (bucket % :n = :rank OR due <= :now - :patience)\n",
        "",
    ),
    of_stores(
        "sql-due-without-skip",
        "`due` finds what is skipped",
        SQL,
        "        AND name NOT IN (SELECT value FROM json_each(:skip))\n    ORDER BY due, name LIMIT :limit\n",
        "    ORDER BY due, name LIMIT :limit\n",
    ),
    of_stores(
        "sql-due-without-punctual",
        "`due` finds what is punctual ahead of its tick",
        SQL,
        "        AND (due <= :now OR name NOT IN (SELECT value FROM json_each(:punctual)))\n",
        "",
    ),
    of_stores(
        "sql-claimable-own-with-punctual",
        "`claimable` counts what is punctual ahead of its tick",
        SQL,
        "            AND name NOT IN (SELECT value FROM json_each(:punctual))\n",
        "",
    ),
    *(
        of_stores(
            f"sql-claimable-punctual-without-{part}",
            f"`claimable` counts what {why}, of what is punctual",
            SQL,
            f"        AND {FREE}{UNHELD}due > :now AND bucket",
            f"        AND {left}due > :now AND bucket",
        )
        for part, why, left in (("free", "somebody has", UNHELD), ("held", "is held", FREE))
    ),
    of_stores(
        "sql-due-without-order", "`due` finds any that are due", SQL, "ORDER BY due, name LIMIT", "ORDER BY name LIMIT"
    ),
    of_stores(
        "sql-asked-without-free",
        "`due` finds extra runs that go on",
        SQL,
        ASKED,
        ASKED.replace(" AND holder IS NULL", ""),
    ),
    of_stores(
        "sql-asked-without-held",
        "`due` finds extra runs that are held",
        SQL,
        ASKED,
        ASKED.replace(" AND holds = '{}'", ""),
    ),
    *(
        of_stores(
            f"sql-claimable-{whose}-without-{part}",
            f"`claimable` counts what {why}, of {'its own' if whose == 'own' else 'others'}",
            SQL,
            f"{text[0]}{FREE}{UNHELD}",
            f"{text[1]}{left}",
        )
        for whose, text in (("own", OWN), ("others", OTHERS))
        for part, why, left in (("free", "somebody has", UNHELD), ("held", "is held", FREE))
    ),
    of_stores(
        "sql-update-without-rev",
        "`update` replaces whatever is there",
        SQL,
        "WHERE app = :app AND name = :name AND rev = :old_rev;\n\n-- name: delete",
        "WHERE app = :app AND name = :name;\n\n-- name: delete",
    ),
    of_stores(
        "sql-delete-without-rev",
        "`delete` deletes whatever is there",
        SQL,
        "DELETE FROM kaiju_task WHERE app = :app AND name = :name AND rev = :old_rev;",
        "DELETE FROM kaiju_task WHERE app = :app AND name = :name;",
    ),
    Mutant(
        "sql-insert-over",
        "`insert` replaces a record that somebody else has made",
        (
            Edit(SQL, "INSERT INTO kaiju_task VALUES (", "INSERT OR REPLACE INTO kaiju_task VALUES ("),
            Edit(SQL, ":kept_back\n) ON CONFLICT DO NOTHING;", ":kept_back\n);"),
        ),
        (CONTRACT,),
    ),
    of_stores(
        "sql-mine-without-owner",
        "`mine` finds everybody's claims",
        SQL,
        "AND holder = :me ORDER BY name;",
        "AND holder IS NOT NULL ORDER BY name;",
    ),
    of_stores(
        "sql-stale-without-runs",
        "`stale` does not find leases of runs",
        SQL,
        "SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND holder IS NOT NULL AND "
        "until < :now\nUNION ",
        "",
    ),
    of_stores(
        "sql-stale-without-holds",
        "`stale` does not find holds",
        SQL,
        "    AND EXISTS (SELECT 1 FROM json_each(holds) WHERE json_extract(value, '$.until') < :now)\n",
        "    AND false\n",
    ),
    Mutant(
        "sql-keep-over",
        "`keep` replaces a row",
        (
            Edit(SQL, "INSERT INTO kaiju_run (", "INSERT OR REPLACE INTO kaiju_run ("),
            Edit(SQL, ":instance\n) ON CONFLICT DO NOTHING;", ":instance\n);"),
        ),
        (CONTRACT,),
    ),
    of_stores(
        "sql-one-of-any-application",
        "`one` finds another application's task",
        SQL,
        "-- name: one\nSELECT * FROM kaiju_task WHERE app = :app AND name = :name;",
        "-- name: one\nSELECT * FROM kaiju_task WHERE name = :name;",
        APPS,
    ),
    of_stores(
        "sqlite-swap-unchecked",
        "a swap that replaced nothing counts as done",
        SQLITE,
        "        if not swapped.rowcount:\n            return False\n",
        "",
    ),
    of_stores(
        "sqlite-claim-by-hand",
        "a claim of SQLite takes what the query found, whatever the transition says",
        SQLITE,
        "in chosen(found, self.now, limit, ahead, skip, share, punctual):",
        "in ((each, 1 << 60) for each in found):",
    ),
]

MUTANTS = [*SIMULATED, *CHANGES, *QUERIES, *POSTGRES]
