"""Processes that share tasks through a PostgreSQL server, each on a way of its own, which a test can disturb."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster_processes import LEASE, PATIENCE_S, Process, Processes
from postgres_server import Server
from tcp_proxy import Proxy

from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import store_from_url
from kaiju_app.stores._postgres_link import parts
from kaiju_app.stores._sql import statements

# Of the frontend's messages, Parse and Bind: PostgreSQL documentation, "Message Formats".
PARSED = re.compile(rb"P.{4}(\w*)\0([^\0]*)\0", re.DOTALL)
BOUND = re.compile(rb"B.{4}\0(\w*)\0", re.DOTALL)

CLAIMS_NOTED = """
CREATE TABLE claim_noted (fence bigint, holder text, take integer, tick bigint);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO claim_noted VALUES (NEW.fence, NEW.holder, NEW.take, NEW.next); RETURN NULL; END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON kaiju_task FOR EACH ROW
    WHEN (NEW.fence <> OLD.fence AND NEW.holder IS NOT NULL) EXECUTE FUNCTION note_claim();
"""


class Statements:
    """Tells which of the store's statements a client has carried out, of those that it prepared before."""

    def __init__(self) -> None:
        self._known = {parts(name)[0].encode(): name for name in statements("postgres.sql")}
        self._prepared: dict[bytes, str] = {}

    def __call__(self, piece: bytes) -> list[str]:
        self._prepared |= {key: self._known.get(sql, "") for key, sql in PARSED.findall(piece)}
        return [self._prepared.get(key, "") for key in BOUND.findall(piece)]


class Hosts(Processes):
    """Processes of one application in a database of its own, each behind a proxy of its own.

    Args:
        directory: Where all files are.
        server: Where the database is made.
        lease: Of all of them.
        options: Of each process, see cluster_worker.Options.
    """

    def __init__(self, directory: Path, server: Server, lease: LeaseTiming = LEASE, **options: Any) -> None:
        self.server = server
        self.database = uuid4().hex
        server.create_database(self.database)
        super().__init__(directory, server.dsn(self.database), lease, **options)
        self.ways: dict[str, Proxy] = {}

    def way(self, who: str) -> Proxy:
        """Return what is between a process, started or not, and the server."""
        if who not in self.ways:
            self.ways[who] = Proxy("127.0.0.1", self.server.port, Statements()).__enter__()
        return self.ways[who]

    def start(self, who: str, environment: dict[str, str] | None = None, **options: Any) -> Process:
        store = self.way(who).dsn(self.url)
        return super().start(who, environment, **{"store": store, **options})

    def lead_to(self, server: Server) -> None:
        """Have all new connections made to another server."""
        self.server = server
        self.url = server.dsn(self.database)
        for way in self.ways.values():
            way.target = "127.0.0.1", server.port

    def cut(self) -> None:
        for way in self.ways.values():
            way.cut()

    def close(self) -> None:
        super().close()
        for way in self.ways.values():
            way.__exit__(None, None, None)
        self.ways.clear()

    # --- what the server has ---

    def ask(self, sql: str) -> Any:
        return self.server.ask(sql, self.database)

    def seen(self, condition: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the database says that *condition* is true of the task."""
        end = time.monotonic() + within_s
        while not self.ask(f"SELECT {condition} FROM kaiju_task WHERE name = 'task'"):
            assert time.monotonic() < end, self.told(f"it does not come to be that {condition}")

    def note_claims(self) -> None:
        """From now on, have the database keep every claim, whether somebody hears of it or not."""
        asyncio.run(_prepared(self.url))
        self.ask(f"DO $do$ BEGIN {CLAIMS_NOTED} END $do$")

    def claims(self) -> list[tuple[int, str, int]]:
        """Return fence, instance and take of each claim that was made."""
        noted = self.ask("SELECT json_agg(json_build_array(fence, holder, take) ORDER BY fence)::text FROM claim_noted")
        return [(fence, holder, take) for fence, holder, take in json.loads(noted or "[]")]

    def instance(self, who: str) -> str:
        return next(each.note.split()[1] for each in self.entries if each.who == who and each.event == "boot")

    def sessions(self) -> int:
        return int(self.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kaiju_app'"))

    # --- traps ---

    def trapped(self, statement: str, *, to_server: bool = False, to_client: bool = False) -> str:
        """Wait until a process sends a statement, which from then on is held; return which one."""
        traps = {
            who: way.trap(statement, to_server=to_server, to_client=to_client)
            for who, way in self.ways.items()
            if self.named(who).running.poll() is None
        }
        who = _first(traps)
        assert who, self.told(f"nobody sends {statement}")
        for other in traps.keys() - {who}:
            self.ways[other].disarm()
            if traps[other].is_set():
                self.ways[other].hold()
        return who


def _first(events: dict[str, threading.Event]) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for who, event in events.items():
            if event.wait(0.002):
                return who
    return ""


async def _prepared(url: str) -> None:
    """Have the tables made."""
    store = store_from_url(url)
    await store.open()
    await store.close()
