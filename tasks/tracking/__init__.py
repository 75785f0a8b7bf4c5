"""The ledger: all that this project records in MLflow and reads back. Nothing else imports mlflow, which takes 2 s."""

from tasks.tracking import environment as environment
from tasks.tracking.alive import is_gone, machine_folder
from tasks.tracking.artifacts import (
    artifact,
    has_artifact,
    log_folder,
    log_json,
    log_table,
    log_text,
    read_json,
    sync_artifacts,
)
from tasks.tracking.lifecycle import (
    abandoned,
    end,
    end_abandoned,
    kill_running,
    log_dataset,
    log_metrics,
    recording,
    set_tags,
    start,
)
from tasks.tracking.lookup import WARNING, Run, children, find, finished, get, running, runs
from tasks.tracking.models import load_predictor, log_model, prepare_models
from tasks.tracking.outages import is_mute, outage
from tasks.tracking.registry import (
    Version,
    champion,
    crown,
    find_model,
    is_rolled_back,
    register,
    rollback,
    versions,
)
from tasks.tracking.store import configure, experiment_id, redacted

__all__ = [
    "WARNING",
    "Run",
    "Version",
    "abandoned",
    "artifact",
    "champion",
    "children",
    "configure",
    "crown",
    "end",
    "end_abandoned",
    "experiment_id",
    "find",
    "find_model",
    "finished",
    "get",
    "has_artifact",
    "is_gone",
    "is_mute",
    "is_rolled_back",
    "kill_running",
    "load_predictor",
    "log_dataset",
    "log_folder",
    "log_json",
    "log_metrics",
    "log_model",
    "log_table",
    "log_text",
    "machine_folder",
    "outage",
    "prepare_models",
    "read_json",
    "recording",
    "redacted",
    "register",
    "rollback",
    "running",
    "runs",
    "set_tags",
    "start",
    "sync_artifacts",
    "versions",
]
