"""Duty: take over what other instances own and do not renew, or what they can never give back because they are dead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kaiju_app._core.clock import NEVER
from kaiju_app._core.logs import facts
from kaiju_app._engine.events import log
from kaiju_app.stores._record import TaskRecord, instance_of

from .policy import take_over
from .store_client import StoreClient, do_nothing

DEATH_CHECK = 500_000  # How often dead instances are looked for, in stores that can see them.


class Takeover:
    """Challenges expired leases, and removes those that nobody renews; ends pauses whose time is over.

    Attributes:
        on_freed: Called when a task may have become free.
        on_death: Called when the tasks of a dead instance have become free: nobody else may want to claim them.
        next_at: Steady time of the next look for dead instances; NEVER if the store cannot see them.
    """

    def __init__(self, client: StoreClient) -> None:
        self.on_freed: Callable[[], None] = do_nothing
        self.on_death: Callable[[], None] = do_nothing
        self._client = client
        self.next_at = 0 if client.store.sees_deaths else NEVER

    async def run(self) -> None:
        """Free what dead instances own: their death is certain, so neither a challenge nor a clock is needed."""
        client = self._client
        self.next_at = client.steady() + DEATH_CHECK
        dead = await client.call("dead", client.store.dead())
        seen = await client.call("scan", client.store.scan(only_active=True)) if dead else None
        if not dead or seen is None:
            return
        for record in seen.records:
            if record.owner in dead or any(instance_of(key) in dead for key in record.holds):
                log.warning(
                    "task %r: freed, as the process of instance %s, which ran or held it, is dead",
                    record.name, ", ".join(sorted(dead)), extra=facts(record.name, record.tick, fence=record.fence),
                )  # fmt: skip
                # Not calm: nothing but the deaths counts here, as nothing is known of the clock.
                remove = take_over(record, seen.now, client.me, client.lease.grace, dead, calm=False)
                await client.change(record.name, remove)
                self.on_death()
        for each in dead:
            await client.call("deregister", client.store.deregister(each))

    async def observe(self, expired: Sequence[TaskRecord], at: int) -> None:
        """Challenge leases that had expired by the store time *at*, remove those challenged in vain, and end pauses."""
        client = self._client
        calm = client.clock.is_calm(client.steady())
        paused = {each.name for each in expired if any(not held.leased for held in each.holds.values())}
        changes = {
            each.name: take_over(each, at, client.me, client.lease.grace, calm=calm)
            for each in expired
            if calm or each.name in paused
        }
        answered = await client.call("change_each", client.store.change_each(changes)) if changes else None
        if answered is None:
            return
        done = {name for name, changed in answered.items() if changed.done}
        if done & paused or (calm and any(record.challenged for record in expired)):
            self.on_freed()
