"""The JSON schemas of the documents that `--json` prints, as files in docs/schemas."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from flows.services.doctor import Check
from flows.services.status import MachineStatus
from kdmodels.evaluation.significance import Evidence
from kdmodels.papers.claims import ReproductionResult
from tasks.cleanup.delete import Deletion
from tasks.cleanup.gc import Collected
from tasks.export_model import ExportReport
from tasks.listings import (
    ComparisonDetails,
    ExperimentLine,
    ReproductionLine,
    RunDetails,
    RunLine,
    StudentDetails,
    TeacherDetails,
    TuningDetails,
)
from tasks.model_history import History
from tasks.references import GeneratorOutcome, GeneratorPlan, Outcome, Plan, StudentReference, VerdictReference
from tasks.register_teacher import TeacherVersion
from tasks.side_by_side import SideBySide


class Variants(BaseModel):
    """The presets and their losses, as `kd variants` prints them."""

    variants: list[dict[str, str | list[str]]]
    losses: list[dict[str, str]]


COMPARED_STUDENT = create_model("ComparedStudent", __base__=(StudentReference, Evidence), pareto=(bool, ...))
DOCUMENTS: dict[str, object] = {  # name of the file -> type of the document
    "run": Outcome,
    "run-dry-run": Plan,
    "run-generator": GeneratorOutcome,
    "run-generator-dry-run": GeneratorPlan,
    "reproduce": ReproductionResult,
    "reproduce-list": list[ReproductionLine],
    "teacher": TeacherVersion,
    "list": list[RunLine],
    "list-experiments": list[ExperimentLine],
    "compare": list[COMPARED_STUDENT] | SideBySide,  # type: ignore[valid-type]
    "show": StudentDetails | TeacherDetails | ComparisonDetails | TuningDetails | RunDetails,
    "history": History,
    "promote": VerdictReference,
    "export": ExportReport,
    "variants": Variants,
    "status": MachineStatus,
    "doctor": list[Check],
    "delete": create_model("DeletionDocument", __base__=Deletion, dry_run=(bool, ...)),
    "gc": create_model("CollectedDocument", __base__=Collected, dry_run=(bool, ...)),
}


class Generator(GenerateJsonSchema):
    """A generator of JSON schemas in which every number may be null, because NaN and infinite numbers become null."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Return the schema of a number. Pydantic calls this method."""
        return {**super().float_schema(schema), "type": ["number", "null"]}


def schemas() -> dict[str, str]:
    """Return the text of each file in docs/schemas, by the name of the file."""
    return {f"{name}.json": _text(document) for name, document in DOCUMENTS.items()}


def _text(document: Any) -> str:
    schema = TypeAdapter(document).json_schema(mode="serialization", schema_generator=Generator)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in schemas().items():
        (Path(sys.argv[1]) / name).write_text(text)
