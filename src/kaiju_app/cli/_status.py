"""How a command ends: its exit status, and the error that ends it early."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The exit status of a command.

    Attributes:
        DONE: It did what it was told.
        FAILED: It was refused, or the run that it waited for did not succeed.
        USAGE: The command line is wrong.
        UNREACHABLE: Neither the endpoint nor the store answers.
        INTERRUPTED: Ctrl-C, or another signal, ended it: 128 and the number of SIGINT, by which shells end a loop.
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Ended(Exception):
    """The command cannot go on; the message says what to do."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
