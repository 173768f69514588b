"""Processes that share tasks through a PostgreSQL server, each behind a proxy that a test can disturb."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kaiju_app.scheduler import LeaseTiming
from kaiju_app.stores import store_from_url
from kaiju_app.stores._sql import statements
from kaiju_app.stores.postgres._connection import parts
from processes.group import LEASE, PATIENCE_S, Process, Processes
from support.postgres_server import Server
from support.tcp_proxy import Proxy

# The messages Parse and Bind of the frontend: PostgreSQL documentation, "Message Formats".
PARSED = re.compile(rb"P.{4}(\w*)\0([^\0]*)\0", re.DOTALL)
BOUND = re.compile(rb"B.{4}\0(\w*)\0", re.DOTALL)

CLAIMS_NOTED = """
CREATE TABLE claim_noted (fence bigint, owner text, delivery integer, tick bigint);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO claim_noted VALUES (NEW.fence, NEW.owner, NEW.claims, NEW.next_tick); RETURN NULL; END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON kaiju_task FOR EACH ROW
    WHEN (NEW.fence <> OLD.fence AND NEW.owner IS NOT NULL) EXECUTE FUNCTION note_claim();
"""


class Statements:
    """Finds the names of the store's prepared statements that a piece of a client's stream executes."""

    def __init__(self) -> None:
        self._known = {parts(name)[0].encode(): name for name in statements("postgres/queries.sql")}
        self._prepared: dict[bytes, str] = {}

    def __call__(self, piece: bytes) -> list[str]:
        self._prepared |= {key: self._known.get(sql, "") for key, sql in PARSED.findall(piece)}
        return [self._prepared.get(key, "") for key in BOUND.findall(piece)]


class Hosts(Processes):
    """Processes of one application in a database of its own, each behind a proxy of its own.

    Args:
        directory: Where all files are.
        server: Where the database is created.
        lease: The lease timing of all processes.
        options: Options of all processes, see worker.Options.
    """

    def __init__(self, directory: Path, server: Server, lease: LeaseTiming = LEASE, **options: Any) -> None:
        self.server = server
        self.database = uuid4().hex
        server.create_database(self.database)
        super().__init__(directory, server.dsn(self.database), lease, **options)
        self.ways: dict[str, Proxy] = {}

    def way(self, who: str) -> Proxy:
        """Return the proxy between a process, started or not, and the server."""
        if who not in self.ways:
            self.ways[who] = Proxy("127.0.0.1", self.server.port, Statements()).__enter__()
        return self.ways[who]

    def start(self, who: str, environment: dict[str, str] | None = None, **options: Any) -> Process:
        store = self.way(who).dsn(self.url)
        return super().start(who, environment, **{"store": store, **options})

    def lead_to(self, server: Server) -> None:
        """Direct all new connections to another server."""
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

    # --- what the database contains ---

    def ask(self, sql: str) -> Any:
        return self.server.ask(sql, self.database)

    def wait_for_database(self, condition: str, within_s: float = PATIENCE_S) -> None:
        """Wait until the SQL *condition* is true for the record of the task."""
        end = time.monotonic() + within_s
        while not self.ask(f"SELECT {condition} FROM kaiju_task WHERE name = 'task'"):
            assert time.monotonic() < end, self.failure(f"the condition stays false: {condition}")

    def note_claims(self) -> None:
        """Let the database record every claim from now on, even if its answer is lost."""
        asyncio.run(_prepared(self.url))
        self.ask(f"DO $do$ BEGIN {CLAIMS_NOTED} END $do$")

    def claims(self) -> list[tuple[int, str, int]]:
        """Return fence, owner and delivery of each recorded claim."""
        noted = self.ask(
            "SELECT json_agg(json_build_array(fence, owner, delivery) ORDER BY fence)::text FROM claim_noted"
        )
        return [(fence, owner, delivery) for fence, owner, delivery in json.loads(noted or "[]")]

    def instance(self, who: str) -> str:
        return next(each.note.split()[1] for each in self.entries if each.who == who and each.event == "boot")

    def sessions(self) -> int:
        return int(self.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kaiju_app'"))

    # --- traps ---

    def wait_for_trap(self, statement: str, *, to_server: bool = False, to_client: bool = False) -> str:
        """Wait until a process sends a statement and hold its connection from then on; return its name."""
        traps = {
            who: way.trap(statement, to_server=to_server, to_client=to_client)
            for who, way in self.ways.items()
            if self.process_named(who).running.poll() is None
        }
        who = _first(traps)
        assert who, self.failure(f"no process sends {statement}")
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
    """Create the tables."""
    store = store_from_url(url)
    await store.open()
    await store.close()
