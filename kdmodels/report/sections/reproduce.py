"""The last section: how to reproduce the comparison."""

import shlex

from kdmodels.report.components import Cell, Code, Column, Component, Section, Table
from kdmodels.report.contents import Contents


def experiment_file(contents: Contents) -> str:
    """Return the name of the experiment file, quoted for the shell."""
    return shlex.quote(f"{contents.experiment}.yaml")


def reproduce_section(contents: Contents) -> Section:
    """Return the section with the commands, the versions and the experiment file."""
    file = experiment_file(contents)
    commands = f"kd show {contents.run_id[:8]} --spec > {file}\nkd run {file}"
    components: list[Component] = []
    if contents.spec:
        components.append(Code("On a machine with the store, these commands run the comparison again:", commands))
        components.append(
            Code(f"The experiment file. With kdflow and the data: kd run {file}", contents.spec, folded=True)
        )
    facts = {"comparison": contents.run_id, "started": contents.started, **contents.versions}
    rows = [[Cell(fact, mark=True), Cell(value)] for fact, value in facts.items()]
    components.append(Table("Run and versions", [Column("fact"), Column("value")], rows))
    return Section("reproduce", "Reproduce", components)
