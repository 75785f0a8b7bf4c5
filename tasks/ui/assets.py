"""Assets in Prefect: the registered champion, and the teacher from which the champion learned.

Prefect Cloud has pages for assets. The UI of a Prefect server shows assets as events.
"""

import re
from collections.abc import Mapping, Sequence

from prefect.assets import Asset, AssetProperties, materialize
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.references import TeacherReference, VerdictReference
from tasks.ui.links import flow_run_url
from tasks.ui.summaries import accuracy

TOOL = "kdflow"
MAX_DESCRIPTION = 2_500  # characters that Prefect allows


def publish_teacher(teacher: TeacherReference, experiment: str) -> None:
    """Publish the run of a newly trained teacher as an asset in Prefect. If the teacher was reused, do nothing."""
    if teacher.reused or flow_run_url() is None:
        return
    properties = AssetProperties(
        name=f"teacher of {experiment}", url=tracking.run_url(teacher.run_id), description=accuracy(teacher.metrics)
    )
    _materialize(Asset(key=_teacher_key(teacher.run_id), properties=properties), [], teacher.metrics)


def publish_champion(verdict: VerdictReference, teacher_run_id: str | None) -> None:
    """Publish the model version of a promoted student as an asset in Prefect. If no student was promoted, do nothing.

    The asset depends on the asset of the teacher.
    """
    if not verdict.promoted or verdict.dry_run or verdict.version is None or flow_run_url() is None:
        return
    properties = AssetProperties(
        name=f"{verdict.model}/{verdict.version}",
        url=tracking.version_url(verdict.model, verdict.version),
        description=verdict.reason[:MAX_DESCRIPTION],
    )
    # Prefect allows no spaces in a key.
    key = f"mlflow://models/{re.sub('[^A-Za-z0-9._=+-]', '-', verdict.model)}/versions/{verdict.version}"
    sources = [_teacher_key(teacher_run_id)] if teacher_run_id else []
    _materialize(Asset(key=key, properties=properties), sources, {"variant": verdict.winner, **verdict.test_accuracy})


def _teacher_key(run_id: str) -> str:
    return f"mlflow://runs/{run_id}"


def _materialize(asset: Asset, sources: Sequence[str], metadata: Mapping[str, object]) -> None:
    """Run a task that materializes an asset. The task is defined here, because the asset's key depends on the run."""

    @materialize(asset, by=TOOL, asset_deps=list(sources), cache_policy=NO_CACHE)
    def publish_asset() -> None:
        asset.add_metadata(dict(metadata))

    publish_asset()
