"""What the environment may say of where a scheduler is."""

from __future__ import annotations

from collections.abc import Mapping

URL, TOKEN, STORE, APP = "KAIJU_URL", "KAIJU_TOKEN", "KAIJU_STORE", "KAIJU_APP"


def app_of(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the name of the set of instances that is meant."""
    return given or environ.get(APP) or "default"
