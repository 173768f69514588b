"""A terminal whose keys are read one by one, and which is afterwards as it was before."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.text import Text

from ._status import Ended, Status
from ._top_state import BACKSPACE, DOWN, ENTER, ESCAPE, UP

# Control sequences of xterm, which every terminal of today knows.
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[K\x1b[J"

SEQUENCES = {"\x1b[A": UP, "\x1b[B": DOWN, "\x1bOA": UP, "\x1bOB": DOWN}
SINGLE = {"\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x1b": ESCAPE}


def keys_in(text: str) -> list[str]:
    """Return the keys that a terminal has sent as *text*; sequences of other keys are left out."""
    keys = []
    while text:
        found = next((each for each in SEQUENCES if text.startswith(each)), None)
        if found is not None:
            keys.append(SEQUENCES[found])
            text = text[len(found) :]
        elif text.startswith(("\x1b[", "\x1bO")):
            end = next((place for place, each in enumerate(text[2:], 3) if "@" <= each <= "~"), len(text))
            text = text[end:]
        else:
            keys.append(SINGLE.get(text[0], text[0]))
            text = text[1:]
    return keys


def check_terminal() -> None:
    """Raise unless a person sits before this.

    Raises:
        Ended: There is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.name == "nt" or os.environ.get("TERM") == "dumb":
        raise Ended(
            Status.USAGE, "top needs a terminal: `kaiju tasks` lists the tasks, and `kaiju tail` follows what happens"
        )


@contextmanager
def full_screen(console: Console) -> Iterator[Callable[[Text], None]]:
    """Return what draws on the other screen of the terminal; what was on the first is there again afterwards."""
    file = console.file

    def draw(text: Text) -> None:
        with console.capture() as drawn:
            console.print(text, soft_wrap=True, end="")
        file.write(HOME + drawn.get().replace("\n", f"{REST_OF_LINE}\r\n") + REST_OF_SCREEN)
        file.flush()

    file.write(ENTER_SCREEN + HIDE_CURSOR)
    try:
        yield draw
    finally:
        with suppress(OSError):  # The terminal may be gone.
            file.write(SHOW_CURSOR + LEAVE_SCREEN)
            file.flush()


@contextmanager
def keys_read(on_key: Callable[[str], None], on_resize: Callable[[], None]) -> Iterator[None]:
    """Call *on_key* with each key, and *on_resize* when the terminal has another size.

    Keys are not echoed meanwhile. Ctrl-C interrupts as everywhere; SIGTERM and SIGHUP do as well, so that the terminal
    is restored; Ctrl-Z is ignored, which would leave it as it is.
    """
    import termios
    import tty

    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    main = asyncio.current_task()
    before = termios.tcgetattr(source)

    def read() -> None:
        text = os.read(source, 1024)
        if not text and main is not None:  # The terminal is gone.
            main.cancel()
        for key in keys_in(text.decode("utf-8", "ignore")):
            on_key(key)

    stopped = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        tty.setcbreak(source)
        loop.add_reader(source, read)
        loop.add_signal_handler(signal.SIGWINCH, on_resize)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if main is not None:
                loop.add_signal_handler(number, main.cancel)
        yield
    finally:
        loop.remove_reader(source)
        for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
        with suppress(termios.error):  # It may be gone.
            termios.tcsetattr(source, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTSTP, stopped)
