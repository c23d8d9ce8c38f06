"""The server: a socket on this machine, and the application behind it."""

import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn

from earsight.search.embedder import Embedder
from earsight.search.index import Index, model_hash
from earsight.serve.app import build_app
from earsight.serve.library import open_library
from earsight.serve.limits import UploadLimits

_LEAVE = 3


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that is listening.

    Attributes:
        url: of the page.
        files: that it shows.
        windows: of these.
        loopback: whether only this machine can reach it.
    """

    url: str
    files: int
    windows: int
    loopback: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.windows} moments of {self.files} files at {self.url} (Ctrl-C ends it)"
        if self.loopback:
            return text
        return f"{text}\nwarning: all machines that reach this address can see these files"


def run_server(
    index: Index,
    embedder: Embedder,
    *,
    host: str,
    port: int,
    limits: UploadLimits,
    ready: Callable[[Serving], None],
) -> None:
    """Show an index until a signal comes.

    Args:
        index: what is shown.
        embedder: of the run that it was made with.
        host: address to listen at.
        port: likewise; 0 for any that is free.
        limits: of uploads.
        ready: told once it is listening.

    Raises:
        ValueError: address or port cannot be used, the run is not that of the index, or the
            system has no limits for uploads.
    """
    if os.name != "posix":
        raise ValueError("the page needs Linux or macOS: uploads are decoded under their limits")
    if model_hash(embedder.loaded) != index.about.model:
        raise ValueError(f"{index.folder} was made by other weights than these; embed again")
    address = _address(host)
    library = open_library(index)
    with _listen(address, port) as listening:
        port = listening.getsockname()[1]
        names = ["localhost"] if address.is_loopback else []
        names += [f"[{address}]" if address.version == 6 else str(address)]
        # Browsers leave the port out where it is that of HTTP.
        hosts = [name for name in names if port == 80] + [f"{name}:{port}" for name in names]
        config = uvicorn.Config(
            build_app(library, embedder, limits, hosts),
            log_level="warning",
            access_log=False,
            http="h11",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_LEAVE,
            ws="none",
        )
        serving = Serving(
            url=f"http://{names[-1]}:{port}/",
            files=len(library.files),
            windows=len(index),
            loopback=address.is_loopback,
        )
        _Server(config, lambda: ready(serving)).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that says when it answers: from then on it also ends by a signal."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._ready()


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ValueError(f"host: {host!r} is no address; give one such as 127.0.0.1") from error
    if address.is_unspecified:
        raise ValueError(
            f"host: {host} stands for all addresses, and a page that answers to any name can be "
            "asked by any other page; give the one address to listen at"
        )
    return address


def _listen(address: Address, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise ValueError(f"port: {port} must be from 0 to 65535")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((str(address), port), family=family, backlog=128)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {address}, port {port}: {(error.strerror or str(error)).lower()}; "
            "give another by --port"
        ) from error
