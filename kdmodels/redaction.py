"""Removal of secrets from messages. Only the scheme and the host of an address are shown."""

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 4  # characters; shorter secrets occur in ordinary text, so they are hidden only in addresses and parameters
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}")
_FILES = ("sqlite", "file")  # schemes without a host; the path is shown, because it holds no secret
# Suffixes of the names of environment variables. `_VARIABLES` hold secrets, and `_ADDRESSES` hold addresses.
_VARIABLES = ("PASSWORD", "TOKEN", "SECRET", "API_KEY", "ACCESS_KEY", "AUTH_STRING")
_ADDRESSES = ("_URI", "_URL", "_PROXY", "_proxy")
_WORDS = "pass|pwd|token|secret|credential"
_VALUE = r"(?:\{[^}\n]*\}|[^\s&;'\"]*)"
_PARAMETERS = re.compile(
    rf"(?i)((?:[?&;][\w-]{{0,40}}(?:{_WORDS}|key|sig)|(?:^|(?<=[\s'\"]))[\w-]{{0,40}}(?:{_WORDS}|odbc_connect))"
    rf"[\w-]{{0,40}}(?:=|%3D)){_VALUE}"
)
_LOGIN = re.compile(
    r"://[^\s/:@'\"]*:(?![0-9]{1,5}(?![^\s/?#'\",;.)\]]))"
)  # a user name and a colon that is not followed by a port
_EDGES = "'\"`()[]{}<>,;.:"


def shown_address(uri: str) -> str:
    """Return the scheme and the host of an address, or the path of a file, without anything that may be a secret.

    >>> shown_address("https://ann:secret@ml.example:5000/x?token=abc#def")
    'https://ml.example:5000'
    >>> shown_address("mssql+pyodbc:///?odbc_connect=DRIVER%3DODBC%3BPWD%3Dsecret")
    'mssql+pyodbc://***'
    >>> shown_address("ann:secret@ml.example")
    '***@ml.example'
    >>> shown_address("sqlite:////tmp/mlflow.db?key=secret")
    'sqlite:////tmp/mlflow.db'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        _, at, host = uri.rpartition("@")
        host = re.split("[/?#]", host, maxsplit=1)[0]
        if at:
            return f"{HIDDEN}@{host if _HOST.fullmatch(host) else HIDDEN}"
        return re.split("[?#]", uri, maxsplit=1)[0]
    if scheme.partition("+")[0] in _FILES and rest.startswith("/"):
        return f"{scheme}://{re.split('[?#]', rest, maxsplit=1)[0]}"
    authority, *beyond = re.split("[/?#]", rest, maxsplit=1)
    host = authority.rpartition("@")[2]
    # If there is a later @, the login itself may contain / ? or #. The host is then uncertain, and is hidden.
    if any("@" in part for part in beyond) or not _HOST.fullmatch(host):
        host = HIDDEN
    return f"{scheme}://{host}"


def redacted(text: str) -> str:
    """Remove secrets from a text: logins, secret parameters, and secrets from environment variables.

    >>> redacted("no answer from https://ann:secret@ml.example:5000/x")
    'no answer from https://ml.example:5000'
    >>> redacted("postgresql://ml.example/db?user=ann&password=secret: no such host")
    'postgresql://ml.example: no such host'
    >>> redacted("http://ann:a long secret@ml.example is down")
    'http://***@ml.example is down'
    >>> redacted("see https://ml.example/docs for models:/digits@champion in sqlite:////tmp/mlflow.db")
    'see https://ml.example/docs for models:/digits@champion in sqlite:////tmp/mlflow.db'
    """
    for secret, replacement in sorted(_secrets(), key=lambda pair: -len(pair[0])):
        text = text.replace(secret, replacement)
    return "\n".join(_redacted_line(line) for line in text.split("\n"))


def _redacted_line(line: str) -> str:
    line = "".join(_redacted_word(word) for word in re.split(r"(\s+)", line))
    at = line.rfind("@")
    if login := _LOGIN.search(line, 0, at + 1):  # a login that contains spaces
        line = f"{line[: login.start() + 3]}{HIDDEN}{line[at:]}"
    return _PARAMETERS.sub(rf"\1{HIDDEN}", line)


def _redacted_word(word: str) -> str:
    if "@" not in word and "://" not in word:
        return word
    start = len(word) - len(word.lstrip(_EDGES))
    end = max(start, len(word.rstrip(_EDGES)))
    before, core, after = word[:start], word[start:end], word[end:]
    if "://" in core:
        _, _, rest = core.partition("://")
        secret = any(character in rest for character in "@?#")
        return f"{before}{shown_address(core)}{after}" if secret else word
    login = core.rpartition("@")[0]
    return f"{before}{shown_address(core)}{after}" if ":" in login and not core.startswith("models:/") else word


def _secrets() -> Iterator[tuple[str, str]]:
    """Yield each secret in the environment variables and its replacement. A secret is yielded in several encodings."""
    for name, value in os.environ.items():
        secrets: list[str] = []
        if name.endswith(_VARIABLES):
            secrets = [value, *value.split(":", 1)[1:]]  # a password, or user:password
        elif name.endswith(_ADDRESSES) or ("://" in value and _SCHEME.fullmatch(value.partition("://")[0])):
            secrets = _secrets_of(value)
            if secrets:
                yield value, shown_address(value)
        for secret in secrets:
            for spelling in {secret, *(change(secret) for change in (unquote, unquote_plus, quote, quote_plus))}:
                if len(spelling) >= SHORTEST:
                    yield spelling, HIDDEN


def _secrets_of(uri: str) -> list[str]:
    """Return the parts of an address that may be secrets: the login, its password, the query and the fragment."""
    rest = uri.partition("://")[2] or uri
    login, at, _ = rest.rpartition("@")
    secrets = [login, login.partition(":")[2], login.rpartition(":")[2]] if at else []
    secrets += login.split("@")[1:]  # a driver may mistake the part after the first @ for the host, and show it
    if "@" in rest[len(re.split("[/?#]", rest, maxsplit=1)[0]) :]:  # it is uncertain where the login ends
        secrets += [rest, *rest.split("@")]
    _, mark, extra = rest.partition("?") if "?" in rest else rest.partition("#")
    if mark:
        secrets.append(extra)
        for part in re.split(r"[&;#]", f"{extra};{unquote_plus(extra)}"):
            name, _, value = part.rpartition("=")
            if re.search(rf"(?i){_WORDS}|key|sig|auth", name) or not name:
                secrets.append(value)
    return [secret for secret in secrets if secret]
