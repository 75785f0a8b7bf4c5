"""Which listeners count as a server. test_prefect_server.py checks refused passwords on a real server."""

import threading

import pytest

from flows.services.prefect_health import answers, refusal
from flows.services.prefect_server import bind


def test_a_server_that_answers_with_an_error_answers(answering: str) -> None:
    assert answers(answering)
    assert refusal(answering) is None


def test_a_listener_that_does_not_speak_http_does_not_answer() -> None:
    def speak() -> None:
        connection = listener.accept()[0]
        connection.recv(1000)
        connection.sendall(b"220 mail\r\n")
        connection.close()

    with bind(0) as listener:
        listener.listen()
        threading.Thread(target=speak, daemon=True).start()
        assert not answers(f"http://127.0.0.1:{listener.getsockname()[1]}/api")


@pytest.mark.parametrize("url", ["http://a..b/api", "http://[::1/api", "http://host:port/api"])
def test_a_malformed_address_does_not_answer(url: str) -> None:
    assert not answers(url)
    assert refusal(url) is None


def test_a_port_without_a_listener_does_not_answer() -> None:
    with bind(0) as unused:
        assert not answers(f"http://127.0.0.1:{unused.getsockname()[1]}/api")
