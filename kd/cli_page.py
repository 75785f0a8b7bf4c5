"""The text of the page docs/cli.md, which lists every command with its arguments and options."""

from importlib import import_module

import typer
from typer.core import TyperArgument

from kd.main import COMMANDS

INTRODUCTION = """\
# Commands

Made by `make docs` from the modules in `kd/commands`; a test keeps it so.

`kd --help` lists the commands, `kd COMMAND --help` the options of one. `kd --debug COMMAND` shows tracebacks and logs,
and `kd --version` the version. `kd --install-completion` lets the shell complete commands, options and names.
Results go to stdout, everything else to stderr. [Exit codes](exit-codes.md) and [JSON output](json.md) have their own
pages.

| command | what it does |
|---|---|
"""


def document() -> str:
    """Return the text of the page docs/cli.md."""
    rows = [f"| [`kd {name}`](#kd-{name}) | {summary} |\n" for name, summary in COMMANDS.items()]
    return INTRODUCTION + "".join([*rows, *map(_section, COMMANDS)])


def _section(name: str) -> str:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(import_module(f"kd.commands.{name}").command)
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name=name)
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    options = [each.get_help_record(context) for each in command.params if each.param_type_name == "option"]
    usage = " ".join(["kd", name, *(["[OPTIONS]"] if options else []), *map(_usage, arguments)])
    lines = ["", f"## kd {name}", "", str(command.help), "", f"Usage: `{usage}`", ""]
    if command.params:
        rows = [(str(each.metavar), str(each.help)) for each in arguments] + [row for row in options if row]
        lines += ["| argument or option | meaning |", "|---|---|", *map(_row, rows), ""]
    return "\n".join(lines)


def _usage(argument: TyperArgument) -> str:
    metavar = str(argument.metavar)
    return metavar if argument.required or metavar.startswith("[") else f"[{metavar}]"


def _row(cells: tuple[str, str]) -> str:
    name, meaning = (cell.replace("|", "\\|") for cell in cells)
    return f"| `{name}` | {' '.join(meaning.split())} |"


if __name__ == "__main__":
    print(document(), end="")
