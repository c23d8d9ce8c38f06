"""Who may ask: this machine's own pages, by the server's own names; and what answers carry."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Nothing but what this server sends is loaded, and no other page may show or read it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": forms would then be sent with an Origin of "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses requests by other names (DNS rebinding) or from other pages, before all else."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        status, reason = self._fault(Headers(scope=scope), scope["method"])
        if status:
            refusal = PlainTextResponse(reason + "\n", status)
            await refusal(scope, receive, sending)
            return
        await self.app(scope, receive, sending)

    def _fault(self, headers: Headers, method: str) -> tuple[int, str]:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 421, "This server answers only to its own address."
        origins = headers.getlist("origin")
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return 403, "Requests from other pages are refused."
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        visit = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
        if foreign and not (visit and headers.get("sec-fetch-dest") == "document"):
            return 403, "Requests from other pages are refused."
        return 0, ""
