"""Contracts with the private parts of MLflow's server. tests/flows/services/test_mlflow_access.py starts servers."""

import inspect
from importlib.metadata import entry_points

import pytest
from mlflow.server import auth, handlers
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository


def test_mlflow_finds_the_applications() -> None:
    names = {point.name: point.value for point in entry_points(group="mlflow.app")}
    assert names["kdflow"] == "tasks.tracking.mlflow_app:create_app"
    assert names["kdflow-login"] == "tasks.tracking.mlflow_app:create_app_with_login"
    assert names["kdflow-team"] == "tasks.tracking.mlflow_app:create_app_for_team"


def test_the_registry_of_artifact_stores_can_be_listed_and_replaced() -> None:
    registry = artifact_repository_registry._artifact_repository_registry
    schemes = set(registry.get_registered_artifact_repositories())
    assert {"", "file", "mlflow-artifacts", "runs", "models"} <= schemes, "MLflow registers artifact stores elsewhere"
    assert list(inspect.signature(registry.register).parameters) == ["scheme", "repository"]


@pytest.mark.parametrize(
    "name",
    ["catch_mlflow_exception", "_get_normalized_request_json", "_get_tracking_store", "_get_model_registry_store"],
)
def test_a_handler_that_is_used_is_still_there(name: str) -> None:
    assert callable(getattr(handlers, name, None)), f"mlflow.server.handlers has no {name} any more"


@pytest.mark.parametrize("name", ["create_app", "auth_config", "store"])
def test_a_part_of_the_login_that_is_used_is_still_there(name: str) -> None:
    assert hasattr(auth, name), f"mlflow.server.auth has no {name} any more"


@pytest.mark.parametrize("name", ["has_user", "create_user", "authenticate_user", "update_user"])
def test_a_method_of_the_user_store_that_is_used_is_still_there(name: str) -> None:
    assert callable(getattr(auth.store, name, None)), f"mlflow.server.auth.store has no {name} any more"


def test_a_local_artifact_store_has_the_folder_that_is_checked() -> None:
    assert list(inspect.signature(LocalArtifactRepository.__init__).parameters)[1:] == [
        "artifact_uri",
        "tracking_uri",
        "registry_uri",
    ]
    assert isinstance(LocalArtifactRepository.artifact_dir, property), "MLflow checks artifacts in another attribute"
