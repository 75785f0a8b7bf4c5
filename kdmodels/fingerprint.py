"""The version of the code that computes results: part of every content key."""

import ast
import json
import sys
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from kdmodels.durable import write_whole
from kdmodels.folders import cache_folder, private_folder

HERE = Path(__file__).parent
DIGITS = 16
# All that can move a trained weight or a figure of accuracy is in these; costs, reports and the gate can't.
COMPUTES = (
    "architectures.py",
    "catalogue.py",
    "data",
    "losses",
    "networks",
    "training",
    "evaluation.py",
    "knowledge.py",
    "randomness.py",
)


@cache
def code_fingerprint(*names: str) -> str:
    """A digest of that code, or of those parts of it: unchanged by comments, docstrings and layout.

    To read code takes a third of a second; so the digest of the same bytes is remembered in the user's cache folder.
    """
    places = [HERE / name for name in names or COMPUTES]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    sources = {file.relative_to(HERE).as_posix(): file.read_text() for file in files}
    this = [sys.version, Path(__file__).read_text(), sources]
    remembered = cache_folder() / "code" / sha256(json.dumps(this).encode()).hexdigest()[:32]
    with suppress(OSError):
        private_folder(remembered.parent)
        known = remembered.read_text()
        if len(known) == DIGITS:  # two that write it at once may leave it empty
            return known
    content = sha256("".join(f"{name}\n{_bare(source)}" for name, source in sources.items()).encode())
    digest = content.hexdigest()[:DIGITS]
    with suppress(OSError):  # where it can't be kept it is found again
        write_whole(remembered, lambda path: path.write_text(digest))
    return digest


def _bare(source: str) -> str:
    """The code without comments, docstrings and layout.

    >>> _bare("def f(x):\\n    'Doc.'\\n    return (x)  # why") == _bare("def f(x): return x")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
