"""A model version that waits until a person approves or rejects its promotion."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdmodels.errors import UserError
from tasks import tracking
from tests.tasks.tracking.test_registry import register, with_model

NOW = datetime(2026, 11, 29, 3, 4, 5, tzinfo=UTC)


def test_an_approved_version_becomes_the_champion(store: Path) -> None:
    version = register(with_model())
    tracking.propose(version)
    assert tracking.champion("digits-student") is None
    waiting = tracking.require_pending("digits-student", "approved")
    approved = tracking.record_review(waiting, "approved", by="ada", reason="looks right", now=NOW)
    assert approved.aliases == ("champion",)
    assert {tag: text for tag, text in approved.tags.items() if tag.startswith("kd.review")} == {
        "kd.review": "approved",
        "kd.reviewed_by": "ada",
        "kd.reviewed_at": "2026-11-29T03:04:05+00:00",
        "kd.review_reason": "looks right",
    }
    assert tracking.pending("digits-student") is None


def test_a_rejected_version_leaves_the_champion(store: Path) -> None:
    champion, other = register(with_model("a")), register(with_model("b"))
    tracking.set_champion(champion)
    tracking.propose(other)
    waiting = tracking.require_pending("digits-student", "rejected")
    rejected = tracking.record_review(waiting, "rejected", by="ada", reason="too slow", now=NOW)
    assert (rejected.aliases, rejected.tags["kd.review"]) == ((), "rejected")
    current = tracking.champion("digits-student")
    assert current is not None
    assert current.version == champion.version
    with pytest.raises(UserError, match="model 'digits-student': no version waits for a review"):
        tracking.require_pending("digits-student", "rejected")


def test_a_version_that_was_compared_with_an_earlier_champion_is_not_approved(store: Path) -> None:
    first, second, third = (register(with_model(name)) for name in "abc")
    tracking.set_champion(first)
    tracking.propose(second)
    tracking.set_champion(third)
    with pytest.raises(UserError, match="version 2 was compared with champion 1, but the champion is now 3"):
        tracking.require_pending("digits-student", "approved")
    assert tracking.require_pending("digits-student", "rejected").version == 2


def test_an_interrupted_approval_can_be_repeated(store: Path) -> None:
    version = register(with_model())
    tracking.propose(version)
    tracking.set_champion(version)  # the alias `pending` is still set
    waiting = tracking.require_pending("digits-student", "approved")
    assert tracking.record_review(waiting, "approved", by="ada", reason="", now=NOW).aliases == ("champion",)


def test_the_version_proposed_last_waits(store: Path) -> None:
    first, second = register(with_model("a")), register(with_model("b"))
    tracking.propose(first)
    tracking.propose(second)
    assert tracking.require_pending("digits-student", "approved").version == second.version
    with pytest.raises(UserError, match="model 'digit-student' is not in the registry"):
        tracking.require_pending("digit-student", "approved")
