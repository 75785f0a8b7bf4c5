"""The experiment file of a generator: a network that makes new images like those of the data."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from kdmodels.errors import UserError
from kdmodels.experiment.experiment import Experiment
from kdmodels.experiment.network import Network
from kdmodels.experiment.presets import CONTROL
from kdmodels.experiment.recipe import MOST_EPOCHS, Teacher
from kdmodels.experiment.schema import Part, combined, explain, mistake
from kdmodels.experiment.settings import Settings
from kdmodels.experiment.teacher_data import complete_data

Width = Annotated[int, Field(ge=1, le=100_000)]
KINDS = ("vae", "gan", "data_free")
# matches the field name `teacher` at the start of an error message, or before the name of one of its fields, but not in
# the path of a file
TEACHER_FIELD = re.compile(rf"^teacher(?=[.:])|(?<![\w./-])teacher(?=\.({'|'.join(Teacher.model_fields)})\b)")


class VaeNetwork(Part):
    """A variational autoencoder of fully connected layers."""

    IN_WORDS: ClassVar[str] = "variational autoencoder"
    LR: ClassVar[float] = 1e-3

    hidden: list[Width] = Field(
        default=[400], description="Sizes of the encoder's hidden layers. The decoder has these sizes in reverse order."
    )
    latent: Width = Field(default=20, description="Size of a latent code.")


class GanNetwork(Part):
    """A generative adversarial network of fully connected layers."""

    IN_WORDS: ClassVar[str] = "generative adversarial network"
    LR: ClassVar[float] = 2e-4

    hidden: list[Width] = Field(default=[256, 512, 1024], description="Sizes of the generator's hidden layers.")
    latent: Width = Field(default=100, description="Size of a latent code.")
    discriminator: list[Width] = Field(
        default=[1024, 512, 256], description="Sizes of the discriminator's hidden layers."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Probability of dropout after each hidden layer of the discriminator."
    )


class DataFreeNetwork(Part):
    """A generator of convolutional layers that learns only from the judge's outputs, not from images of the data."""

    IN_WORDS: ClassVar[str] = "data-free generator"
    LR: ClassVar[float] = 1e-3

    channels: int = Field(
        default=32,
        ge=2,
        le=100_000,
        description="Number of channels of the first convolution. The next convolution has half as many.",
    )
    latent: Width = Field(default=100, description="Size of a latent code.")
    steps: int = Field(ge=1, description="Number of batches in an epoch.")
    one_hot: float = Field(
        default=1, ge=0, description="Weight of the cross entropy between the judge's outputs and their largest class."
    )
    entropy: float = Field(
        default=5,
        ge=0,
        description="Weight of the entropy of the batch's mean class probabilities. Training maximises this entropy.",
    )
    activation: float = Field(
        default=0.1,
        ge=0,
        description="Weight of the mean absolute value of the judge's embedding. Training maximises this mean.",
    )


class Generator(Part):
    """A generator, and how it is trained with Adam. One of vae, gan and data_free is required."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    vae: VaeNetwork | None = Field(default=None, description="A variational autoencoder.")
    gan: GanNetwork | None = Field(default=None, description="A generative adversarial network.")
    data_free: DataFreeNetwork | None = Field(
        default=None, description="A generator that learns from the outputs of the judge, without any image."
    )
    conditional: bool = Field(
        default=False,
        description="Whether the class is an input of the generator, so that images of a requested class can be made.",
    )
    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Number of epochs.")
    batch: int = Field(default=128, ge=2, description="Maximum number of images in a batch.")
    lr: float | None = Field(default=None, gt=0, description="Learning rate. Default: 0.0002 for gan, otherwise 0.001.")

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise mistake("expected one of vae, gan and data_free")
        if self.data_free and self.conditional:
            raise mistake("true does not apply to data_free. Allowed: false", "conditional")
        return self

    @property
    def learning_rate(self) -> float:
        """The learning rate: `lr`, or the default for this kind of generator."""
        return self.lr or self.networks.LR

    @property
    def networks(self) -> VaeNetwork | GanNetwork | DataFreeNetwork:
        """The settings of the networks."""
        networks = self.vae or self.gan or self.data_free
        assert networks is not None, "one kind is required"
        return networks

    @property
    def kind(self) -> str:
        """The kind of the generator, one of `KINDS`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


@contextmanager
def judge_named() -> Iterator[None]:
    """Replace the field name `teacher` by `judge` in the message of a UserError from the `with` block.

    The judge is trained and loaded by the functions for teachers. Their error messages name the field `teacher`.
    """
    try:
        yield
    except UserError as error:
        message = TEACHER_FIELD.sub("judge", str(error))
        if message == str(error):
            raise
        raise type(error)(message) from error


class GeneratorExperiment(Settings):
    """An experiment that trains a generator, and a teacher that judges the generated images."""

    judge: Teacher = Field(
        default=Teacher(network=Network(mlp=[256, 128]), epochs=5),
        description="Classifier whose outputs and embedding measure the quality of the generated images.",
    )
    generator: Generator = Field(description="The generator and its training.")
    allow_code: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Python modules that may be imported to load a stored network. Modules that other fields name are "
        "always allowed.",
    )

    @field_validator("judge", mode="before")
    @classmethod
    def _complete_judge(cls, raw: object, info: ValidationInfo) -> object:
        return complete_data(raw, info.data.get("data"))

    @model_validator(mode="after")
    def _require_plain_data(self) -> Self:
        for field in ("folds", "transfer"):
            if getattr(self.data, field) is not None:
                raise mistake("does not apply to a generator. Allowed: null", "data", field)
        if self.data.augment:
            raise mistake("does not apply to a generator. Allowed: []", "data", "augment")
        if self.judge.ensemble:
            raise mistake("an ensemble has no common embedding. Allowed: one teacher", "judge", "ensemble")
        self._require_valid_judge()
        return self

    def _require_valid_judge(self) -> None:
        """Validate the experiment `of_judge`, and report its mistakes with the field names of this file."""
        try:
            _ = self.of_judge
        except ValidationError as error:
            explained = [explain(detail, Experiment) for detail in error.errors()]
            raise combined(
                [
                    mistake(message, *("judge" if step == "teacher" else step for step in path))
                    for path, message in explained
                ]
            ) from None

    @property
    def of_judge(self) -> Experiment:
        """An experiment with the judge as its teacher, for functions that train or read teachers."""
        shared = self.model_dump(include={*Settings.model_fields, "allow_code"})
        student = {"network": {"mlp": [1]}, "epochs": 1}  # no function for teachers uses the student
        return Experiment.model_validate(
            shared | {"teacher": self.judge.model_dump(), "student": student, "variants": [CONTROL]}
        )

    def allowing(self, modules: Sequence[str]) -> Self:
        """Return a copy of the experiment with these modules added to `allow_code`."""
        return self.model_copy(update={"allow_code": [*self.allow_code, *modules]})
