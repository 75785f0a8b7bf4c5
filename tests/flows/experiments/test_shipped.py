"""The contents of the shipped experiments and of the template."""

from pathlib import Path

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid, validate

from flows.experiments import FOLDER, TEMPLATE, find, load_paper_experiment, shipped
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, GeneratorExperiment, Network, Runner, Term
from kdmodels.experiment.file import read_any_experiment, read_experiment
from kdmodels.experiment.generator import Generator
from kdmodels.experiment.presets import PRESETS

COMPARED = {
    "hard-labels",
    "label-smoothing",
    "hard-labels-equal-steps",
    "kd-temperature=1",
    "kd-temperature=4",
    "logit-regression",
    "dist",
    "hint",
    "kd+hint",
}


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_demo_compares_the_variants_with_five_seeds_on_both_cores(name: str) -> None:
    experiment = read_experiment(find(name))
    assert experiment.name == name
    assert {variant.name for variant in experiment.variants} == COMPARED
    assert experiment.student.seeds == 5
    assert (experiment.threads, experiment.runner) == (1, Runner())
    assert experiment.promote.model == f"{name}-student"


@pytest.mark.parametrize(("name", "seeds"), [("digits-losses", 3), ("mnist-losses", 5)])
def test_the_losses_experiments_compare_every_preset(name: str, seeds: int) -> None:
    experiment = read_experiment(find(name))
    assert [variant.name for variant in experiment.variants] == list(PRESETS)
    assert experiment.student.seeds == seeds
    assert (experiment.threads, experiment.runner) == (1, Runner())  # make bench uses the file unchanged


@pytest.mark.parametrize(("name", "epochs"), [("vae-mnist", 10), ("gan-mnist", 50)])
def test_the_generators_are_those_of_the_papers_examples(name: str, epochs: int) -> None:
    experiment = read_any_experiment(find(name))
    assert isinstance(experiment, GeneratorExperiment)
    assert (experiment.name, experiment.data.source) == (name, "mnist")
    expected = Generator.model_validate({name.removesuffix("-mnist"): {}, "epochs": epochs})
    assert experiment.generator == expected  # test_generator.py checks the defaults


def test_the_data_free_generator_has_the_teacher_and_the_weights_of_dafl() -> None:
    experiment = read_any_experiment(find("dafl-mnist"))
    assert isinstance(experiment, GeneratorExperiment)
    assert experiment.judge.network == Network(mlp=[1200, 1200])
    made = experiment.generator.data_free
    assert made is not None
    assert (made.one_hot, made.entropy, made.activation) == (1, 5, 0.1)
    assert made.steps * experiment.generator.epochs == 1000


def test_the_experiments_of_hinton_share_a_teacher_and_a_student() -> None:
    """Otherwise, a teacher would be trained for each of the experiments of a seed."""
    names = ("hinton-mnist", "hinton-mnist-without-3", "hinton-mnist-only-7-8", "hinton-temperatures")
    triplet, *others = map(load_paper_experiment, names)
    for other in others:
        assert (other.teacher, other.student) == (triplet.teacher, triplet.student)


def test_mnist_classic_is_the_classic_example() -> None:
    experiment = read_experiment(find("mnist-classic"))
    assert experiment.teacher.network == Network(mlp=[128, 64])
    (classic,) = [variant for variant in experiment.variants if variant.name == "classic"]
    student = experiment.student_of(classic)
    assert student.network == Network(mlp=[32])
    for recipe in (experiment.teacher, student):
        assert (recipe.epochs, recipe.batch, recipe.optimizer) == (5, 64, {"adam": {"lr": 0.001}})
        assert recipe.schedule is None
    assert classic.terms == [
        Term(loss="hard_labels", weight=0.5),
        Term(loss="soft_targets", weight=0.5, hyperparameters={"temperature": 2}),
    ]
    assert experiment.promote.report == ["classic"]


def test_the_template_shows_every_field_at_its_default() -> None:
    experiment = read_experiment(TEMPLATE)
    bare = Experiment.model_validate(
        {
            "name": experiment.name,
            "data": experiment.data.source,
            "teacher": {"network": {"mlp": [128, 64]}, "epochs": 20},
            "student": {"network": {"mlp": [16]}, "epochs": 20},
            "variants": experiment.variants,
            "promote": {"require": experiment.promote.require},
        }
    )
    assert experiment == bare
    text = TEMPLATE.read_text()
    fields = {field for part in _parts(experiment) for field in type(part).model_fields}
    assert [field for field in sorted(fields) if f"{field}:" not in text] == []


def _parts(experiment: Experiment) -> list[object]:
    promote = experiment.promote
    return [experiment, experiment.data, experiment.teacher, experiment.student, promote, promote.require,
            experiment.runner]  # fmt: skip


def test_an_experiment_is_found_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").touch()
    assert find("digits") == FOLDER / "digits.yaml"
    assert find("my.yaml") == Path("my.yaml")
    with pytest.raises(
        UserError,
        match=rf"^digts: is neither .*. Did you mean 'digits'\? Allowed: {', '.join(shipped())}$",
    ):
        find("digts")
    with pytest.raises(UserError, match=r"^template: is neither"):
        find("template")
    with pytest.raises(UserError, match=r"is a folder, not an experiment file$"):
        find(str(tmp_path))


def test_prefects_form_accepts_valid_experiments_and_rejects_others() -> None:
    def distill(experiment: Experiment) -> None: ...

    def generate(experiment: GeneratorExperiment) -> None: ...

    schemas = {
        Experiment: parameter_schema(distill).model_dump_for_openapi(),
        GeneratorExperiment: parameter_schema(generate).model_dump_for_openapi(),
    }
    for name in shipped():
        experiment = read_any_experiment(find(name))
        normal, schema = experiment.model_dump(mode="json"), schemas[type(experiment)]
        assert validate({"experiment": normal}, schema) == []
        assert not is_valid({"experiment": normal | {"seed": -1}}, schema)
        assert not is_valid({"experiment": normal | {"sede": 1}}, schema)
