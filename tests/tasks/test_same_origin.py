"""The guard of local servers. test_prefect_server_access.py and test_mlflow_access.py test it on real servers."""

import asyncio

import httpx
import pytest

from tasks.same_origin import Message, Receive, Send, own_origins, same_origin_only

ORIGIN = "http://127.0.0.1:4200"


async def application(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def status(method: str = "GET", path: str = "/api/flows", body: str = "", **headers: str) -> int:
    async def send() -> int:
        transport = httpx.ASGITransport(same_origin_only(application, json_below="/api"))
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return (await client.request(method, path, content=body, headers=names)).status_code

    return asyncio.run(send())


def test_the_origins_of_a_port_are_its_loopback_names() -> None:
    assert own_origins(4200) == [ORIGIN, "http://localhost:4200", "http://[::1]:4200"]


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "LOCALHOST:4200", "[::1]:4200"])
def test_a_request_to_the_servers_own_host_passes(host: str) -> None:
    assert status(Host=host) == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:4200", ""])
def test_a_request_to_another_host_is_refused(host: str) -> None:
    assert status(Host=host) == 403


@pytest.mark.parametrize(("origin", "expected"), [(ORIGIN, 200), ("http://evil.example", 403), ("null", 403)])
def test_a_request_of_another_origin_is_refused(origin: str, expected: int) -> None:
    assert status(Origin=origin) == expected


@pytest.mark.parametrize(
    ("content_type", "path", "expected"),
    [
        ("application/json", "/api/flows", 200),
        ("application/json; charset=utf-8", "/api/flows", 200),
        ("text/plain", "/api/flows", 415),
        ("", "/api/flows", 415),
        ("text/plain", "/elsewhere", 200),
    ],
)
def test_below_the_prefix_a_body_must_be_json(content_type: str, path: str, expected: int) -> None:
    assert status("POST", path, "{}", Content_Type=content_type) == expected


def test_a_refused_websocket_is_closed_with_the_reason() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("a refused connection must not be read")

    headers = [(b"host", b"127.0.0.1:4200"), (b"origin", b"http://evil.example")]
    scope: Message = {"type": "websocket", "path": "/api", "server": ("127.0.0.1", 4200), "headers": headers}
    asyncio.run(same_origin_only(application)(scope, receive, send))
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]
    assert sent[0]["reason"].startswith("Origin: expected one of ")
