"""How a comparison is reproduced."""

from kdmodels.report.components import Code, Table
from kdmodels.report.sections.reproduce import reproduce_section
from tests.support.reports import column, contents


def test_commands_file_and_versions_are_shown() -> None:
    section = reproduce_section(contents(spec="name: small\n", versions={"torch": "2.15.0"}))
    commands, file, facts = section.components
    assert isinstance(commands, Code)
    assert commands.text == "kd show 01234567 --spec > small.yaml\nkd run small.yaml"
    assert isinstance(file, Code)
    assert (file.text, file.folded) == ("name: small\n", True)
    assert file.title.endswith("kd run small.yaml")
    assert isinstance(facts, Table)
    shown = dict(zip(column(facts, "fact"), column(facts, "value"), strict=True))
    assert shown == {"comparison": "0123456789abcdef", "started": "2026-01-02T03:04:05+00:00", "torch": "2.15.0"}


def test_the_name_of_the_file_is_quoted_for_the_shell() -> None:
    commands = reproduce_section(contents(experiment="my $(rm) data", spec="x")).components[0]
    assert isinstance(commands, Code)
    assert commands.text.endswith("kd run 'my $(rm) data.yaml'")
