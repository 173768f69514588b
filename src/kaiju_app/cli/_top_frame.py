"""The screen of `kaiju top` as lines of text, for any size of a terminal."""

from __future__ import annotations

from rich.text import Text

from ._moments import length, relative
from ._palette import OVERDUE, RUNNING, VERMILLION
from ._screen import Screen
from ._table import cut, shortened, styled
from ._text import clean
from ._top_state import HELD, SECTIONS, Row, State, shares, window
from ._views import at, hold_text, moment_of, outcome_cell, recent_cell, state_cell, why_of

KEYS = "j k move  p pause  u resume  r run now  c cancel  / filter  ? help  q quit"
HELP = """
  j  or the arrow down    the next row          p   pause the task: asks for a reason
  k  or the arrow up      the row before        u   end the pause
  /  filter by name       Esc shows all         r   run it now
  ?  this help                                  c   cancel its run: asks for a reason
  q  quit

  Any key goes back.
"""
NAME = 36  # Most columns for a name.


def frame(screen: Screen, state: State, width: int, height: int, where: str) -> list[Text]:
    """Return exactly *height* lines of at most *width* columns."""
    lines = [_head(screen, state, where), *_body(screen, state, width, height - 2)]
    lines = [cut(each, width) for each in lines[: height - 1]]
    lines += [Text("")] * (height - 1 - len(lines))
    return [*lines, cut(_bottom(state), width)]


def _head(screen: Screen, state: State, where: str) -> Text:
    line = styled("kaiju", "bold")
    line.append(f"  {clean(state.link)}", style="" if state.link in ("live", "connecting") else VERMILLION)
    line.append(f"  {at(screen, screen.now.isoformat())}")
    if state.filter:
        line.append(f"  /{clean(state.filter)}", style="bold")
    found = state.scheduler
    if found is not None:
        line.append(f"  {_count(found['tasks'], 'task')}")
        for name, style in (("running", RUNNING), ("hung", VERMILLION), ("paused", "")):
            if found["states"].get(name):
                line.append(f"  {found['states'][name]} {name}", style=style)
        line.append(f"  {_count(found['instances'], 'instance')}")
        lag = found["loop_lag"]
        if lag is not None:
            line.append(f"  lag {length(lag['max_s'])}", style=VERMILLION if lag["max_s"] > 1 else "")
    return line.append(f"  {clean(where)}", style="dim")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _body(screen: Screen, state: State, width: int, room: int) -> list[Text]:
    if state.shows_help:
        return [Text(each) for each in HELP.splitlines()]
    if state.scheduler is None:
        return [Text(""), Text("  Waiting for the endpoint.")]
    sections = [[each for each in state.rows if each.section == place] for place in range(len(SECTIONS))]
    titles = len(SECTIONS) - (not sections[HELD])
    sizes = shares([len(each) for each in sections], max(0, room - titles))
    lines: list[Text] = []
    for title, rows, size in zip(SECTIONS, sections, sizes, strict=True):
        if title == SECTIONS[HELD] and not rows:
            continue
        hidden = f"  ({len(rows) - size} more)" if len(rows) > size else "" if rows else "  none"
        lines.append(styled(title, "bold").append(hidden, style="dim"))
        chosen = next((place for place, each in enumerate(rows) if each.key == state.chosen), 0)
        first = window(chosen, size, len(rows))
        lines += [_row(screen, each, each.key == state.chosen, width) for each in rows[first : first + size]]
    return lines


def _row(screen: Screen, row: Row, is_chosen: bool, width: int) -> Text:
    room = min(NAME, max(10, width // 2 - 4))
    name = shortened(clean(row.name), room)
    line = styled("> " if is_chosen else "  ", "bold")
    line.append(name, style="reverse" if is_chosen else "")
    line.append(" " * (room + 2 - Text(name).cell_len))
    return line.append_text((_running, _failing, _held, _coming, _ended)[row.section](screen, row))


def _running(screen: Screen, row: Row) -> Text:
    task = row.data
    text = state_cell(task).append(f"  in {clean(task['runs_in'] or task['runs_on'] or '?')}", style="dim")
    return text.append("  ").append_text(recent_cell(screen, task["recent"]))


def _failing(screen: Screen, row: Row) -> Text:
    task, last = row.data, row.data["last_run"]
    text = styled("overdue  " if task["overdue"] else "", OVERDUE)
    if last is None:
        return text.append("never ran")
    ended = moment_of(last["finished_at"] or last["scheduled_at"])
    ago = "" if ended is None else f" {relative(ended, screen.now)}"
    text.append_text(outcome_cell(screen, last["outcome"], ago))
    return text.append(f": {clean(last['error'])}" if last["error"] else "")


def _held(screen: Screen, row: Row) -> Text:
    return styled("; ".join(hold_text(screen, each) for each in row.data["holds"]) or row.data["state"])


def _coming(screen: Screen, row: Row) -> Text:
    due = moment_of(row.data["due"])
    return Text(f"{at(screen, row.data['due'])}  {'' if due is None else relative(due, screen.now)}")


def _ended(screen: Screen, row: Row) -> Text:
    run = row.data
    ended = moment_of(run["finished_at"] or run["scheduled_at"])
    lasted = "" if run["duration_s"] is None else f" in {length(run['duration_s'])}"
    many = f" x{run['count']}" if run["count"] != 1 else ""
    ago = "" if ended is None else f"  {relative(ended, screen.now)}"
    text = outcome_cell(screen, run["outcome"], f"{many}{lasted}{ago}")
    why = why_of(run)
    return text.append(f": {clean(why)}" if why else "")


def _bottom(state: State) -> Text:
    if state.asks:
        prompt = {"pause": "Pause, because: ", "cancel": "Cancel, because: ", "filter": "/"}[state.asks]
        note = f"   ({state.message})" if state.message else ""
        return styled(prompt, "bold").append(f"{clean(state.typed)}_").append(note, style="dim")
    return styled(state.message, "bold") if state.message else Text(KEYS, style="dim")
