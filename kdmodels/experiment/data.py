"""The `data` field of the experiment file: the source of the examples and their split."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.experiment.augmentation import Operation, parse_operations
from kdmodels.experiment.schema import Part, mistake, show

TORCHVISION = ("mnist", "fashion-mnist", "kmnist", "usps", "cifar10", "cifar100", "svhn", "stl10")
NAMED = ("digits", *TORCHVISION)
PATHS = "a path such as ./photos, photos.zip, arrays.npz or table.parquet, or module:function"
LARGEST_SIDE = 8192  # pixels


REST = "rest"
UNLABELLED_PATHS = f"a folder or zip file of images, or the word {REST}"


class Transfer(Part):
    """The choice of the examples from which distilled students learn.

    Controls are not affected. A control always learns from all labelled training examples.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    unlabelled: str | None = Field(
        default=None,
        min_length=1,
        description="Additional images without labels: a folder, a zip file, or rest. rest means the training examples "
        "that data.labelled leaves out. Default: none.",
    )
    generator: str | None = Field(
        default=None,
        min_length=1,
        description="Registered generator that makes additional images, e.g. models:/vae-mnist@champion.",
    )
    noise: Literal["uniform"] | None = Field(
        default=None,
        description="Additional images of random noise, as a baseline for generators. uniform: each pixel is drawn "
        "uniformly.",
    )
    count: int | None = Field(
        default=None,
        ge=1,
        description="Number of additional images. Required with generator or noise. Default: all unlabelled images. "
        "If only some of the unlabelled images are used, they are chosen by image hash.",
    )
    alone: bool = Field(
        default=False,
        description="If true, distilled students learn from the images of generator or noise only, and not from the "
        "training examples.",
    )
    classes: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        min_length=1,
        description="Classes of the images from which distilled students learn, e.g. [7, 8]. Default: all classes.",
    )

    @property
    def made(self) -> int:
        """The number of additional images that come from a generator or from noise. 0 if neither is set."""
        return (self.count or 0) if self.generator or self.noise else 0

    @property
    def path(self) -> str | None:
        """The folder or zip file of unlabelled images. `None` if no such images are read."""
        return None if self.unlabelled == REST else self.unlabelled

    @field_validator("classes", mode="before")
    @classmethod
    def _convert_numbers(cls, classes: object) -> object:
        """Convert numbers to text, because class names are text even if they are numbers."""
        if not isinstance(classes, list):
            return classes
        return [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in classes]

    @field_validator("classes", mode="after")
    @classmethod
    def _require_different_classes(cls, classes: list[str] | None) -> list[str] | None:
        for index, name in enumerate(classes or []):
            if name in (classes or [])[:index]:
                raise mistake(f"{show(name)} appears twice. Each class may appear only once", index)
        return classes

    @model_validator(mode="after")
    def _require_examples(self) -> Self:
        origins = [name for name in ("unlabelled", "generator", "noise") if getattr(self, name) is not None]
        if len(origins) > 1:
            raise mistake(f"expected at most one of unlabelled, generator and noise, got {' and '.join(origins)}")
        if not origins and self.classes is None:
            raise mistake("expected one of the fields unlabelled, generator, noise and classes, got none of them")
        if self.count is not None and not origins:
            reason = f"{self.count} limits the additional images"
            raise mistake(f"{reason}. Allowed without unlabelled, generator and noise: null", "count")
        self._require_made()
        if self.classes is not None and self.path is not None:
            raise mistake(f"the images of {show(self.path)} have no classes. Allowed with this path: null", "classes")
        return self

    def _require_made(self) -> None:
        """Raise an error if a field conflicts with `generator` or `noise`, or is allowed only with one of them."""
        origin = "generator" if self.generator else "noise"
        if not (self.generator or self.noise):
            if self.alone:
                raise mistake("true applies to the images of generator or noise. Allowed without them: false", "alone")
            return
        if self.count is None:
            raise mistake(f"missing. With {origin}, expected a whole number of at least 1", "count")
        if self.classes is not None:
            raise mistake(f"the images of {origin} have no classes. Allowed with {origin}: null", "classes")


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # the values that torchvision's weights expect


class Normalisation(Part):
    """The mean and the standard deviation of each channel. Images with values in [0, 1] are normalised by them."""

    mean: list[float] = Field(min_length=1, description="One number per channel.")
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=1, description="One number per channel.")

    @model_validator(mode="after")
    def _require_equal_lengths(self) -> Self:
        if len(self.mean) != len(self.std):
            raise mistake(f"expected as many numbers as in mean ({len(self.mean)}), got {len(self.std)}", "std")
        return self


def expand_imagenet(normalise: object) -> object:
    """Replace the name `imagenet` in a field `normalise` by the mean and the standard deviation of ImageNet.

    Validators call this function before pydantic validates the value. A value that is not a text is returned unchanged.

    Raises:
        PydanticCustomError: The value is a text other than `imagenet`.
    """
    if isinstance(normalise, str) and normalise != "imagenet":
        raise mistake(f"unknown normalisation {show(normalise)}. Allowed: imagenet, {{mean: [...], std: [...]}}, null")
    return IMAGENET if normalise == "imagenet" else normalise


def expand_square(size: object) -> object:
    """Replace a whole number in a field `size` by a list of the same height and width.

    Validators call this function before pydantic validates the value. Any other value is returned unchanged.
    """
    return [size, size] if isinstance(size, int) and not isinstance(size, bool) else size


Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class Data(Part):
    """The source of the examples, and the settings of their split, normalisation and augmentation.

    In an experiment file, `TEXT` is short for `{source: TEXT}`.
    """

    source: str = Field(
        description=f"One of {', '.join(NAMED)}, or {PATHS}.",
        json_schema_extra={"pattern": rf"^({'|'.join(NAMED)})$|[./:]"},
    )
    size: list[Side] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Height and width in pixels to which all images are resized. Default: the most common size among "
        "the training images.",
    )
    validation: Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Share of the training examples that is held out, stratified by class, or the name of the folder "
        "in the source that holds the validation images. Default: the validation split of the source, or 0.1 if the "
        "source has none.",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="Number of folds for cross-validation on small data sets. Each fold is the validation split of one "
        "full training. Default: one validation split.",
    )
    normalise: Normalisation | None = Field(
        default=None,
        description="Normalisation of both networks' input: imagenet, or {mean: [...], std: [...]} with one number per "
        "channel. Default: mean and standard deviation of the training split.",
    )
    subset: int | None = Field(
        default=None,
        ge=1,
        description="Number of training examples to use, stratified by class. Default: all.",
    )
    labelled: int | None = Field(
        default=None,
        ge=1,
        description="Number of training examples that keep their labels, stratified by class. The others are left out, "
        "unless transfer uses them. Default: all.",
    )
    validate_every: int = Field(
        default=1,
        ge=1,
        description="Number of epochs from one validation to the next. The last epoch is always validated.",
    )
    augment: tuple[Operation, ...] = Field(
        default=(),
        description="Augmentations of the training images, in order: jitter, crop, flip, randaugment, and last mixup "
        "or cutmix, each with its argument, e.g. {jitter: 2}. Or a function of yours: {module:function: {...}}.",
    )
    transfer: Transfer | None = Field(
        default=None,
        description="Examples from which distilled students learn, if they are not the training examples.",
    )
    skip: bool = Field(
        default=False,
        description="If true, unreadable images are left out and recorded. If false, they are an error.",
    )
    strict: bool = Field(
        default=False,
        description="If true, an image in both the training and the test split is an error. If false, it is a warning.",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, raw: object) -> object:
        return {"source": raw} if isinstance(raw, str) else raw

    @field_validator("source", mode="before")
    @classmethod
    def _require_name_or_path(cls, source: object) -> object:
        if isinstance(source, str) and source not in NAMED and not set(source) & set("./:"):
            raise mistake(f"unknown source {show(source)}. {allowed(source, NAMED)}, or {PATHS}")
        return source

    @field_validator("normalise", mode="before")
    @classmethod
    def _expand_imagenet(cls, normalise: object) -> object:
        return expand_imagenet(normalise)

    @field_validator("augment", mode="before")
    @classmethod
    def _parse_augment(cls, raw: object) -> object:
        return parse_operations(raw)

    @field_validator("size", mode="before")
    @classmethod
    def _expand_square(cls, size: object) -> object:
        return expand_square(size)

    @field_validator("validation", mode="before")
    @classmethod
    def _require_share_or_folder(cls, validation: object) -> object:
        if validation is None or (isinstance(validation, str) and validation):
            return validation
        if isinstance(validation, bool) or not isinstance(validation, int | float) or not 0 < validation < 1:
            rule = "a fraction above 0 and below 1, a folder's name, or null"
            raise mistake(f"expected {rule}, got {show(validation)}")
        return validation

    @model_validator(mode="after")
    def _require_folds_or_split(self) -> Self:
        if self.folds is not None and self.validation is not None:
            reason = f"{show(self.validation)} conflicts with folds, each of which is the validation split in turn"
            raise mistake(f"{reason}. Allowed with folds: null", "validation")
        return self

    @model_validator(mode="after")
    def _require_rest(self) -> Self:
        if self.transfer and self.transfer.unlabelled == REST and self.labelled is None:
            reason = "'rest' means the training examples that data.labelled leaves out, but data.labelled is null"
            raise mistake(f"{reason}. Allowed: a path, or 'rest' with data.labelled", "transfer", "unlabelled")
        return self

    @model_validator(mode="after")
    def _require_source_with_folders(self) -> Self:
        has_folders = not (
            self.source in NAMED or ":" in self.source or self.source.lower().endswith((".npz", ".parquet"))
        )
        if isinstance(self.validation, str) and not has_folders:
            reason = f"{self.source} has no folder {show(self.validation)}"
            raise mistake(f"{reason}. Allowed: a fraction above 0 and below 1, or null", "validation")
        return self

    @property
    def adds_images(self) -> bool:
        """Whether distilled students learn from additional images. Students without a teacher never do."""
        return bool(self.transfer and (self.transfer.unlabelled or self.transfer.made))

    @property
    def generator(self) -> str | None:
        """The registered generator that makes images for distilled students. `None` if no generator is set."""
        return self.transfer.generator if self.transfer else None
