"""The identity of a run: log lines, records and traces that have the same one are about the same run."""

from __future__ import annotations

REPLACED = " (replaced)"  # A task gets it with its new name when another one takes the old one; a number may follow.


def run_id(task: str, instance: str, started: int, fence: int | None) -> str:
    """Return the identity of a run as 20 hexadecimal digits: a hash, so that no record has to keep it.

    Args:
        instance: Identity of the scheduler that runs it.
        started: When it began, on the steady clock of that scheduler, which no correction of the wall clock moves.
        fence: Its fencing token, which alone tells apart the runs of a shared task; None for a local one.
    """
    from hashlib import blake2b  # It loads a library for more than a millisecond; nobody may ever ask for this.

    name = task.partition(REPLACED)[0]  # A run keeps its identity if its task is replaced meanwhile.
    text = f"{instance}\0{name}\0{started if fence is None else -fence}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
