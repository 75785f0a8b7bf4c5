"""Functions for a model version that waits until a person approves or rejects its promotion.

The alias `pending` marks the waiting version. At most one version of a model waits.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from mlflow import MlflowClient

from kdmodels.errors import UserError
from tasks.tracking.registry import Version, aliased, champion, find_model, set_champion, versions
from tasks.tracking.tags import Tag

PENDING = "pending"
Decision = Literal["approved", "rejected"]


def pending(model: str) -> Version | None:
    """Return the version that waits for a review. If there is no model or no waiting version, return None."""
    return aliased(model, PENDING)


def propose(version: Version) -> None:
    """Mark a version as waiting for a review. If another version was waiting, it no longer waits."""
    client = MlflowClient()
    client.set_model_version_tag(version.model, str(version.version), Tag.OPPONENT, _number(champion(version.model)))
    client.set_registered_model_alias(version.model, PENDING, str(version.version))


def require_pending(model: str, decision: Decision) -> Version:
    """Return the version of a model that waits for a review.

    Raises:
        UserError: No version of the model waits, or the decision is an approval and the champion has changed since the
            waiting version was compared with it.
    """
    version = pending(model)
    if version is None:
        versions(model)  # raises an error if the model does not exist
        raise UserError(f"model {model!r}: no version waits for a review")
    compared, current = version.tags.get(Tag.OPPONENT), _number(champion(model))
    if decision == "approved" and current not in (compared, str(version.version)):
        raise UserError(
            f"model {model!r}: version {version.version} was compared with champion {compared}, but the champion is "
            f"now {current}. Allowed: kd promote {version.run_id}, or kd reject {model}"
        )
    return version


def record_review(version: Version, decision: Decision, *, by: str, reason: str, now: datetime) -> Version:
    """Record a review in the tags of a waiting version, carry out the decision, and return the version.

    If a call was interrupted, it can be repeated.
    """
    tags: Mapping[Tag, str] = {
        Tag.REVIEW: decision,
        Tag.REVIEWED_BY: by,
        Tag.REVIEWED_AT: now.isoformat(timespec="seconds"),
        Tag.REVIEW_REASON: reason,
    }
    client = MlflowClient()
    for tag, text in tags.items():
        client.set_model_version_tag(version.model, str(version.version), tag, text)
    if decision == "approved":
        set_champion(version)
    client.delete_registered_model_alias(version.model, PENDING)
    return find_model(version.uri)


def _number(version: Version | None) -> str:
    return str(version.version) if version else "none"
