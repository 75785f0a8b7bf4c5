"""The description of a student's run in the MLflow UI: its objective, its result and its stored network."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdmodels.report import formats
from kdmodels.report.contents import Contents
from kdmodels.report.leaderboard import LeaderboardRow
from kdmodels.report.markdown import plain


@dataclass(frozen=True)
class StoredNetwork:
    """The network that is stored as a student's model: its seed, its epoch and its validation accuracy."""

    seed: int
    epoch: int
    accuracy: float


def student_note(
    contents: Contents,
    row: LeaderboardRow,
    objective: Sequence[str],
    stored: StoredNetwork,
    link: str,
    pictures: str | None = None,
) -> str:
    """Return the description of a student's run.

    Args:
        contents: The contents of the report of the comparison that trained the student.
        row: The student's row of the leaderboard.
        objective: The terms of the objective, in words.
        stored: The network that is stored as the student's model.
        link: The address of the comparison's run.
        pictures: The address of a picture of the student's disagreements with its teacher. `None` without a picture.
    """
    result = f"{formats.accuracy(row.accuracy, row.std)} % on validation images"
    lines = [
        f"**Objective:** {plain(' + '.join(objective))}",
        f"**Result:** rank {row.rank} of {len(contents.rows)} in [the comparison]({link}), {result}{_lead(row)}.",
        f"**Stored network:** seed {stored.seed} of {_seeds(row)}, epoch {stored.epoch}, "
        f"{formats.percent(stored.accuracy)} on validation images.",
        *([f"[Validation images on which student and teacher disagree most]({pictures})"] if pictures else []),
    ]
    return "\n\n".join(lines) + "\n"


def _lead(row: LeaderboardRow) -> str:
    """Return the comparison with the control. If the student is a control, return an empty string."""
    evidence = row.evidence
    if row.student.variant == row.student.control or evidence.control_difference is None:
        return ""
    lead = formats.difference(
        evidence.control_difference, evidence.control_difference_low, evidence.control_difference_high
    )
    p = "" if evidence.control_p_holm is None else f", p (Holm) {formats.p_value(evidence.control_p_holm)}"
    return f", {lead} points against {plain(row.student.control or '')}{p}"


def _seeds(row: LeaderboardRow) -> str:
    seeds = row.student.seeds
    return str(seeds[0]) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
