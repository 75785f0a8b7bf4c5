"""Functions that print two comparisons, or two versions of registered models, side by side."""

from kd.console import local_time, print_entry, print_table
from kd.leaderboard import costs_in_words
from kdmodels.report import formats
from kdmodels.report.leaderboard import costs
from tasks.side_by_side import Side, SideBySide, StudentPair


def print_side_by_side(pair: SideBySide) -> None:
    """Print the two sides, the differences between their experiment files, and the comparison of their students."""
    for name, side in (("A", pair.a), ("B", pair.b)):
        print_entry(name, _side(side))
    print_entry("note", pair.note)
    print_entry("result", pair.result, style="bold")
    if pair.differences:
        rows = [each.model_dump() for each in pair.differences]
        print_table(rows, {"field": "field of the file", "a": "A", "b": "B"})
    else:
        print_entry("files", "the experiment files do not differ")
    columns = ("student", "A %", "B %", "B - A (95 %)", "p (seeds)", "p (examples)")
    print_table([_row(each) for each in pair.students], {column: column for column in columns})
    for name, side in (("A", pair.a), ("B", pair.b)):
        print_entry(f"costs {name}", costs_in_words([costs(side.parameters, side.metrics)]))


def _side(side: Side) -> str:
    if side.model:
        test = f", {side.test_accuracy} on test images" if side.test_accuracy else ""
        return f"{side.model}, {side.student} of {side.experiment}, run {side.run_id[:8]}{test}"
    return f"{side.experiment}, run {side.run_id[:8]} of {local_time(side.started)}, winner {side.student}"


def _row(pair: StudentPair) -> dict[str, object]:
    lead = formats.difference(pair.difference, pair.low, pair.high)
    return {
        "student": pair.variant,
        "A %": formats.accuracy(pair.a),
        "B %": formats.accuracy(pair.b),
        "B - A (95 %)": "same run" if pair.same_run else lead,
        "p (seeds)": formats.p_value(pair.p_seeds),
        "p (examples)": formats.p_value(pair.p_examples),
    }
