"""`kd compare`: tables, CSV, Markdown and JSON of a comparison."""

import json

from tests.conftest import Here
from tests.kd.conftest import Done


def test_a_comparison_is_printed_in_each_format(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    compared = json.loads(here("compare", parent, "--json")[1])
    assert sorted(row["variant"] for row in compared) == ["hard-labels", "kd"]
    assert True in [row["pareto"] for row in compared]
    assert [row["variant"] for row in compared if row["vs control"] is None] == ["hard-labels"]
    assert here("compare", parent, "--csv")[1].startswith("rank,variant,val/accuracy,")
    assert here("compare", parent, "--markdown")[1].startswith("| rank | variant |")
    assert "\nreused    all students\n" in here("compare", parent)[1]


def test_details_show_how_often_each_variant_is_the_best(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    lines = here("compare", parent, "--details")[1].splitlines()
    titles = next(number for number, line in enumerate(lines) if line.startswith("variant ") and "wins" in line)
    shares = [int(line.split()[-2]) for line in lines[titles + 1 : titles + 3]]
    assert sum(shares) in (99, 100, 101)  # each share is rounded


def test_two_comparisons_are_shown_side_by_side(here: Here, second_run: Done) -> None:
    parent = json.loads(second_run.stdout)["parent_run_id"]
    code, out, _ = here("compare", parent, parent)
    assert code == 0
    assert "files     the experiment files do not differ" in out
    assert "result    Both have the same run of " in out
    document = json.loads(here("compare", parent, parent, "--json")[1])
    assert (document["a"]["run_id"], document["comparable"], document["differences"]) == (parent, True, [])
    assert here("compare", parent, parent, "--csv")[1].startswith("rank,variant,")
