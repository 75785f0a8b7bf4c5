"""The text of the page docs/papers.md, which lists papers' claims next to our measured values.

The page is generated from the files in benchmarks/results/papers, which `kd reproduce NAME --output` writes.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from kdmodels.evaluation.statistics import t_interval
from kdmodels.papers import REPRODUCTIONS
from kdmodels.papers.claims import ClaimOutcome, ReproductionResult, Table
from kdmodels.papers.reproduction import Reproduction

RULE = (
    "A claim agrees if the whole 95 % interval over seeds is inside the range, and disagrees if it is outside. "
    "Otherwise, and with one seed, the claim is undecided."
)
INTRODUCTION = f"""\
# Published results, measured here

Made by `make docs` from the results in `benchmarks/results/papers`; a test keeps it so.

`kd reproduce NAME` runs the experiments of a paper, measures its claims on the test split, and prints this table.
`kd reproduce --list` shows all reproductions. The runs are in MLflow like any others. No student of a
reproduction is promoted, because the test split is read for all of them.

{RULE} Each claim was decided on its own, without a correction for the number of claims.
"""


def document(results: Iterable[ReproductionResult]) -> str:
    """Return the text of the page docs/papers.md.

    Args:
        results: The committed results. A reproduction without a result is listed as not run.
    """
    by_name = {result.name: result for result in results}
    overview = ["| reproduction | seeds | result |", "|---|---|---|"]
    sections = []
    for name, reproduction in REPRODUCTIONS.items():
        result = by_name.get(name)
        state = (f"{result.seeds} of {reproduction.seeds}", result.summary) if result else ("0", "not run")
        overview.append(f"| [{name}](#{name}) | {state[0]} | {state[1]} |")
        sections.append(_section(reproduction, result))
    return "\n".join([INTRODUCTION, *overview, "", *sections])


def claim_rows(result: ReproductionResult) -> list[dict[str, str]]:
    """Return one row per claim: the claim, its published value, the range that agrees, our value, and the decision."""
    return [
        {
            "claim": outcome.claim.text,
            "published": outcome.claim.published,
            "source": outcome.claim.source,
            "range": outcome.claim.range_in_words,
            "ours": _ours(outcome),
            "agreement": outcome.agreement.value,
        }
        for outcome in result.outcomes
    ]


def table_rows(table: Table) -> list[dict[str, str]]:
    """Return the rows of a table of measured values: the name, the mean, and the interval over seeds."""
    return [
        {"row": name, "mean": _number(fmean(values)), "interval": _interval(t_interval(values))}
        for name, values in table.rows.items()
    ]


def _section(reproduction: Reproduction, result: ReproductionResult | None) -> str:
    lines = [f"## {reproduction.name}", "", f"{reproduction.title}. {'; '.join(reproduction.papers)}.", ""]
    if result is None:
        claims = [f"| {claim.text} | {claim.published} | {claim.source} |" for claim in reproduction.claims]
        lines += [
            f"Not run. `kd reproduce {reproduction.name}` takes {reproduction.cost} on two cores.", "",
            "| claim | published | source |", "|---|---|---|", *claims, "",
        ]  # fmt: skip
    else:
        lines += [
            f"`{result.command}`: {result.seeds} seeds, {result.summary}. Finished {result.finished}, "
            f"torch {result.versions['torch']}.", "",
            "| claim | published | source | agrees if | ours | |", "|---|---|---|---|---|---|",
            *(f"| {' | '.join(row.values())} |" for row in claim_rows(result)), "",
        ]  # fmt: skip
        for table in result.tables:
            rows = [f"| {' | '.join(row.values())} |" for row in table_rows(table)]
            lines += [f"{table.title}:", "", f"| | mean, {table.unit} | 95 % interval |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, "How this differs from the paper:", "", *_bullets(reproduction.differences), ""])


def _bullets(texts: Sequence[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def _ours(outcome: ClaimOutcome) -> str:
    """Return the measured value with its interval. If nothing was measured, return an empty string."""
    if outcome.mean is None:
        return ""
    interval = f" ({_interval(outcome.interval)})" if outcome.interval else ""
    return f"{_number(outcome.mean)}{f' {outcome.claim.unit}' if outcome.claim.unit else ''}{interval}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{_number(interval[0])} to {_number(interval[1])}" if interval else ""


def _number(value: float) -> str:
    """Return a number with four significant digits, or with one decimal if it is 100 or more.

    >>> _number(0.98765), _number(4730.25), _number(2.5e-7)
    ('0.9877', '4,730.2', '2.5e-07')
    """
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def read_results(folder: Path) -> list[ReproductionResult]:
    """Read the results in a folder, which `kd reproduce NAME --output FOLDER` has written."""
    return [ReproductionResult.model_validate_json(file.read_text()) for file in sorted(folder.glob("*.json"))]


if __name__ == "__main__":
    print(document(read_results(Path(sys.argv[1]))), end="")
