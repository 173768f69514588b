"""Duty: report to the store that this instance lives, and find out which tasks it should claim first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from kaiju_app._core.text import describe_exception
from kaiju_app._engine.events import log
from kaiju_app.stores._answers import Instance
from kaiju_app.stores._record import scheduler_of
from kaiju_app.stores._selection import EVERYBODY, Partition

from .neighbours import Neighbours, process_of
from .notes import Notes
from .store_client import REFUSED_RETRY, StoreClient
from .timing import MAX_POLL_STRETCH

REPEAT = 600_000_000  # What has happened is told again: somebody may have emptied or dropped the table.
UNTOLD = (
    "store %s: the report on this instance failed, and is repeated every %d s: %s. "
    "If that goes on, check that the table kaiju_note exists, that this user may change it, and that nobody locks it"
)


@dataclass(eq=False, repr=False)
class Heartbeat:
    """The heartbeat of this instance.

    Args:
        _neighbours: What the instance reports about itself, and what it makes of the others.
        _notes: What has happened to the instance.

    Attributes:
        partition: The tasks that this instance should claim first; all if it is alone, or if that is unknown.
        next_at: Steady time of the next heartbeat.
    """

    _client: StoreClient
    _neighbours: Neighbours
    _notes: Notes
    partition: Partition = EVERYBODY
    next_at: int = 0
    _instances: list[Instance] = field(default_factory=list)
    _tell_at: int = 0
    _repeat_at: int = 0
    _is_untold: bool = False

    async def run(self) -> None:
        """Send a heartbeat."""
        client, poll = self._client, self._client.lease.poll
        self.next_at = client.steady() + poll
        question = client.store.heartbeat(client.me, self._neighbours.introduction(), 3 * poll)
        instances = await client.call("heartbeat", question)
        if instances is not None:
            self._instances = instances
            self._neighbours.heard(client.me, instances)
            ids = [instance.id for instance in instances]
            rank = ids.index(client.me) if client.me in ids else None
            patience = round(poll * (MAX_POLL_STRETCH - 0.5))
            self.partition = EVERYBODY if rank is None or len(ids) < 2 else Partition(len(ids), rank, patience)
            await self._tell()

    async def _tell(self) -> None:
        """Tell the store what has happened here. It is for people only: if this fails, that is no outage.

        A failure may cost the store its connection, so the next attempt waits until somebody may have seen to it.
        """
        client = self._client
        if client.steady() < self._tell_at:
            return
        if client.steady() >= self._repeat_at:
            self._repeat_at = client.steady() + REPEAT
            self._notes.repeat()
        news = self._notes.news(client.clock.at_least(client.steady()))
        if news is None:
            return
        try:
            async with asyncio.timeout(client.lease.renew / 1e6):
                await client.store.note(client.me, news)
        except Exception as exc:  # Whatever it is: the coordinator must go on.
            self._tell_at = client.steady() + REFUSED_RETRY
            if not self._is_untold:
                log.info(UNTOLD, client.store.name, REFUSED_RETRY // 1_000_000, describe_exception(exc))
            self._is_untold = True
        else:
            self._notes.told()
            self._is_untold = False

    async def ensure(self) -> None:
        """Send the first heartbeat if none was sent yet: the store cannot notice the death of an unknown instance."""
        if not self.next_at:
            await self.run()

    async def instances(self) -> list[Instance]:
        """Return the instances whose heartbeat is recent.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        client = self._client
        question = client.store.heartbeat(client.me, self._neighbours.introduction(), 3 * client.lease.poll)
        self._instances = await client.call_or_raise("heartbeat", question, "the request for all instances")
        return self._instances

    def process_of(self, scheduler: str) -> str | None:
        """Return the process of a scheduler as ``host:pid``; None if its heartbeat was not heard."""
        return next((process_of(each) for each in self._instances if scheduler_of(each.id) == scheduler), None)

    def describe(self, scheduler: str) -> str:
        """Return the identity of a scheduler, and its process if that is known."""
        process = self.process_of(scheduler)
        return scheduler if process is None else f"{scheduler} ({process})"

    async def deregister(self) -> None:
        """Report that this instance is gone, so that the others leave no tasks to it, and until when it was there."""
        if self._client.degraded_since is None:
            await self.run()
        if self._client.degraded_since is None:
            await self._client.call("deregister", self._client.store.deregister(self._client.me))
