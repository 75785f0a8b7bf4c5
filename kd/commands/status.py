"""The command `kd status`. It shows the services of `kd up`, and the schedules with their last results."""

from flows.services.status import MachineStatus, ScheduleStatus, machine_status
from kd import console
from kd.exit_codes import DONE, ERROR
from kd.options import Json


def command(as_json: Json = False) -> int:
    """Show the services of `kd up`, the schedules and their results."""
    status = machine_status()
    if as_json:
        console.print_json(status.model_dump())
    else:
        _print(status)
    return DONE if status.running else ERROR


def _print(status: MachineStatus) -> None:
    if status.running:
        console.print_entry("kd up", f"runs since {console.local_time(status.started)}, process {status.pid}")
    elif status.busy:
        console.print_entry("kd up", "is starting or stopping")
    else:
        console.print_entry("kd up", "does not run. Start it with kd up --detach")
    console.print_entry("logs", status.logs)
    if status.services:
        services = [service.model_dump() for service in status.services]
        console.print_table(services, {"name": "service", "address": "address", "pid": "process", "answers": "answers"})
    if status.schedules:
        columns = {key: key for key in ("schedule", "when", "next run", "last run", "state", "champion", "file")}
        console.print_table([_row(schedule) for schedule in status.schedules], columns, optional=("file", "champion"))
    for schedule in status.schedules:
        console.print_text(*_results(schedule, with_verdict=status.store_error is None))
    if status.store_error:
        console.print_text(f"no verdicts and champions: {status.store_error}")


def _row(schedule: ScheduleStatus) -> dict[str, object]:
    last = schedule.last_run
    return {
        "schedule": schedule.name,
        "when": schedule.when,
        "next run": console.local_time(schedule.next_run) if schedule.active else "paused",
        "last run": console.local_time(last.started) if last else None,
        "state": last.state if last else None,
        "champion": schedule.champion,
        "file": schedule.file_state,
    }


def _results(schedule: ScheduleStatus, *, with_verdict: bool) -> list[str]:
    """Return lines with the message of a schedule's last run and with the last verdict.

    The verdict has no line of its own if the message contains it.
    """
    message = schedule.last_run.message if schedule.last_run else None
    lines = [f"{schedule.name}: last run: {message}"] if message else []
    if with_verdict and (not message or (schedule.verdict or "") not in message):
        lines.append(f"{schedule.name}: last verdict: {schedule.verdict or 'none yet'}")
    return lines
