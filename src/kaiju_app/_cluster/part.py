"""What most parts of a coordinator need: the store, the changes that it is owed, what is owned, and the host."""

from __future__ import annotations

from dataclasses import dataclass

from .claim import Owned
from .outbox import Outbox
from .ports import Host
from .store_client import StoreClient


@dataclass(eq=False, repr=False)
class Part:
    """Data only: what a part does is in its own class."""

    _client: StoreClient
    _outbox: Outbox
    _own: Owned
    _host: Host
