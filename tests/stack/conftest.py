"""Fixtures: one stack for all tests of this folder, and its clients. `make test-stack` runs the tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stack.clients import Client, new_client, new_user
from tests.stack.processes import Stack, started


@pytest.fixture(scope="session")
def stack(stack_folder: Callable[[], Path]) -> Iterator[Stack]:
    """Start the services of docker-compose.yml."""
    with started(stack_folder()) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Callable[[], Path]]:
    """Return a function that creates a folder for a stack.

    The folder is not one of pytest's. The user `postgres` must be able to enter its parents, but each new pytest makes
    the parent of all folders of pytest private again.
    """
    with ExitStack() as folders:
        yield lambda: Path(folders.enter_context(TemporaryDirectory(prefix="kdflow-stack-")))


@pytest.fixture(scope="session")
def admin(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The machine of the admin."""
    return new_client(stack, tmp_path_factory.mktemp("admin"), "admin", stack.settings["STACK_MLFLOW_ADMIN_PASSWORD"])


@pytest.fixture(scope="session")
def new_member(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Client]]:
    """Return a function that creates a user and returns the user's machine."""
    clients: list[Client] = []

    def new_member(name: str) -> Client:
        clients.append(new_user(stack, tmp_path_factory.mktemp(name), name))
        return clients[-1]

    yield new_member
    for client in clients:
        client.end()


@pytest.fixture(scope="session")
def ann(new_member: Callable[[str], Client]) -> Client:
    """The machine of a member of the team (docs/stack.md creates the user ann)."""
    client = new_member("ada")
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(client.folder / "grey.png")
    return client


@pytest.fixture(scope="session")
def digits(ann: Client) -> Any:
    """Return the outcome of the first `kd run digits` on the stack."""
    return ann.outcome("run", "digits", "--quiet")


@pytest.fixture(scope="session")
def project(stack: Stack) -> Path:
    """The folder that the worker sees as /project."""
    return stack.folder / "project"
