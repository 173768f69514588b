"""Clients of a server, of the one that sentinels name, or of a cluster; and what its errors mean."""

from __future__ import annotations

import re
import ssl
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from kaiju_app.errors import InvalidArgument

from ._address import Address

ERRORS = (RedisError, OSError, RedisClusterException)
REFUSED = re.compile(
    r"NOPERM|NOAUTH|WRONGPASS|ACL failure|[Nn]o permissions|can't run this command|unknown command|DB index|"
    r"CERTIFICATE_VERIFY_FAILED|[Cc]luster mode is not enabled|without any password configured"
)
OLDEST, OLDEST_IN_CLUSTER = (6, 2), (7, 0)  # Sharded channels came with 7.0.

Client = Redis | RedisCluster


def client_of(address: Address) -> Client:
    """Return a client that connects when it is needed, and never repeats a command by itself."""
    once: dict[str, Any] = {
        **address.login,
        "protocol": 2,
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,  # Calls have limits of their own.
        "socket_connect_timeout": None,
        "driver_info": None,
    }
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **once)
    if address.kind == "sentinel":
        asked: dict[str, Any] = {
            "socket_timeout": 2.0, "socket_connect_timeout": 2.0, "retry": Retry(NoBackoff(), 0), "driver_info": None,
            **{name: value for name, value in address.login.items() if name.startswith("ssl")},
            **address.sentinel_login,
        }  # fmt: skip
        sentinels = Sentinel(address.hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        primary: Redis = sentinels.master_for(address.service, db=address.number, **once)
        return primary
    host, port = address.hosts[0]
    return Redis(host=host, port=port, db=address.number, **once)


async def client_for_news(address: Address, base: str) -> Redis:
    """Return a client for a connection that listens: in a cluster to the node that has the application's slot."""
    client = client_of(address)
    if isinstance(client, Redis):
        return client
    try:
        await client.initialize()  # Asks which node that is now.
        node = client.get_node_from_key(base)
    finally:
        await client.aclose()
    if node is None or not isinstance(node.port, int):
        raise ClusterDownError(f"no node has the slot of {base}")
    return Redis(
        host=node.host, port=node.port, protocol=2, decode_responses=True, retry=Retry(NoBackoff(), 0),
        socket_timeout=None, driver_info=None, **address.login,
    )  # fmt: skip


def is_refusal(exc: BaseException) -> bool:
    """Return whether the server, or the library for it, refuses the address itself."""
    kinds = AuthenticationError, AuthorizationError, NoPermissionError, MovedError, ssl.SSLCertVerificationError
    return isinstance(exc, kinds) or REFUSED.search(f"{exc} {exc.__cause__}") is not None


def advice_for(exc: BaseException) -> str:
    """Return what to do about a refusal."""
    said = f"{exc} {exc.__cause__}"
    if isinstance(exc, MovedError):
        return "it is a node of a cluster: write redis+cluster://host:port"
    if "luster mode is not enabled" in said:
        return "it is no node of a cluster: write redis://host:port"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "name the certificate of its authority: rediss://host:port?ssl_ca_certs=/path/ca.crt"
    return (
        "check user, password, port and number of the database; the user needs ~kaiju:* &kaiju:* +@read +@write "
        "+@scripting +@pubsub +@connection +info +time"
    )


def is_drop(exc: BaseException) -> bool:
    """Return whether the connection is of no more use after an error."""
    return not isinstance(exc, ResponseError) or isinstance(exc, ReadOnlyError | MovedError | ClusterDownError)


async def info_of(client: Client, base: str) -> dict[str, Any]:
    """Return what the server tells of itself; in a cluster, the node that has the application's slot."""
    if not isinstance(client, RedisCluster):
        return dict(await client.info())
    await client.initialize()
    found = dict(await client.info(target_nodes=[client.get_node_from_key(base)]))
    return found if "redis_version" in found else dict(next(iter(found.values())))


def check(address: Address, info: dict[str, Any]) -> list[str]:
    """Return what the user has to know of a server with this *info*.

    Raises:
        InvalidArgument: It cannot be used.
        ReadOnlyError: It is a replica, which may become the primary.
    """
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    oldest = OLDEST_IN_CLUSTER if address.kind == "cluster" else OLDEST
    if numbers < oldest:
        rule = f"must be Redis {'.'.join(map(str, oldest))} or newer, or Valkey, not {version}: upgrade the server"
        raise InvalidArgument("store", address.name, rule)
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        rule = "must be a server, or redis+sentinel://host:port/service if it is a sentinel, as it is here"
        raise InvalidArgument("store", address.name, rule)
    if info.get("role") == "slave":
        raise ReadOnlyError(
            "it is a replica, which can only be read: give the address of the primary, or those of sentinels, "
            "redis+sentinel://host:port/service, which know it"
        )
    found = []
    policy = str(info.get("maxmemory_policy", ""))
    if int(info.get("maxmemory", 0)) and policy.startswith("allkeys"):
        found.append(
            f"maxmemory-policy is {policy}: when memory is short the server deletes records, and ticks are lost or run "
            "twice; set it to noeviction, or use another server"
        )
    if "aof_enabled" in info and not int(info["aof_enabled"]):
        found.append(
            "appendonly is no: after a crash the server has lost all that came after its last snapshot, claims too, "
            "and a tick may run twice; set appendonly yes, and appendfsync always to lose nothing"
        )
    return found
