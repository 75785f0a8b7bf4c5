"""Functions that run the flow `generate` for `kd run`, and functions that print the flow's plan or outcome."""

import contextlib
import sys
import time

from prefect.exceptions import CancelledRun

from flows.generate import generate, plan_only
from kd import console, progress
from kd.exit_codes import DONE, REFUSED
from kd.leaderboard import network_in_words
from kd.outcome import print_generator_verdict
from kd.plan import print_steps
from kd.prefect_flows import server_for_flows
from kdmodels.errors import CancelledError
from kdmodels.experiment import GeneratorExperiment
from tasks import tracking
from tasks.generator_results import PICTURES
from tasks.references import GeneratorOutcome, Options

MEASURES = {
    "quality/frechet_distance": "Fréchet distance to the validation images, lower is better",
    "quality/precision": "precision: share of generated images that are near real ones",
    "quality/recall": "recall: share of real images that are near generated ones",
    "quality/entropy": "entropy of the judge's classes for an image, in nats",
    "quality/class_balance": "balance of the classes; 1: all are equally frequent",
    "quality/accuracy": "share of images of the class that was asked for",
    "val/elbo": "evidence lower bound of the validation images, in nats",
    "quality/log_likelihood_bound": "tighter bound of their log-likelihood, in nats",
    "val/discriminator_loss": "loss of the discriminator on the validation split; 1.386: it can't tell",
    "val/accuracy_on_real": "accuracy of the discriminator on real images",
    "val/accuracy_on_generated": "accuracy of the discriminator on generated images",
}


def show_plan(experiment: GeneratorExperiment, options: Options, *, as_json: bool) -> int:
    """Print the planned actions of a run and the reason for each action. Return the exit code."""
    planned = plan_only(experiment, options)
    if as_json:
        console.print_json(planned.model_dump())
    else:
        print_steps(planned.steps)
        for note in planned.notes:
            console.print_entry("data", note)
    return DONE


def run(experiment: GeneratorExperiment, options: Options, *, as_json: bool, require_promotion: bool) -> int:
    """Train a generator, and print the gate's verdict and the generator's measures. Return the exit code.

    The flow also trains the judge, a classifier that measures the generated images.

    Args:
        require_promotion: Whether the exit code is `REFUSED` if the gate refuses the generator.

    Raises:
        CancelledError: Somebody cancelled the run.
    """
    began = time.monotonic()
    if not options.quiet:
        generator = experiment.generator
        print(f"{experiment.name}: {generator.kind}, {generator.epochs} epochs; starting", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr), server_for_flows():
        tracking.configure()
        outcome = _run_flow(experiment, options)
    outcome = outcome.model_copy(update={"seconds": {"total": round(time.monotonic() - began, 3), **outcome.seconds}})
    if as_json:
        console.print_json(outcome.model_dump())
    else:
        print_outcome(outcome)
    return REFUSED if require_promotion and not outcome.verdict.accepted else DONE


def _run_flow(experiment: GeneratorExperiment, options: Options) -> GeneratorOutcome:
    shown = progress.shown(console.console(stderr=True))
    with contextlib.nullcontext() if options.quiet else shown as on_running:
        flow = generate.with_options(on_running=[on_running]) if on_running else generate
        try:
            return flow(experiment, options)
        except CancelledRun as error:
            raise CancelledError(str(error)) from error


def print_outcome(outcome: GeneratorOutcome) -> None:
    """Print the verdict on a generator, its measures and warnings, and commands that the user can run next."""
    generator, verdict = outcome.generator, outcome.verdict
    print_generator_verdict(verdict)
    for warning in generator.warnings:
        console.print_entry("warning", warning, style="bold")
    rows = [
        {"value": f"{generator.metrics[name]:.4g}", "measure": words}
        for name, words in MEASURES.items()
        if name in generator.metrics
    ]
    console.print_table(rows, {"value": "value", "measure": "measure"})
    console.print_entry("judge", network_in_words(outcome.judge.metrics) or "")
    for note in outcome.notes:
        console.print_entry("note", note)
    console.print_entry("run", f"{generator.run_id}{', reused' if generator.reused else ''}; pictures in {PICTURES}/")
    console.print_entry("seconds", f"{outcome.seconds['total']:.1f}")
    sample = [f"kd sample {verdict.model} -o grid.png"] if verdict.version else []
    console.print_entry("next", ", ".join([*sample, f"kd show {generator.run_id[:8]}", "kd ui"]))
