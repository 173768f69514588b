"""Duty: changes that the store has to apply, sent until it has answered. Applying one twice does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kaiju_app._core.clock import NEVER
from kaiju_app._core.logs import facts
from kaiju_app._core.text import shortened
from kaiju_app._engine.events import log
from kaiju_app.errors import StoreRefused
from kaiju_app.stores._cas import Transition, simply
from kaiju_app.stores._record import LedgerRow, TaskRecord
from kaiju_app.stores._transitions import return_unstarted

from .claim import Key
from .store_client import LOCKED_RETRY, MAX_PER_CALL, REFUSED_RETRY, SHOWN, StoreClient


@dataclass(eq=False, repr=False)
class Outbox:
    """The changes that this instance owes the store: claims given back, runs released, holds ended.

    Attributes:
        pending: The changes that the store has not answered yet, by the claim or hold that each is about.
        sent: Set whenever the store has answered to a change or to an ending.
    """

    _client: StoreClient
    _wake: Callable[[], None]
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    pending: dict[Key, Transition] = field(default_factory=dict)
    _returned_fences: set[Key] = field(default_factory=set)
    _send_at: int = 0
    _most: int = MAX_PER_CALL
    _refused: dict[str, int] = field(default_factory=dict)
    """Tasks with a change that the store does not accept, and the steady time before which it is not sent again."""

    def put(self, key: Key, transition: Transition) -> None:
        """Have *transition* applied; *key* is the claim or hold that it is about."""
        self.pending[key] = transition
        self._send_at = 0
        self._wake()

    def put_return(self, key: Key, transition: Transition) -> None:
        """Have a claim given up; if its lost answer arrives late, nothing starts."""
        self._returned_fences.add(key)
        self.put(key, transition)

    def hand_back(self, key: Key) -> None:
        """Give back a claim whose run has not begun and never will."""
        me = self._client.me
        self.put_return(key, simply(lambda old, now: return_unstarted(old, now, me, key[1])))

    def is_returned(self, key: Key) -> bool:
        """Return whether the claim is being given up: a late answer must not start it."""
        return key in self._returned_fences

    async def until_sent(self, key: Key) -> None:
        """Wait until the store has answered to the change that is about *key*."""
        while key in self.pending:
            self.sent.clear()
            await self.sent.wait()

    @property
    def next_at(self) -> int:
        """Steady time at which there is something to send; NEVER if there is nothing."""
        if not self._refused:
            return self._send_at if self.pending else NEVER
        return min((max(self._send_at, self._refused.get(name, 0)) for name, _ in self.pending), default=NEVER)

    async def run(self) -> None:
        """Send what is pending."""
        while self._client.steady() >= self.next_at:
            first: dict[str, Key] = {}  # One change per task and call: the changes of one task keep their order.
            for key in self.pending:
                if len(first) < self._most and self._refused.get(key[0], 0) <= self._client.steady():
                    first.setdefault(key[0], key)
            transitions = {name: self.pending[key] for name, key in first.items()}
            try:
                answered = await self._client.ask("change_each", self._client.store.change_each(transitions))
            except StoreRefused as refused:  # Half as many, until it is clear which one it is.
                self._most = max(1, len(first) // 2)
                if len(first) == 1:
                    self._on_refused(next(iter(first.values())), refused.what)
                return
            if answered is None:
                return
            self._most = min(2 * self._most, MAX_PER_CALL)
            for name in answered:
                del self.pending[first[name]]
                self._returned_fences.discard(first[name])
                self._refused.pop(name, None)
            if len(answered) < len(first):
                self._send_at = self._client.steady() + LOCKED_RETRY
            self.sent.set()

    def _on_refused(self, key: Key, why: str) -> None:
        """Send a change that the store does not accept without its rows; if that was tried, a minute later."""
        name, transition = key[0], self.pending[key]
        if name not in self._refused:
            self._refused[name] = 0
            self.pending[key] = _without_rows(transition)
            then = "it is made without the record of the run"
        else:
            self._refused[name] = self._client.steady() + REFUSED_RETRY
            then = "this is tried again every minute"
        log.error(
            "task %r: store %s does not accept a change (%s): %s. See which constraint, trigger or limit refuses it",
            name, self._client.store.name, shortened(why, SHOWN), then, extra=facts(name),
        )  # fmt: skip


def _without_rows(transition: Transition) -> Transition:
    """Return *transition* of the record alone."""

    def lean(old: TaskRecord | None, now: int) -> tuple[TaskRecord | None, Sequence[LedgerRow]] | None:
        wanted = transition(old, now)
        return None if wanted is None else (wanted[0], ())

    return lean
