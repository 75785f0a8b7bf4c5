"""The history of a registered model, in a store of real comparisons."""

import pytest

from kdmodels.errors import UserError
from tasks import tracking
from tasks.model_history import read_history
from tasks.references import VerdictReference
from tasks.results import VERDICT
from tests.conftest import Recorded


def test_decisions_come_in_their_order_with_the_numbers_of_their_verdicts(recorded: Recorded) -> None:
    history = read_history("small-student")
    assert [line.comparison for line in history.decisions] == [recorded.first, recorded.again]
    for line in history.decisions:
        run = tracking.get(line.comparison)
        verdict = VerdictReference.model_validate(tracking.read_json(line.comparison, VERDICT))
        assert line.validation_accuracy == run.metrics["val/accuracy"]
        assert line.test_accuracy == verdict.test_accuracy.get(verdict.winner)
        assert (line.winner, line.champion, line.reason) == (verdict.winner, verdict.version, verdict.reason)
    assert history.decisions[0].decision == "promoted"


def test_the_champion_has_its_alias_and_the_time_of_its_promotion(recorded: Recorded) -> None:
    history = read_history("small-student")
    (champion,) = [version for version in history.versions if "champion" in version.aliases]
    stored = tracking.champion("small-student")
    assert stored is not None
    assert (champion.version, champion.run_id) == (stored.version, stored.run_id)
    promotions = [line.started for line in history.decisions if line.decision == "promoted"]
    assert champion.promoted == promotions[-1]


def test_looks_are_those_of_the_registry(recorded: Recorded) -> None:
    looks = read_history("small-student").looks
    assert [(line.looks, line.of) for line in looks] == [
        (len(ledger.pairs), ledger.of) for ledger in tracking.ledgers("small-student")
    ]


def test_an_unknown_model_is_named(recorded: Recorded) -> None:
    with pytest.raises(UserError, match="model 'small' is not in the registry"):
        read_history("small")
