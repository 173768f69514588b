"""The table of mutants: each removes or breaks one line that keeps a promise between instances.

``tools/mutants`` applies them and checks that a gate catches each. A text has to occur exactly once in its file; if the
source changes, the table has to follow. A mutant that nothing can catch has the reason in ``lives``. If a gate does
catch it one day, the reason was wrong.
"""

from __future__ import annotations

from simulation.mutant import Edit, Mutant, SuiteGate, mutant, scenes
from simulation.mutants_postgres import POSTGRES

LEASES, CLAIMS, HOLDS, ENDINGS = "_cluster/leases.py", "_cluster/claims.py", "_cluster/holds.py", "_cluster/endings.py"
OUTBOX, STARTER, TAKEOVER = "_cluster/outbox.py", "_cluster/starter.py", "_cluster/policy.py"
COORDINATOR = "_cluster/coordinator.py"
CLOCK, SUSPEND = "_cluster/store_clock.py", "scheduler/_cluster_suspension.py"
CLIENT = "_cluster/store_client.py"
STORE, VERBS = "stores/_base.py", "stores/_cas.py"
TRANSITIONS, SQL, SQLITE, MEMORY = (
    "stores/_transitions.py",
    "stores/sqlite/queries.sql",
    "stores/sqlite/_records.py",
    "stores/memory.py",
)


CONTRACT = SuiteGate(("tests/contract/test_store_contract.py",))
PURE = SuiteGate(("tests/unit/stores/test_transitions.py",))
ALONE = SuiteGate(("tests/unit/cluster/test_coordinator.py",))

SIMULATED = [
    mutant(
        "no-self-fence",
        "a run is not cancelled at its lease deadline",
        LEASES,
        "elif now >= claim.deadline and claim.state is State.STARTED:\n                self._lose(claim)",
        "elif now >= claim.deadline and claim.state is State.STARTED:\n                claim.lost = True",
        scenes("cut off"),
    ),
    mutant(
        "no-self-fence-of-holds",
        "a suspension is not cancelled at its lease deadline",
        LEASES,
        "            if now >= held.deadline:\n                self._holds.lose(held)",
        "            if now >= held.deadline:\n                held.lost = True",
        scenes("cut off inside"),
    ),
    mutant(
        "lost-hold-ended",
        "a lost hold is released in the store although the body inside the suspension has not ended",
        HOLDS,
        "            held.lost = True  # It is still renewed until whoever is inside has come out.\n",
        "            held.lost = True\n            self._own.holds.pop(held.key, None)\n",
        scenes("back inside"),
    ),
    mutant(
        "deadline-from-answer",
        "a renewed lease is counted from the answer instead of the request",
        LEASES,
        "            claim.deadline = sent + self._client.lease.ttl\n",
        "            claim.deadline = self._client.steady() + self._client.lease.ttl\n",
        scenes("cut off"),
    ),
    mutant(
        "claim-deadline-from-answer",
        "the lease of a claim is counted from the answer instead of the request",
        CLAIMS,
        "claim = Claim(record, sent + self._client.lease.ttl, self._client.store)",
        "claim = Claim(record, self._client.steady() + self._client.lease.ttl, self._client.store)",
        scenes("frozen asking"),
    ),
    mutant(
        "hold-deadline-from-answer",
        "a renewed hold is counted from the answer instead of the request",
        LEASES,
        "held.deadline = sent + client.lease.ttl",
        "held.deadline = client.steady() + client.lease.ttl",
        scenes("cut off inside"),
    ),
    mutant(
        "no-challenge-no-grace",
        "an expired lease is taken over without a challenge or a grace",
        TAKEOVER,
        "new = expire(old, over) or challenge(old, now, grace) or old",
        "new = expire(old._replace(challenged=True), over) or old",
        scenes("cut off"),
    ),
    mutant(
        "expiry-without-challenge",
        "a lease is taken over once it has been expired for the grace, without a challenge",
        TAKEOVER,
        "new = expire(old, over) or challenge(old, now, grace) or old",
        "new = expire(old._replace(challenged=True, lease_until=(old.lease_until or now) + grace), over) or old",
        scenes("late orders", "set again"),
    ),
    mutant(
        "challenge-without-grace",
        "a challenged owner has no time to answer",
        TAKEOVER,
        "challenge(old, now, grace) or old",
        "challenge(old, now, 0) or old",
        scenes("cut off"),
    ),
    mutant(
        "hold-expiry-without-challenge",
        "a hold with an expired lease is removed without a challenge",
        TAKEOVER,
        "new = expire_hold(new, over, key) or challenge_hold(new, now, key, grace) or new",
        "held = {**new.holds, key: new.holds[key]._replace(challenged=True)}\n"
        "                new = expire_hold(new._replace(holds=held), over, key) or new",
        scenes("cut off inside"),
    ),
    mutant(
        "hold-challenge-without-grace",
        "the challenged owner of a hold has no time to answer",
        TAKEOVER,
        "challenge_hold(new, now, key, grace) or new",
        "challenge_hold(new, now, key, 0) or new",
        scenes("cut off inside"),
    ),
    mutant(
        "takeover-by-the-later-clock",
        "a lease that had not expired when it was read is taken over if the store's clock was set since",
        TAKEOVER,
        "over = min(at, now)",
        "over = now",
        scenes("two inside"),
    ),
    mutant(
        "grace-too-short",
        "the grace is two seconds shorter than LeaseTiming says",
        TAKEOVER,
        "challenge(old, now, grace) or old",
        "challenge(old, now, grace - 2_000_000) or old",
        scenes("cut off"),
    ),
    mutant(
        "no-clock-guard",
        "the store's clock is always trusted",
        CLOCK,
        "return self._middle is not None and steady - self._calm_since >= self.trust_after",
        "return True",
        scenes("set again"),
    ),
    mutant(
        "guard-trusts-at-once",
        "a store's clock that jumped is trusted again after a second",
        CLOCK,
        "steady - self._calm_since >= self.trust_after",
        "steady - self._calm_since >= 1_000_000",
        scenes("set again"),
    ),
    mutant(
        "new-observer-trusts-at-once",
        "a new instance trusts the store's clock at once",
        CLOCK,
        "if self._middle is None or abs(",
        "if self._middle is None:\n            self._calm_since = -self.trust_after\n        elif abs(",
        scenes("set again"),
    ),
    mutant(
        "first-hold-deadline-from-answer",
        "the lease of a new hold is counted from the answer instead of the request",
        HOLDS,
        "sent + self._client.lease.ttl",
        "self._client.steady() + self._client.lease.ttl",
        scenes("frozen asking"),
    ),
    mutant(
        "finish-ignores-fence",
        "an ending is applied to whichever claim the task has by then",
        TRANSITIONS,
        "    if not is_mine(old, me, fence):\n        is_over",
        "    if old.owner is None:\n        is_over",
        scenes("late answers"),
    ),
    mutant(
        "claim-ignores-holds",
        "a claim ignores holds",
        TRANSITIONS,
        "return old.owner is None and not old.holds and (",
        "return old.owner is None and (",
        scenes("back to back"),
    ),
    mutant(
        "hold-key-by-instance",
        "all holds of an instance share one key",
        HOLDS,
        'keys[name] = f"{self._client.me}#{self._numbers}"',
        'keys[name] = f"{self._client.me}#{name}"',
        scenes("back to back"),
    ),
    mutant(
        "early-entry",
        "a suspension does not wait for a claim whose tick has not come yet",
        SUSPEND,
        "for each in records if each.owner and",
        "for each in records if each.owner and each.fence >= each.next_due and",
        scenes("claimed ahead", "back to back"),
    ),
    mutant(
        "entry-without-waiting",
        "a suspension does not wait for runs on other instances",
        SUSPEND,
        "    while running:\n",
        "    while False:\n",
        scenes("back to back"),
    ),
    Mutant(
        "start-before-tick",
        "a run starts when it is claimed, before its tick by the store's clock",
        (
            Edit(
                STARTER,
                "self._own.unstarted[claim] = due\n",
                "self._own.unstarted[claim] = due = now\n",
            ),
            Edit(STARTER, "elif shown is None or shown < claim.record.tick_due:", "elif shown is None:"),
        ),
        (scenes("claimed ahead"),),
    ),
    Mutant(
        "timer-left-armed",
        "a claim that was given back is still started by its timer",
        (
            Edit(
                STARTER,
                "                if self._own.unstarted.get(claim) == due:\n                    self._start(claim)\n",
                "                self._start(claim)\n",
            ),
            Edit(
                STARTER,
                "    def _start(self, claim: Claim) -> None:\n        if claim.state is not State.CLAIMED:\n"
                "            return\n",
                "    def _start(self, claim: Claim) -> None:\n",
            ),
        ),
        (SuiteGate(("tests/unit/cluster/test_coordinator.py",), "given_back_is_not_started"),),
    ),
    mutant(
        "hand-back-of-started",
        "a run in progress is given back when its task is held",
        LEASES,
        "if claim.held and claim.state is State.CLAIMED:",
        "if claim.held:",
        scenes("back to back"),
    ),
    mutant(
        "hand-back-of-started-on-stop",
        "a stop gives back runs in progress before they have ended",
        COORDINATOR,
        "        for claim in list(self.own.unstarted):\n            self.starter.give_back(claim)\n",
        "        for claim in list(self.own.claims.values()):\n            self.starter.give_back(claim)\n",
        scenes("orderly"),
    ),
    mutant(
        "hold-in-the-making-ended",
        "a hold that is still being placed is released as unknown",
        HOLDS,
        "if key not in self._own.holds and key not in self._placing:",
        "if key not in self._own.holds:",
        scenes("back to back", "frozen asking"),
    ),
    mutant(
        "takeover-of-whatever-is-there",
        "a lease is taken over although its record has changed since it was read",
        TAKEOVER,
        "if old is None or old.rev != seen.rev:",
        "if old is None:",
        # A second check guards this: a lease that was renewed meanwhile had not expired when it was read.
        SuiteGate(("tests/unit/cluster/test_takeover.py",)),
    ),
    mutant(
        "fence-by-the-clock-alone",
        "the fence of a claim is the time of the store's clock alone",
        TRANSITIONS,
        "fence = max(old.rev + 1, now)",
        "fence = now",
        scenes("claimed ahead", "set again"),
    ),
    mutant(
        "hand-back-counts",
        "a claim that was given back before it began counts as a delivery",
        TRANSITIONS,
        "return _freed(old, now, claims=old.claims - (not old.manual), manual_claims=old.manual_claims - old.manual)",
        "return _freed(old, now)",
        scenes("fine weather", "claimed ahead"),
        PURE,
    ),
    mutant(
        "release-does-not-count",
        "a run that was cut does not count as a delivery",
        ENDINGS,
        "release(old, now, me, claim.fence)",
        "return_unstarted(old, now, me, claim.fence)",
        scenes("orderly"),
    ),
    mutant(
        "mid-point-clock",
        "the store's clock is estimated at the middle of request and answer",
        CLOCK,
        "steady + self._low - (_drift(steady - self._at) if steady > self._at else 0)",
        "steady + (self._low + self._high) // 2",
        scenes("slow way"),
    ),
    Mutant(
        "wall-clock",
        "runs start by the instance's own wall clock",
        (
            Edit(
                STARTER, "shown = self._client.clock.at_least(now)", "shown = self._host.engine.wall()  # type: ignore"
            ),
            Edit(
                STARTER,
                "due = self._client.clock.when(claim.record.tick_due, now)",
                "due = now + max(0, claim.record.next_due - self._host.engine.wall())  # type: ignore",
            ),
        ),
        (scenes("claimed ahead"),),
    ),
    mutant(
        "no-return-on-stop",
        "a stop does not give back claims that have not begun",
        COORDINATOR,
        "        for claim in list(self.own.unstarted):\n            self.starter.give_back(claim)\n",
        "",
        SuiteGate(("tests/behaviour/cluster/test_lost_lease.py",), "stop_gives_back"),
    ),
    mutant(
        "skip-ahead",
        "ticks that a crash would skip are claimed ahead of time as well",
        CLAIMS,
        ", not_ahead=self._on_time_only\n",
        "\n",
        SuiteGate(("tests/behaviour/cluster/test_lost_lease.py",), "not_claimed_before"),
    ),
    mutant(
        "no-poison",
        "the fence of a claim that is given back is not remembered",
        OUTBOX,
        "        self._returned_fences.add(key)\n",
        "",
        scenes("late answers", "claimed ahead"),
        lives="a call that was given up gets no answer, because `call()` cancels it: no claim arrives after its return",
    ),
]


RECOVERY = "stores/_recovery.py"
KNOWN_AGAIN = SuiteGate(("tests/unit/stores/test_recovery.py",))
SIMULATED += [
    mutant(
        "lost-record-claimed-at-once",
        "a lost record can be claimed before whoever ran its task has put the claim back",
        RECOVERY,
        "None, now + grace, leased=False)",
        "None, now, leased=False)",
        scenes("emptied in long runs"),
        KNOWN_AGAIN,
    ),
    mutant(
        "lost-twice-with-one-grace",
        "the hold of an earlier loss takes the place of the one that begins now",
        RECOVERY,
        "leased=False)}",
        "leased=False)} | {**holds}",
        KNOWN_AGAIN,
    ),
    mutant(
        "lost-claim-whatever-is-there",
        "a claim is put back although another one was made since",
        RECOVERY,
        "return old is None or (old.owner in (None, claimed.owner) and old.fence < claimed.fence)",
        "return True",
        KNOWN_AGAIN,
    ),
    mutant(
        "lost-claim-of-a-taken-lease",
        "a claim is put back although its lease was taken away",
        RECOVERY,
        "and old.fence < claimed.fence)",
        "and old.fence <= claimed.fence)",
        KNOWN_AGAIN,
    ),
    mutant(
        "lost-hold-whatever-was-claimed",
        "a hold is put back although a claim was made since",
        RECOVERY,
        "return hold(old, now, key, held) if old.fence <= fence else None",
        "return hold(old, now, key, held)",
        KNOWN_AGAIN,
    ),
    mutant(
        "lost-fence-by-the-clock-alone",
        "a record that is made again has the rev of the clock alone",
        RECOVERY,
        "            max(now, known.rev + 1),\n",
        "            now,\n",
        KNOWN_AGAIN,
    ),
    mutant(
        "entry-while-in-doubt",
        "a suspension does not wait until a lost record is out of doubt",
        CLIENT,
        "if record is None or RESTORED in record.holds:\n        return True",
        "if record is None:\n        return False",
        scenes("emptied in long runs"),
    ),
]


def of_stores(name: str, what: str, file: str, old: str, new: str, *more: SuiteGate) -> Mutant:
    return mutant(name, what, file, old, new, CONTRACT, *more)


# For each change that needs a valid claim, the text before and after the check.
CLAIM = "is_mine(old, me, fence)"
BY_CLAIM = {
    "renew": ("challenged=False) if ", " else None"),
    "finish": ("    if not ", ":\n        is_over"),
    "return_unstarted": ("    if not ", ":\n        return None\n"),
    "release": ("return _freed(old, now) if ", " else None"),
}
PARTS = {"owner": "old.fence == fence", "fence": "old.owner == me"}


def without(change: str, part: str) -> Mutant:
    """Return the mutant of *change* that ignores *part* of a claim."""
    before, after = BY_CLAIM[change]
    old, new = f"{before}{CLAIM}{after}", f"{before}({PARTS[part]}){after}"
    return of_stores(f"{change}-without-{part}", f"`{change}` ignores the {part}", TRANSITIONS, old, new, PURE)


CHANGES = [without(change, part) for change in BY_CLAIM for part in PARTS]

JUDGED = "return old.owner is None and not old.holds and (old.manual_at is not None or old.next_due <= now + ahead)"
CHANGES += [
    of_stores(
        "claim-without-due",
        "a claim ignores whether the task is due",
        TRANSITIONS,
        JUDGED,
        "return old.owner is None and not old.holds",
    ),
    of_stores(
        "claim-without-free",
        "a claim ignores whether the task already has an owner",
        TRANSITIONS,
        JUDGED,
        "return not old.holds and (old.manual_at is not None or old.next_due <= now + ahead)",
    ),
    of_stores(
        "claim-without-held",
        "a claim ignores holds",
        TRANSITIONS,
        JUDGED,
        "return old.owner is None and (old.manual_at is not None or old.next_due <= now + ahead)",
    ),
    of_stores(
        "finish-ignores-rule",
        "the next tick is computed with an outdated schedule",
        TRANSITIONS,
        "if schedule != old.schedule:",
        "if False:",
    ),
    of_stores(
        "finish-goes-back",
        "the next tick may be one that has already ended",
        TRANSITIONS,
        "coming = max(following.tick, old.next_tick + 1)",
        "coming = following.tick",
        PURE,
    ),
    of_stores(
        "asked-for-ever",
        "a request to end a run outlives the run, and keeps the task from being claimed until it lapses",
        TRANSITIONS,
        'kept = {"holds": true_holds(old.holds)} | changes',
        'kept = {"holds": old.holds} | changes',
        SuiteGate(("tests/unit/stores/test_requests.py",)),
    ),
    of_stores(
        "asked-of-any-run",
        "a request to end a run that is over ends a later one",
        VERBS,
        "if end_key(runs[name]) in after[name].holds}",
        "if len(true_holds(after[name].holds)) < len(after[name].holds)}",
    ),
    of_stores(
        "put-goes-back",
        "a new schedule brings back a tick that has already ended",
        TRANSITIONS,
        "tick = max(new.by_rule.tick, old.last_done + 1)",
        "tick = new.by_rule.tick",
        PURE,
    ),
    of_stores(
        "put-moves-what-is-due",
        "a new schedule moves a tick that is due or running",
        TRANSITIONS,
        "if old.owner is None and old.next_tick > now:",
        "if True:",
        PURE,
    ),
    of_stores(
        "put-of-any-version",
        "an old version brings its schedule back",
        TRANSITIONS,
        "if new.version < old.version or (new.version == old.version and (",
        "if (new.version == old.version and (",
        PURE,
    ),
    of_stores(
        "swap-in-memory-without-rev",
        "a swap ignores the rev",
        MEMORY,
        "if (stored and stored.rev) != (old and old.rev):",
        "if (stored is None) != (old is None):",
    ),
    of_stores(
        "renewed-without-fence",
        "a run whose lease was lost is reported as renewed",
        VERBS,
        "if name in after and is_mine(after[name], me, fence)}",
        "if name in after}",
    ),
    of_stores(
        "settle-without-judging-again",
        "after a conflict the transition is not computed again",
        STORE,
        "        for conflicts in range(MOST_CONFLICTS):\n            wanted = transition(old, now)\n",
        "        wanted = transition(old, now)\n        for conflicts in range(MOST_CONFLICTS):\n",
    ),
]

DUE = """AND name = one.value AND owner IS NULL AND holds = '{}'
)
WHERE next_due <= :now + reach OR manual_at IS NOT NULL
"""
COMING = "CASE WHEN owner IS NULL AND holds = '{}' AND next_due > :now + reach THEN"
REACH = """CASE
        WHEN partition_hash % :count <> :index THEN -:patience
        WHEN name IN (SELECT value FROM json_each(:not_ahead)) THEN 0
        ELSE :ahead
    END AS reach
"""
REACHES = {
    "due": f"SELECT * FROM (\n    SELECT kaiju_task.*, {REACH}",
    "left": f"    count(*) - count(name)\nFROM (\n    SELECT kaiju_task.*, {REACH}",
}
FREE, UNHELD = " AND owner IS NULL", " AND holds = '{}'"
APPS = SuiteGate(("tests/contract/test_sqlite.py::test_applications_do_not_see_each_others_tasks",))

QUERIES = [
    of_stores(
        "sql-due-without-due",
        "`due` returns tasks that are not due",
        SQL,
        DUE,
        DUE.replace("next_due <= :now + reach", "true"),
    ),
    of_stores("sql-due-without-free", "`due` returns tasks that have an owner", SQL, DUE, DUE.replace(FREE, "")),
    of_stores("sql-due-without-held", "`due` returns held tasks", SQL, DUE, DUE.replace(UNHELD, "")),
    of_stores(
        "sql-due-without-asked", "`due` returns no extra runs", SQL, DUE, DUE.replace(" OR manual_at IS NOT NULL", "")
    ),
    *(
        of_stores(f"sql-{name}-without-{part}", f"`{name}` {what}", SQL, text, text.replace(f"        {line}\n", ""))
        for name, text in REACHES.items()
        for part, what, line in (
            (
                "share",
                "takes tasks of other instances' partitions for its own",
                "WHEN partition_hash % :count <> :index THEN -:patience",
            ),
            (
                "not-ahead",
                "takes tasks ahead of their tick that must not be claimed ahead",
                "WHEN name IN (SELECT value FROM json_each(:not_ahead)) THEN 0",
            ),
        )
    ),
    of_stores(
        "sql-due-without-order",
        "`due` returns any due tasks instead of the earliest",
        SQL,
        "ORDER BY CASE WHEN next_due <= :now + reach THEN next_due ELSE manual_at END, name LIMIT",
        "ORDER BY name LIMIT",
    ),
    of_stores(
        "sql-next-claim-without-free",
        "`next_claim_at` counts tasks that have an owner",
        SQL,
        COMING,
        COMING.replace("owner IS NULL AND ", ""),
    ),
    of_stores(
        "sql-next-claim-without-held", "`next_claim_at` counts held tasks", SQL, COMING, COMING.replace(UNHELD, "")
    ),
    of_stores(
        "sql-next-claim-without-later",
        "`next_claim_at` counts tasks that were left because of the limit",
        SQL,
        COMING,
        COMING.replace(" AND next_due > :now + reach", ""),
    ),
    of_stores(
        "sql-missing-of-any-application",
        "`missing` finds the record of another application",
        SQL,
        "WHERE NOT EXISTS (SELECT 1 FROM kaiju_task WHERE app = :app AND name = value)",
        "WHERE NOT EXISTS (SELECT 1 FROM kaiju_task WHERE name = value)",
        APPS,
    ),
    of_stores(
        "sql-put-without-rev",
        "`put` replaces a record with another rev",
        SQL,
        "WHERE json_extract(value, '$[0]') IS (\n    SELECT rev FROM kaiju_task WHERE app = :app AND name = "
        "json_extract(value, '$[2]')\n)\n",
        "WHERE true\n",
    ),
    of_stores(
        "sql-put-of-any-application",
        "`put` judges by the record of another application",
        SQL,
        "SELECT rev FROM kaiju_task WHERE app = :app AND name = json_extract(value, '$[2]')",
        "SELECT rev FROM kaiju_task WHERE name = json_extract(value, '$[2]')",
        APPS,
    ),
    of_stores(
        "sql-delete-without-rev",
        "`delete` deletes a record with another rev",
        SQL,
        "DELETE FROM kaiju_task WHERE app = :app AND name = :name AND rev = :old_rev;",
        "DELETE FROM kaiju_task WHERE app = :app AND name = :name;",
    ),
    of_stores(
        "sql-own-claims-without-owner",
        "`own_claims` returns the claims of all instances",
        SQL,
        "AND owner = :me ORDER BY name;",
        "AND owner IS NOT NULL ORDER BY name;",
    ),
    of_stores(
        "sql-expired-without-runs",
        "`expired` does not return leases of runs",
        SQL,
        "SELECT * FROM kaiju_task INDEXED BY kaiju_task_claimed WHERE app = :app AND owner IS NOT NULL AND "
        "lease_until < :now\nUNION ",
        "",
    ),
    of_stores(
        "sql-expired-without-holds",
        "`expired` does not return holds",
        SQL,
        "    AND EXISTS (SELECT 1 FROM json_each(holds) WHERE json_extract(value, '$.until') < :now)\n",
        "    AND false\n",
    ),
    Mutant(
        "sql-keep-over",
        "`keep` replaces a ledger row",
        (
            Edit(SQL, "INSERT INTO kaiju_run (", "INSERT OR REPLACE INTO kaiju_run ("),
            Edit(SQL, "FROM json_each(:rows) WHERE true ON CONFLICT DO NOTHING;", "FROM json_each(:rows);"),
        ),
        (CONTRACT,),
    ),
    of_stores(
        "sql-some-of-any-application",
        "`some` returns tasks of another application",
        SQL,
        "-- name: some\nSELECT * FROM kaiju_task WHERE app = :app AND name IN",
        "-- name: some\nSELECT * FROM kaiju_task WHERE name IN",
        APPS,
    ),
    of_stores(
        "sqlite-swap-unchecked",
        "a swap that replaced nothing is reported as done",
        SQLITE,
        "        if not self._replace([(old, new)]):\n            return False\n",
        "        self._replace([(old, new)])\n",
    ),
    of_stores(
        "sqlite-claim-by-hand",
        "SQLite claims every task that the query returns, even if the transition refuses it",
        SQLITE,
        "in select(self.due(terms, query.limit), self.now, query)}\n"
        "        changed = self.apply_each([(name, claiming(query, ",
        "in self.due(terms, query.limit)}\n"
        "        anything = ClaimQuery(query.me, query.names, query.ttl, 1, 1 << 60)\n"
        "        changed = self.apply_each([(name, claiming(anything, ",
    ),
]

MUTANTS = [*SIMULATED, *CHANGES, *QUERIES, *POSTGRES]
