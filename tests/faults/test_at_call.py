"""Every function at whose call a fault test interrupts `kd` exists."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

CALL = re.compile(r'"((?:tasks|flows|kd|kdmodels|mlflow|asyncio)[\w.]*:[\w.]+)"')
CALLS = sorted({call for file in Path(__file__).parent.glob("test_*.py") for call in CALL.findall(file.read_text())})


@pytest.mark.parametrize("call", CALLS)
def test_the_function_exists(call: str) -> None:
    """Without this check, a renamed function would fail only in the slow fault tests."""
    module, _, path = call.partition(":")
    assert callable(reduce(getattr, path.split("."), importlib.import_module(module)))
