"""Functions that call undocumented APIs of Prefect's client.

This module does not import Prefect, so that a command can start the Prefect server before the slow import of Prefect.
If the process has not imported Prefect, these functions do nothing.
"""

import sys


def refresh_settings() -> None:
    """Read Prefect's settings from the environment again. Prefect reads its settings once, at import."""
    if context := sys.modules.get("prefect.context"):
        context.refresh_global_settings_context()


def refresh_logging() -> None:
    """Read the settings of Prefect's logs from the environment again. Prefect configures logging once, at import."""
    refresh_settings()
    if configuration := sys.modules.get("prefect.logging.configuration"):
        configuration.setup_logging()


def send_queued_logs_and_events(seconds: float) -> None:
    """Send the logs and events that background threads have queued for the server.

    Args:
        seconds: Timeout for each of the two queues.
    """
    for module, worker in (("prefect.logging.handlers", "APILogWorker"), ("prefect.events.worker", "EventsWorker")):
        if module in sys.modules:
            getattr(sys.modules[module], worker).drain_all(timeout=seconds)
