"""A function that keeps Prefect's logs off the terminal. This module does not import Prefect."""

import logging
import os

from flows.services.prefect_internals.client import refresh_logging


def silence_prefect() -> None:
    """Keep Prefect's logs off the terminal, unless --debug or PREFECT_LOGGING_LEVEL is set.

    If a flow fails, the command reports the error in one line.
    """
    if os.environ.get("KD_DEBUG") or "PREFECT_LOGGING_LEVEL" in os.environ:
        return
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # hides reports of unsent events
    logging.raiseExceptions = False  # hides reports of unsent logs
    refresh_logging()
