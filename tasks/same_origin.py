"""A check that requests to a server on this machine come from its own address, not from a foreign web page."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def own_origins(port: int) -> list[str]:
    """Return the origins of the pages that a server on this loopback port serves."""
    return [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


def same_origin_only(application: Application, *, json_below: str | None = None) -> Application:
    """Wrap an ASGI application on a loopback port so that it refuses requests that a foreign web page can send.

    A request passes if its Host is the server's own, and its Origin too if it has one.

    Args:
        json_below: paths that start with this text accept bodies of the type application/json only. A web page cannot
            send that type to another origin without asking the server first.
    """

    def refusal(scope: Message) -> tuple[int, str] | None:
        origins = own_origins(scope["server"][1])
        hosts = [origin.removeprefix("http://") for origin in origins]
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").lower())
        if len(host := headers.get("host", [])) != 1 or host[0] not in hosts:
            return 403, f"Host: expected one of {', '.join(hosts)}"
        if any(origin not in origins for origin in headers.get("origin", [])):
            return 403, f"Origin: expected one of {', '.join(origins)}"
        if scope["type"] == "websocket" or scope["method"] in SAFE_METHODS:
            return None
        if json_below is None or not scope["path"].startswith(json_below):
            return None
        has_body = "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]
        types = headers.get("content-type", [""] if has_body else [])
        if any(value.partition(";")[0].strip() != "application/json" for value in types):
            return 415, "Content-Type: expected application/json"
        return None

    async def checked(scope: Message, receive: Receive, send: Send) -> None:
        refused = refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
        else:
            status, reason = refused
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": reason.encode()})

    return checked
