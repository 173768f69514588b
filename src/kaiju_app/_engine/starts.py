"""Who hears of runs that begin, inside the run: what it sets in the context is there for the function, too."""

from __future__ import annotations

from collections.abc import Callable

from kaiju_app._core.callables import is_async, is_generator
from kaiju_app._core.logs import for_log
from kaiju_app.errors import InvalidArgument, safe_repr

from .entry import ActiveRun
from .events import facts_of_run, log
from .throttled import ThrottledMessage

StartListener = Callable[[ActiveRun], object]


class Starts:
    """The listeners of one scheduler that hear of beginnings.

    Args:
        now: Reads the steady clock.

    Attributes:
        listeners: In the order in which they subscribed.
    """

    __slots__ = ("_failures", "_now", "listeners")

    def __init__(self, now: Callable[[], int]) -> None:
        self.listeners: tuple[StartListener, ...] = ()
        self._now = now
        self._failures = ThrottledMessage(now())

    def subscribe(self, given: Callable[..., object], listener: StartListener) -> Callable[[], None]:
        """Call *listener*, which calls what was *given*, when a run begins; return what ends that."""
        if not callable(given) or is_generator(given) or is_async(given):
            raise InvalidArgument("listener", given, "must be a plain function that takes a CurrentRun")
        self.listeners = (*self.listeners, listener)

        def unsubscribe() -> None:
            self.listeners = tuple(each for each in self.listeners if each is not listener)

        return unsubscribe

    def tell(self, run: ActiveRun) -> None:
        """Call all listeners, in the context of *run*."""
        for listener in self.listeners:
            try:
                listener(run)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as exc:  # A bug in a listener must not stop the run.
                if self._failures.due(self._now()):
                    log.error(
                        "task %r: a listener of starts raised: %s; the run begins all the same, and it stays "
                        "subscribed", run.entry.name, safe_repr(exc), exc_info=for_log(exc), extra=facts_of_run(run),
                    )  # fmt: skip
