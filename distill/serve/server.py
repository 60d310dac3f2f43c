"""Runs that are served on an address of this machine, until they are stopped."""

import ipaddress
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import uvicorn

from distill.errors import UserError
from distill.serve.app import make_app
from distill.serve.guard import Guard
from distill.serve.loaded import load_runs, picture_of
from distill.serve.work import Worker


def serve(
    runs: Sequence[str | PathLike[str]],
    host: str,
    port: int,
    max_mb: float,
    max_pixels: int,
    say: Callable[[str], None],
    **settings: Any,
) -> None:
    """Serves runs until the process is stopped; all images and results are removed then.

    Args:
        runs: Run folders.
        host: Name or address to listen on.
        port: To listen on; 0 is any that is free.
        max_mb: Of a file, in units of 10^6 bytes.
        max_pixels: Of an image.
        say: Is told lines for the user.
        **settings: See `distill.serve.loaded.LoadedRun`.

    Raises:
        UserError: There is no such run, or the address cannot be listened on.
    """
    listening = _listen(host, port)
    signal.signal(signal.SIGTERM, _stop)  # else the folder would stay
    with listening, tempfile.TemporaryDirectory(prefix="distill-serve-", ignore_cleanup_errors=True) as place:
        say(f"loading {', '.join(map(str, runs))}")
        loaded = load_runs(runs, **settings)
        worker = Worker(loaded, lambda image, folder: picture_of(image, folder, loaded[0].bands), Path(place))
        app = Guard(make_app(worker, int(max_mb * 1e6), max_pixels), names=[host, socket.gethostname()])
        address, number = listening.getsockname()[:2]
        if not ipaddress.ip_address(address).is_loopback:
            say(f"warning: everyone who reaches {host} can send images; there is no password and no encryption")
        say(f"open http://{_in_url(address)}:{number}/ (Ctrl-C ends it)")
        # Of uvicorn's parsers only h11 bounds the size of headers.
        config = uvicorn.Config(app, http="h11", log_level="warning", server_header=False, ws="none")
        uvicorn.Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port is {port}; it must lie between 0 and {(1 << 16) - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # at once: a second server would not be refused before its runs are loaded
    except (OSError, UnicodeError) as error:  # the latter of what can be no host name, such as two dots in a row
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{host}:{port} cannot be listened on ({reason}); give another --host or --port") from error
    return listening


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _in_url(address: str) -> str:
    """An address as it stands in a URL; that of all interfaces is this machine's own."""
    found = ipaddress.ip_address(address)
    if found.is_unspecified:
        return "127.0.0.1" if found.version == 4 else "[::1]"
    return address if found.version == 4 else f"[{address}]"
