"""Triggers that users write: wrapped once, where they enter, so that all other code meets a ``BaseTrigger``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaiju_app._core.validate import aware
from kaiju_app.errors import InvalidArgument

from ._base import FIRST, LAST, BaseTrigger, Trigger
from ._registered import form_of, name_of

CENTURY = timedelta(days=36_600)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ForeignTrigger(BaseTrigger):
    """A trigger of another package, whose answers are checked and converted to UTC.

    A trigger that does not move on in time would make a loop spin forever, so such an answer raises ``ValueError``.

    Args:
        trigger: What the user gave.
    """

    trigger: Trigger

    def after(self, moment: datetime, /) -> datetime | None:
        """Return the first tick strictly later than the aware *moment*; None if there is none.

        Raises:
            ValueError: The answer is naive or not later than *moment*.
        """
        moment = aware("moment", moment)
        found = _answer(self.trigger.after, moment, LAST - moment)
        return None if found is None else _later(found, moment, "after")

    def at_or_before(self, moment: datetime, /) -> datetime | None:
        """Return the last tick not later than the aware *moment*; None if there is none.

        Raises:
            ValueError: The answer is naive or later than *moment*.
        """
        moment = aware("moment", moment)
        found = _answer(self.trigger.at_or_before, moment, moment - FIRST)
        if found is not None and found > moment:
            raise ValueError(f"at_or_before({moment.isoformat()}) returned {found.isoformat()}, which is later")
        return found

    def json_repr(self) -> dict[str, object]:
        """Return the name of its class and its parameters as JSON values.

        Raises:
            InvalidArgument: The class is not registered.
        """
        return form_of(self.trigger)

    def _walk(self, moment: datetime) -> Iterator[datetime]:
        """Yield the ticks later than *moment*, by the trigger's own ``ticks(after)`` if it has such a method.

        Raises:
            ValueError: The trigger does not move on in time.
        """
        own = getattr(self.trigger, "ticks", None)
        return _checked(own(moment), moment) if callable(own) else BaseTrigger._walk(self, moment)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same rule; of a registered class, whether they are written alike."""
        if not isinstance(other, ForeignTrigger):
            return NotImplemented
        return bool(self._compared() == other._compared())

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> object:
        """Return what is the same for the same rule."""
        import json  # Few programs need it.

        kind = type(self.trigger)
        if name_of(kind) is None:
            return self.trigger
        try:
            return kind, json.dumps(self.json_repr(), sort_keys=True)
        except Exception:  # to_json() is user code; a task of this process does not need it.
            return self.trigger

    def __str__(self) -> str:
        return str(self.trigger)

    def __repr__(self) -> str:
        return repr(self.trigger)


def as_base_trigger(argument: str, value: object) -> BaseTrigger:
    """Return the trigger *value*, wrapped if it is not part of this package.

    Raises:
        InvalidArgument: It lacks one of the two methods, or is a class instead of an instance.
    """
    if isinstance(value, BaseTrigger):
        return value
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("after", "at_or_before")):
        rule = "must be a trigger such as Every(60), or have the methods after and at_or_before"
        raise InvalidArgument(argument, value, rule + _advice(value))
    return ForeignTrigger(value)  # type: ignore[arg-type]


def _answer(
    ask: Callable[[datetime], datetime | None], moment: datetime, left_of_calendar: timedelta
) -> datetime | None:
    try:
        tick = ask(moment)
    except OverflowError:
        if left_of_calendar > CENTURY:  # Near the end of the calendar an overflow means that there is no tick.
            raise
        return None
    return None if tick is None else aware("tick", tick)


def _advice(value: object) -> str:
    match value:
        case str():
            return f"; write Cron({value!r})"
        case datetime():
            return "; write an aware datetime in At(...)"
        case bool():
            return ""
        case int() | float() | timedelta():
            return f"; write Every({value!r}) or interval_s={value!r}"
        case type():
            return f"; write {value.__name__}(...), an object of the class"
    return ""


def _checked(ticks: Iterator[datetime], moment: datetime) -> Iterator[datetime]:
    for tick in ticks:
        moment = _later(aware("tick", tick), moment, "ticks")
        yield moment


def _later(found: datetime, moment: datetime, method: str) -> datetime:
    if found <= moment:
        raise ValueError(f"{method}({moment.isoformat()}) returned {found.isoformat()}, which is not later")
    return found
