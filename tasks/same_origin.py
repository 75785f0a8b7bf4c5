"""A guard that protects servers on this machine against requests from foreign web pages."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def own_origins(port: int) -> list[str]:
    """Return the origins (scheme, host and port) of the pages that a server on this loopback port serves."""
    return [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


def same_origin_only(application: Application, *, json_below: str | None = None) -> Application:
    """Wrap an ASGI application on a loopback port so that it refuses requests that foreign web pages can send.

    The Host header of a request must name this server. If the request has an Origin header, its value must be an
    origin of this server.

    Args:
        application: The application to protect.
        json_below: Path prefix. If the path of a request has this prefix, the body of the request must have the type
            application/json. Browsers send such a body to another origin only if the server allows this origin.

    Returns:
        The wrapped application. It answers a refused request with status 403 or 415 and one line with the reason.
    """

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        reason_to_refuse = _refusal(scope, json_below) if scope["type"] in ("http", "websocket") else None
        if reason_to_refuse is None:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason_to_refuse[1]})
        else:
            status, reason = reason_to_refuse
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": reason.encode()})

    return guarded


def _refusal(scope: Message, json_below: str | None) -> tuple[int, str] | None:
    """Return the HTTP status and the reason of a refusal, or None if the request is accepted."""
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
