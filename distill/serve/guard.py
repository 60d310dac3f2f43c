"""Accepts requests only from this server's own page or from programs on this machine.

A page of another site can make a browser send requests to 127.0.0.1, and with a name that it points there (DNS
rebinding) even read the answers. Both are told by headers that such a page cannot change.
"""

import ipaddress
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Middleware that refuses foreign requests with one line, and adds the headers that keep a browser strict.

    Args:
        app: The application.
        names: Host names of this server beside localhost; addresses in numbers are always allowed.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it; see ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        fault = self._fault(headers, opened=scope["path"] == "/" and headers.get("sec-fetch-dest") == "document")
        if fault is None:
            return await self._app(scope, receive, strict)
        body = json.dumps({"error": fault}).encode()
        start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]}
        await strict(start)
        await send({"type": "http.response.body", "body": body})

    def _fault(self, headers: Headers, opened: bool) -> str | None:
        """What is wrong with the headers of a request; `opened` is the page itself, to which others may have a link."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return f"this server does not answer for the host {host[:100]!r}; open it by its address in numbers"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"requests from {origin[:100]!r} are refused; open this server's own page"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not opened:
            return "requests from other sites are refused; open this server's own page"
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:  # brackets that do not match
            return False
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True
