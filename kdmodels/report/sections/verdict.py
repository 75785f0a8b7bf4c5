"""The first section: the verdict, and answers to the questions of a reader who has ten seconds."""

from collections.abc import Sequence

from kdmodels.evaluation.requirements import WORDS, Rule
from kdmodels.report.components import Cell, Column, Component, Section, Table, Text
from kdmodels.report.conclusion import against_control, against_others, is_better_than_control
from kdmodels.report.contents import Contents, Verdict
from kdmodels.report.formats import accuracy, amount, metric, percent, share
from kdmodels.report.gap import gaps_closed
from kdmodels.report.leaderboard import Costs, LeaderboardRow
from kdmodels.report.sections.reproduce import experiment_file

TIME = "ms per image"
TERMS = (
    "A variant is a loss with which the same student is trained, once for each seed; ± is the standard deviation over "
    "the seeds. Its control is the same student, trained on the labels alone. Variants are ranked on validation "
    "images. The promotion gate, and nothing else, reads the test images. The champion is the registered model in use."
)
ON_TEST = (
    "These are the stored networks, each of its best seed. The verdict rests on the test images, because nothing is "
    "chosen on them."
)
GAINS = {True: "Yes.", False: "Not shown.", None: "Not tested."}


def verdict_section(contents: Contents) -> Section:
    """Return the section with the verdict and the answers."""
    verdict, best = contents.verdict, contents.row(contents.winner)
    reason = verdict.reason if verdict else "The comparison ended before the promotion gate decided."
    components: list[Component] = [Text(reason, role="verdict")]
    components += [Text(f"Note: {note}", role="note") for note in contents.notes]
    if best is not None:
        answers = {
            "Which variant won?": f"{best.student.variant}, {accuracy(best.accuracy, best.std)} % on validation images",
            "Is the gain real?": f"{_gain(best)} {against_control(contents.rows)}",
            "Is it better than the other variants?": against_others(contents.rows),
            "What did the students learn from?": "; ".join(contents.data.notes if contents.data else ()),
            "How close is it to the teacher?": _gap(contents, best),
            "How accurate is it on test images?": _test_accuracies(verdict),
            "What does it cost?": _costs(best.costs, contents.teacher.costs if contents.teacher else Costs(None)),
            "How long did it train?": _training(contents, best),
            "What would be deployed?": _deployed(verdict),
            "How is it reproduced?": _reproduced(contents),
        }
        components.append(
            Table(
                caption="Answers",
                columns=[Column("question"), Column("answer")],
                rows=[[Cell(question, mark=True), Cell(answer)] for question, answer in answers.items() if answer],
            )
        )
    if verdict and verdict.rules:
        components.append(_requirements(verdict.rules))
    return Section("verdict", "Verdict", [*components, Text(TERMS)])


def _requirements(rules: Sequence[Rule]) -> Table:
    rows = [
        [
            Cell(f"{WORDS.get(rule.name, rule.name)} {rule.about}".strip()),
            Cell(f"{rule.value:,}" if isinstance(rule.value, int) else f"{rule.value:.4g}"),
            Cell(rule.bound),
            Cell("yes" if rule.holds else "no", mark=not rule.holds),
        ]
        for rule in rules
    ]
    columns = [Column("requirement"), Column("measured", numeric=True), Column("required"), Column("met")]
    return Table("Requirements of the promotion gate", columns, rows)


def _gap(contents: Contents, best: LeaderboardRow) -> str:
    if contents.teacher is None:
        return ""
    teacher, control = percent(contents.teacher.accuracy), contents.row(best.student.control)
    gap = gaps_closed([best], contents.teacher.accuracy).get(best.student.variant)
    if gap is None or control is None:
        return f"The teacher has {teacher} on validation images."
    ends = "" if gap.low is None else f" (95 % interval {share(gap.low)} to {share(gap.high)})"
    between = f"between the control, {percent(control.accuracy)}, and the teacher, {teacher}"
    return f"It closes {share(gap.share)}{ends} of the gap {between}."


def _gain(best: LeaderboardRow) -> str:
    if best.student.rank_by:
        return GAINS[None]  # the tests compare accuracies, which did not choose this variant
    return "No." if best.student.variant == best.student.control else GAINS[is_better_than_control(best)]


def _test_accuracies(verdict: Verdict | None) -> str:
    if verdict is None or not verdict.test_accuracy:
        return ""
    accuracies = ", ".join(f"{name} {percent(value)}" for name, value in verdict.test_accuracy.items())
    values = ", ".join(f"{name} {metric(value)}" for name, value in verdict.test_metrics.items())
    return f"{accuracies}. {f'{verdict.winner}: {values}. ' if values else ''}{ON_TEST}"


def _training(contents: Contents, best: LeaderboardRow) -> str:
    """Return the training times of the best variant and the teacher, and the time of the comparison, in seconds."""
    seconds = {run.name: run.effort.seconds for run in contents.runs}
    parts = {
        f"{best.student.variant}, all seeds": seconds.get(best.student.variant),
        "teacher": seconds.get("teacher"),
        "whole comparison": sum(stage.seconds or 0.0 for stage in contents.stages.values()) or None,
    }
    return ", ".join(f"{name} {amount(value)} s" for name, value in parts.items() if value is not None)


def _reproduced(contents: Contents) -> str:
    return (
        f"kd run {experiment_file(contents)}, with the experiment file at the end of the report. On a machine with the "
        f"store, kd show {contents.run_id[:8]} --spec prints the file"
    )


def _costs(student: Costs, teacher: Costs) -> str:
    """Describe the costs of the student, each with its share of the teacher's cost."""
    units: dict[str, tuple[float | None, float | None]] = {
        "parameters": (student.parameters, teacher.parameters),
        "MFLOPs": (student.mflops, teacher.mflops),
        TIME: (student.p50_ms, teacher.p50_ms),
        "MB of weights": (student.file_mb, teacher.file_mb),
    }
    costs = []
    for unit, (value, whole) in units.items():
        if value is not None:
            # The times of small networks differ by chance, so their ratio would say little.
            part = f" ({_share(value / whole)} of the teacher's)" if whole and unit != TIME else ""
            costs.append(f"{amount(value)} {unit}{part}")
    return ", ".join(costs)


def _share(value: float) -> str:
    """Format a share in percent. Round a share below 10 % to two significant digits.

    >>> _share(0.0238), _share(1.274)
    ('2.4 %', '127 %')
    """
    return f"{100 * value:.2g} %" if value < 0.1 else share(value)


def _deployed(verdict: Verdict | None) -> str:
    if verdict is None or verdict.version is None:
        return f"nothing: {verdict.model} has no champion" if verdict else "nothing was decided"
    version = f"models:/{verdict.model}/{verdict.version}"
    if verdict.promoted:
        deployed = f"{verdict.winner}, which this comparison promoted to {version}, the registered model in use"
    else:
        deployed = f"{version}, the registered model in use already before this comparison"
    return f"{deployed}. To classify images: kd predict {verdict.model} IMAGE. In Python: see its model card in MLflow"
