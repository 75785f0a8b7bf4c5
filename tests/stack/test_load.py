"""Four clients at once, with eight students each: no error, no lost metric, no duplicate version."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
import yaml

from tests.stack.clients import Client
from tests.stack.load import STUDENTS, experiment, run_at_once, values_of

pytestmark = pytest.mark.stack
CLIENTS = 4


@pytest.fixture(scope="module")
def alone(ann: Client) -> dict[str, int]:
    """Return the number of values of each metric if no other client runs."""
    (ann.folder / "alone.yaml").write_text(yaml.safe_dump(experiment("alone", seed=9)))
    assert len(ann.outcome("run", "alone.yaml", "--quiet")["students"]) == STUDENTS
    return values_of(ann, "alone")


def test_four_clients_lose_nothing(new_member: Callable[[str], Client], alone: dict[str, int]) -> None:
    clients = [new_member(f"member{number}") for number in range(CLIENTS)]
    load = run_at_once(clients, "team")
    print(f"{CLIENTS * STUDENTS / load.seconds * 60:.0f} students a minute")
    for number, (client, students) in enumerate(zip(clients, load.students, strict=True)):
        assert [student["status"] for student in students] == ["FINISHED"] * STUDENTS
        assert values_of(client, f"team-{number}") == alone
        condition = quote(f"name = 'team-{number}-student'")
        assert len(client.ask_mlflow(f"/model-versions/search?filter={condition}").get("model_versions", [])) <= 1
