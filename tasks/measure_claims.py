"""measure_claims: test a paper's claims with our own results on the test split.

A reproduction reads the test split for all its students after their training. Its comparisons have the tag
`kd.reproduction`, and none of their students is ever promoted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.torch import load_file
from torch import nn

from kdmodels.data import Split
from kdmodels.device import find_device
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Experiment
from kdmodels.experiment.user_code import named_modules
from kdmodels.networks import load_network, load_state
from kdmodels.papers import find_reproduction
from kdmodels.papers.claims import ClaimOutcome, Table, judge
from kdmodels.papers.reproduction import TEACHER, Predictions
from tasks import tracking
from tasks import training_runs as runs
from tasks.held_out import HeldOut
from tasks.prepare_data import load
from tasks.references import DataReference, LeaderboardReference, Reference
from tasks.results import NETWORK, REPLICAS, SECONDS, replicas


class PaperComparison(Reference):
    """A finished comparison of a reproduction."""

    experiment: Experiment
    data: DataReference
    leaderboard: LeaderboardReference


class Measured(Reference):
    """The outcome of each claim of a reproduction, and tables of other measured values."""

    outcomes: list[ClaimOutcome]
    tables: list[Table]


@task(task_run_name="measure_claims {name}", cache_policy=NO_CACHE)
def measure_claims(name: str, comparisons: Sequence[PaperComparison], seeds: int) -> Measured:
    """Test the claims of a reproduced paper with our own results on the test split.

    Args:
        name: The name of the reproduction.
        comparisons: The finished comparisons, in the order of their seeds.
        seeds: The number of finished seeds.
    """
    tracking.configure()
    reproduction = find_reproduction(name)
    found = reproduction.measure(RecordedResults(range(seeds), comparisons))
    return Measured(
        outcomes=[judge(claim, found.values.get(claim.name, ())) for claim in reproduction.claims],
        tables=[table for table in found.tables if table.rows],
    )


@dataclass(frozen=True)
class RecordedResults:
    """The results of finished comparisons, read from the store. See `kdmodels.papers.reproduction.Results`."""

    seeds: Sequence[int]
    comparisons: Sequence[PaperComparison]

    def of(self, experiment: str, variant: str) -> Predictions | None:
        """Return the predictions of a variant's students, or of the teacher if `variant` is `TEACHER`.

        If the variant was not run, return None.
        """
        parts = [
            part.predictions(variant)
            for part in self._comparisons
            if part.comparison.experiment.name == experiment and (variant == TEACHER or part.run_of(variant))
        ]
        if not parts:
            return None
        validation, test = (
            np.concatenate([getattr(part, split) for part in parts]) for split in ("validation", "test")
        )
        first = parts[0]
        return Predictions(first.classes, validation, first.validation_labels, test, first.test_labels)

    def seconds(self, experiment: str, variant: str) -> list[float]:
        """Return the training seconds of each run of a variant. The list is empty if the variant was not run."""
        run_ids = [
            run_id
            for part in self._comparisons
            if part.comparison.experiment.name == experiment and (run_id := part.run_of(variant))
        ]
        return [tracking.get(run_id).metrics[f"{SECONDS}training"] for run_id in run_ids]

    @cached_property
    def _comparisons(self) -> list["_Networks"]:
        return [_Networks(comparison) for comparison in self.comparisons]


@dataclass(frozen=True)
class _Networks:
    """The networks of one comparison, and its validation and test split."""

    comparison: PaperComparison

    def run_of(self, variant: str) -> str | None:
        """Return the id of a variant's run. Return None if the comparison does not have the variant."""
        students = self.comparison.leaderboard.students
        return next((student.run_id for student in students if student.variant == variant), None)

    def predictions(self, variant: str) -> Predictions:
        """Return the predictions of a variant's students, one per seed, or of the teacher if `variant` is `TEACHER`."""
        data, device = load(self.comparison.data), find_device(self.comparison.experiment.device)
        logits = [
            [predict(network, split, device).numpy() for split in (data.validation, self._held_out)]
            for network in self._networks(variant)
        ]
        validation, test = (np.stack(part) for part in zip(*logits, strict=True))
        return Predictions(
            data.classes, validation, data.validation.labels.numpy(), test, self._held_out.labels.numpy()
        )

    def _networks(self, variant: str) -> Iterator[nn.Module]:
        code = named_modules(self.comparison.experiment)
        if variant == TEACHER:
            assert self.comparison.leaderboard.teacher_run_id is not None
            yield runs.recorded_network(self.comparison.leaderboard.teacher_run_id, code)[0]
            return
        run_id = self.run_of(variant)
        assert run_id is not None, "the caller asks only for variants of the comparison"
        network, _ = load_network(tracking.artifact(run_id, NETWORK), code)
        folder: Path = tracking.artifact(run_id, REPLICAS)
        for replica in replicas(run_id):
            load_state(network, load_file(folder / f"seed-{replica['seed']}.safetensors"))
            yield network

    @cached_property
    def _held_out(self) -> Split:
        code = named_modules(self.comparison.experiment)
        return HeldOut(self.comparison.data, self.comparison.leaderboard.parent_run_id, code, record=False).split
