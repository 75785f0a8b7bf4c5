"""Options and arguments that several commands share."""

import re
from pathlib import Path
from typing import Annotated

import typer

from flows.experiments import shipped


def complete_experiment(incomplete: str) -> list[str]:
    """Return the shipped experiments whose name starts with `incomplete`."""
    return [name for name in shipped() if name.startswith(incomplete)]


def parse_age(age: str) -> int | None:
    """Convert an age, such as 30d, to seconds. If the text is not one of `AGES`, return `None`.

    >>> parse_age("30d"), parse_age("30")
    (2592000, None)
    """
    match = re.fullmatch("([0-9]{1,5})([hdw])", age)
    return int(match[1]) * {"h": 3600, "d": 86_400, "w": 7 * 86_400}[match[2]] if match else None


AGES = "0 to 99999 hours (h), days (d) or weeks (w)"
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Details = Annotated[bool, typer.Option("--details", help="Also print intervals and tests over examples and all costs.")]
DataDir = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, resolve_path=True, help="Folder of the data files. Default: $KD_DATA."),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Module or file.py. Stored networks and data sources may run its code."),
]
RUN_HELP = "A run's id, a unique prefix of the id, or the run's name, e.g. kd or digits/kd."
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help=RUN_HELP)]
Login = Annotated[
    bool, typer.Option("--login", help="Require a password for MLflow. Use it on a machine that other people share.")
]
ExperimentName = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPERIMENT|FILE",
        help="A shipped experiment, such as digits, or a file.",
        autocompletion=complete_experiment,
    ),
]
