"""The version of the code that computes results: part of every content key."""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
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
    """A digest of that code, or of those parts of it: unchanged by comments, docstrings and layout."""
    content = sha256()
    for name in names or COMPUTES:
        root = HERE / name
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            content.update(f"{file.relative_to(HERE).as_posix()}\n{_bare(file.read_text())}".encode())
    return content.hexdigest()[:16]


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
