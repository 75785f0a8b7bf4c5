"""`kd export`: a model as a file."""

import json

from tests.conftest import Here
from tests.kd.conftest import Done


def test_a_model_is_exported_to_a_new_file_only(here: Here, second_run: Done) -> None:
    code, out, error = here("export", "small-student", "--pt2")
    assert code == 0, error
    assert out.splitlines()[0].startswith("wrote small-student-1.pt2, ")
    assert "same class for 100.00 %" in out
    code, out, error = here("export", "small-student", "--pt2")
    assert (code, out) == (2, "")
    assert error.startswith("kd: error: small-student-1.pt2: ")
    assert error.count("\n") == 1


def test_a_run_is_exported_with_a_report_in_json(here: Here, second_run: Done) -> None:
    (run_id,) = [row["run_id"] for row in json.loads(second_run.stdout)["students"] if row["variant"] == "kd"]
    code, out, error = here("export", run_id, "--pt2", "-o", "kd.pt2", "--json")
    assert code == 0, error
    report = json.loads(out)
    assert (report["format"], report["file"], report["agreement"]) == ("pt2", "kd.pt2", 1.0)


def test_an_unknown_model_gives_exit_code_2(here: Here) -> None:
    assert here("export", "small-studnt", "--onnx")[0] == 2
