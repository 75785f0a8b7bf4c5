"""The experiment file of a generator: its defaults, and its mistakes with their place in the file."""

from pathlib import Path
from typing import Any

import pytest

from kdmodels.errors import UserError
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.file import read_any_experiment, read_experiment

FILE = "name: made\ndata: digits\ngenerator: {vae: {}, epochs: 2}\n"


def experiment(**changes: Any) -> GeneratorExperiment:
    return GeneratorExperiment.model_validate(
        {"name": "made", "data": {"source": "digits"}, "generator": {"vae": {}, "epochs": 2}} | changes
    )


def test_the_networks_and_learning_rates_have_the_defaults_of_the_papers_examples() -> None:
    vae = experiment().generator
    assert vae.vae is not None
    assert (vae.vae.hidden, vae.vae.latent, vae.learning_rate, vae.batch) == ([400], 20, 1e-3, 128)
    gan = experiment(generator={"gan": {}, "epochs": 2}).generator
    assert gan.gan is not None
    assert (gan.gan.hidden, gan.gan.discriminator) == ([256, 512, 1024], [1024, 512, 256])
    assert (gan.gan.latent, gan.learning_rate, gan.gan.dropout) == (100, 2e-4, 0.0)
    assert experiment(generator={"gan": {}, "epochs": 2, "lr": 0.5}).generator.learning_rate == 0.5


def test_the_weights_of_a_data_free_generator_are_those_of_the_paper() -> None:
    made = experiment(generator={"data_free": {"steps": 3}, "epochs": 2}).generator
    assert made.data_free is not None
    assert (made.kind, made.data_free.steps, made.learning_rate) == ("data_free", 3, 1e-3)
    assert (made.data_free.one_hot, made.data_free.entropy, made.data_free.activation) == (1, 5, 0.1)


def test_the_judge_is_the_teacher_of_an_ordinary_experiment() -> None:
    made = experiment(seed=3, threads=1, judge={"network": {"mlp": [8]}, "epochs": 2}, allow_code=["nets"])
    judged = made.of_judge
    assert (judged.name, judged.seed, judged.threads, judged.data) == ("made", 3, 1, made.data)
    assert (judged.teacher, judged.allow_code) == (made.judge, ["nets"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{vae: {}, epochs: 2}", "{epochs: 2}", "made.yaml:3: generator: expected one of vae, gan and data_free"),
        ("vae: {}", "vae: {}, gan: {}", "made.yaml:3: generator: expected one of vae, gan and data_free"),
        ("vae: {}", "data_free: {}", "made.yaml:3: generator.data_free.steps: "),
        ("vae: {}", "data_free: {steps: 1, channels: 1}", "channels: expected a whole number from 2 to 100000, got 1"),
        ("vae: {}", "data_free: {steps: 1}, conditional: true", "made.yaml:3: generator.conditional: true does not"),
        ("vae: {}", "vae: {latent: 0}", "made.yaml:3: generator.vae.latent: "),
        ("epochs: 2", "epochs: 2, batch: 1", "made.yaml:3: generator.batch: "),
        ("digits", "{source: digits, folds: 3}", "made.yaml:2: data.folds: does not apply to a generator."),
        ("digits", "{source: digits, augment: [{jitter: 1}]}", "made.yaml:2: data.augment: does not apply to a"),
        ("data", "variants: [kd]\ndata", "made.yaml:2: variants: unknown field."),
    ],
)  # fmt: skip
def test_a_mistake_names_its_line_and_what_is_allowed(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "made.yaml"
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_any_experiment(file)
    assert message in str(error.value)


def test_a_file_is_of_a_generator_or_of_a_comparison(tmp_path: Path) -> None:
    file = tmp_path / "made.yaml"
    file.write_text(FILE)
    assert read_any_experiment(file) == experiment()
    with pytest.raises(UserError, match=r"trains a generator\. Allowed: an experiment with a teacher, a student"):
        read_experiment(file)
