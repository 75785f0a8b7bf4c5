"""The names of flow runs in Prefect's UI, e.g. `digits 2026-11-28 03:00`. The time is the local time of this machine.

Prefect calls these functions before the flow starts. They read the parameters of the flow run from Prefect's context.
"""

from prefect.runtime import flow_run


def experiment_run() -> str:
    """Return the name of a run of `distill` or `generate`: the experiment and the time."""
    return f"{flow_run.parameters['experiment'].name} {_start()}"


def teacher_run() -> str:
    """Return the name of a run of `teacher`: the experiment and the time."""
    return f"teacher {flow_run.parameters['experiment'].name} {_start()}"


def register_run() -> str:
    """Return the name of a run of `register`: the registered model and the time."""
    return f"register {flow_run.parameters['model']} {_start()}"


def promote_run() -> str:
    """Return the name of a run of `promote`: the run to promote and the time."""
    return f"promote {flow_run.parameters.get('run') or 'the latest winner'} {_start()}"


def review_run() -> str:
    """Return the name of a run of `approve` or `reject`: the flow, the model and the time."""
    return f"{flow_run.flow_name} {flow_run.parameters['model']} {_start()}"


def reproduce_run() -> str:
    """Return the name of a run of `reproduce`: the reproduction and the time."""
    return f"reproduce {flow_run.parameters['name']} {_start()}"


def rollback_run() -> str:
    """Return the name of a run of `rollback`: the model, the version if it was given, and the time."""
    model, version = flow_run.parameters["model"], flow_run.parameters.get("to")
    return f"rollback {model}{f'/{version}' if version else ''} {_start()}"


def _start() -> str:
    """Return the time for which the flow run was scheduled, or the time of the call if a command called the flow."""
    return f"{flow_run.scheduled_start_time.astimezone():%Y-%m-%d %H:%M}"
