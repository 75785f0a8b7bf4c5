"""Redaction: no spelling of an address reveals its secrets."""

from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.redaction import redacted, shown_address

CANARY = "c4n4ryS3CRET"
FORMS = [
    f"http://ann:{CANARY}@ml.example:5000",
    f"https://ann:{CANARY}@ml.example/path",
    f"http://{CANARY}@ml.example",
    f"http://:{CANARY}@ml.example",
    f"http://ann:{CANARY}@[::1]:5000/x",
    f"postgresql://ann:{CANARY}@db.example:5432/mlflow",
    f"postgresql+psycopg2://ann:p@{CANARY}@db.example/mlflow",
    f"postgresql://db.example/mlflow?user=ann&password={CANARY}",
    f"mysql://ann:p%40{CANARY}@db.example/x",
    f"mysql+pymysql://db.example/x?ssl_key={CANARY}",
    f"https://ml.example/?token={CANARY}",
    f"https://ml.example/x?a=b;access_key={CANARY}",
    f"https://bucket.s3.example/x?X-Amz-Signature={CANARY}&x=1",
    f"https://account.blob.example/c?sv=1&sig={CANARY}",
]
"""Forms that earlier versions already hid."""
NEW = [
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC+Driver+18%7D%3BUID%3Dsa%3BPWD%3D{CANARY}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER={{ODBC Driver 18}};UID=sa;PWD={CANARY}",
    f"mssql+pyodbc:///?odbc_connect=UID%3Dsa%3BPWD%3D%7Ba b {CANARY}%7D",
    f"http://ann:my {CANARY} word@ml.example:5000",
    f"postgresql://ann:{CANARY} x@db.example/mlflow",
    f"ann:{CANARY}@ml.example",
    f"ann:{CANARY}@ml.example:5000/x",
    f"http:ann:{CANARY}@ml.example",
    f"https:/ann:{CANARY}@ml.example",
    f"http://ml.example/x#{CANARY}",
    f"http://ml.example/x#token={CANARY}",
    f"postgresql://ann:pa?{CANARY}@db.example/x",
    f"postgresql://ann:pa/{CANARY}@db.example/x",
    f"postgresql://ann:pa#{CANARY}@db.example/x",
    f"postgresql://ann:p@ss/{CANARY}@db.example/x",
    f"https://ml.example/a?b?token={CANARY}",
    f"sqlite:////tmp/x.db?key={CANARY}",
    f"postgresql://db.example/x?password=p@{CANARY}",
]


@pytest.mark.parametrize("address", [*FORMS, *NEW])
def test_an_address_is_shown_without_its_secret(address: str) -> None:
    assert CANARY not in shown_address(address)


@pytest.mark.parametrize("address", FORMS)
def test_a_text_is_shown_without_the_secrets_in_its_addresses(address: str) -> None:
    for text in (address, f"no answer from {address}", f"tracking store '{address}' can't be used", f"({address}),"):
        assert CANARY not in redacted(text)


@pytest.mark.parametrize("address", [*FORMS, *NEW])
@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_secrets_in_the_environment_are_hidden_in_every_encoding(
    address: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries decode an address, encode it again, or show parts of it."""
    monkeypatch.setenv(name, address)
    rest = address.partition("://")[2]
    for text in (address, unquote(address), quote(address), quote_plus(address), rest, repr(address)):
        assert CANARY not in redacted(f"driver: could not connect: {text} failed")
        assert CANARY not in redacted(text)


def test_a_decoded_parameter_in_a_drivers_message_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mssql+pyodbc:///?odbc_connect=UID%3Dsa%3BPWD%3D" + CANARY)
    for text in (f"login failed with {CANARY!r}", f"UID=sa;PWD={CANARY};", f"PWD={{{CANARY} x}}"):
        assert CANARY not in redacted(text)


def test_a_password_that_a_driver_takes_for_the_host_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ann:p@{CANARY}@db.example/mlflow")
    assert CANARY not in redacted(f'could not translate host name "{CANARY}@db.example" to address')


def test_secrets_in_other_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, f"{CANARY} {name}")
        assert redacted(f"bad: {CANARY} {name}.") == "bad: ***."
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", f"ann:{CANARY}")
    assert redacted(f"bad: {CANARY}") == "bad: ***"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////tmp/mlflow.db",
        "PREFECT_API_URL: 'x' is not the address of a server; allowed: http://HOST:PORT/api",
        "no answer at http://127.0.0.1:4200/api, which the profile names",
        "model 'models:/digits@champion' is not in the registry. Did you mean models:/mnist@champion?",
        "--set student.epochs: allowed: key=value, such as student.epochs=5",
        "mine.yaml:3: student.epochs: expected a positive integer, got -1",
        "/data/user@host/images: no such folder",
        'File "/x/y.py", line 3, in f\n    @decorator\n    http://127.0.0.1:80/x. Then @other',
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert redacted(text) == text


def test_the_host_is_shown_only_when_it_is_certain() -> None:
    assert shown_address(FORMS[0]) == "http://ml.example:5000"
    assert shown_address(FORMS[4]) == "http://[::1]:5000"
    assert shown_address(FORMS[5]) == "postgresql://db.example:5432"
    assert shown_address("http://ml.example") == "http://ml.example"
    assert shown_address("/a/plain/path") == "/a/plain/path"


@given(st.text(alphabet="abc@:/?#=&; '%{}[]", max_size=40))
def test_any_login_is_hidden(password: str) -> None:
    address = f"postgresql://ann:{CANARY}{password}@db.example/x"
    assert CANARY not in shown_address(address)
    assert CANARY not in redacted(address)


@pytest.mark.parametrize("piece", ["?key", "://", "://a:", "a:@", "@", " http://x:y", "'", "pass", "=", "?", "a:b"])
def test_redaction_takes_linear_time(piece: str) -> None:
    """In quadratic time, this test would take over a day."""
    assert len(redacted(piece * 300_000)) <= 3 * len(piece * 300_000)
