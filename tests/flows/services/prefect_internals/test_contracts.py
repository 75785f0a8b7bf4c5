"""Each undocumented Prefect or Alembic API that kdflow calls still exists, with the parameters that kdflow passes."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from prefect import context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.server.database.alembic_commands import alembic_config
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.utilities.callables import parameter_schema
from prefect.utilities.processutils import setup_signal_handlers_worker

CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (context.refresh_global_settings_context, (), {}, "client.py"),
    (APILogWorker.drain_all, (), {"timeout": 5.0}, "client.py"),
    (EventsWorker.drain_all, (), {"timeout": 5.0}, "client.py"),
    (provide_database_interface, (), {}, "database.py"),
    (alembic_config, (), {}, "database.py"),
    (AioSqliteConfiguration.is_inmemory, ("self",), {}, "database.py"),
    (AioSqliteConfiguration.setup_sqlite, ("self", "connection", "record"), {}, "database.py"),
    (ScriptDirectory.iterate_revisions, ("self", "head", "base"), {"implicit_base": True}, "database.py"),
    (MigrationStep.upgrade_from_script, ("revision_map", "script"), {}, "database.py"),
    (create_app, (), {"ephemeral": True, "final": True}, "serve_prefect.py"),
    (uvicorn.Server.startup, ("self",), {"sockets": []}, "serve_prefect.py"),
    (parameter_schema, ("flow",), {}, "schedules.py"),
    (setup_signal_handlers_worker, (1, "the worker", print), {}, "worker.py"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "arguments", "options", "module"), CALLS, ids=[call[0].__qualname__ for call in CALLS]
)
def test_prefect_still_takes_these_arguments(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any], module: str
) -> None:
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        pytest.fail(
            f"{function.__module__}.{function.__qualname__} has changed: {error}. Adapt flows/services/{module}."
        )


def test_prefects_database_still_has_its_migrations_and_tables() -> None:
    database = provide_database_interface()
    assert database.orm.versions_dir.is_dir(), (
        "Prefect no longer keeps its migrations in orm.versions_dir: adapt flows/services/prefect_internals/database.py"
    )
    assert database.Base.metadata.tables, (
        "Prefect no longer describes its tables in Base.metadata: adapt flows/services/prefect_internals/database.py"
    )
