"""What an experiment file may say of its data."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from kdmodels.errors import allowed
from kdmodels.schema import Part, mistake, show
from kdmodels.views import Operation, operations

TORCHVISION = ("mnist", "fashion-mnist", "kmnist", "usps", "cifar10", "cifar100", "svhn", "stl10")
NAMED = ("digits", *TORCHVISION)
PATHS = "a path, as ./photos, photos.zip, arrays.npz or table.parquet; or module:function"
LARGEST_SIDE = 8192  # pixels


class Transfer(Part):
    """What the student learns from beside the training examples."""

    later: ClassVar = {"classes": None, "generator": None, "count": None, "mix": None}

    unlabelled: str = Field(min_length=1, description="A folder or a zip of images; their classes are not asked for.")


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # as torchvision's weights expect


class Normalisation(Part):
    """What is subtracted from each channel of an image in [0, 1], and what the rest is divided by."""

    mean: list[float] = Field(min_length=1, description="One number a channel.")
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=1, description="One number a channel.")

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.mean) != len(self.std):
            raise mistake(f"{len(self.std)} numbers; allowed: as many as in mean, {len(self.mean)}", "std")
        return self


class Data(Part):
    """The examples, and which of the training ones are held out to choose by. Also written as its source alone."""

    source: str = Field(
        description=f"One of {', '.join(NAMED)}; or {PATHS}.",
        json_schema_extra={"pattern": rf"^({'|'.join(NAMED)})$|[./:]"},
    )
    size: list[Annotated[int, Field(ge=1, le=LARGEST_SIDE)]] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Height and width that every image is resized to; null: the training images' most common ones.",
    )
    validation: Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Share of the training examples held out, stratified, or the name of the source's folder that "
        "holds them; null: the source's own validation split, and 0.1 where it has none.",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="Cross-validation, for small sets: so many parts of the training examples are the validation split "
        "in turn, and all is trained for each; null: one validation split.",
    )
    normalise: Normalisation | None = Field(
        default=None,
        description="How both networks' input is normalised: imagenet, or {mean: [...], std: [...]}, one number a "
        "channel; null: by the training split's own mean and deviation.",
    )
    subset: int | None = Field(
        default=None, ge=1, description="So many of the training examples, stratified, stand for all; null: all."
    )
    augment: tuple[Operation, ...] = Field(
        default=(),
        description="What is done to the training images, in this order: jitter, crop, flip, randaugment, and last "
        "mixup or cutmix, each with its argument: {jitter: 2}.",
    )
    transfer: Transfer | None = Field(default=None, description="Examples beside the training ones; null: none.")
    skip: bool = Field(
        default=False, description="True: unreadable images are left out and recorded; false: they are an error."
    )
    strict: bool = Field(
        default=False, description="True: the same image in train and test is an error; false: it is said."
    )

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, raw: Any) -> Any:
        return {"source": raw} if isinstance(raw, str) else raw

    @field_validator("source", mode="before")
    @classmethod
    def _known_or_a_path(cls, source: Any) -> Any:
        if isinstance(source, str) and source not in NAMED and not set(source) & set("./:"):
            raise mistake(f"{show(source)} is not a source; {allowed(source, NAMED)}; or {PATHS}")
        return source

    @field_validator("normalise", mode="before")
    @classmethod
    def _by_name(cls, normalise: Any) -> Any:
        if isinstance(normalise, str) and normalise != "imagenet":
            raise mistake(f"{show(normalise)} is not known; allowed: imagenet, {{mean: [...], std: [...]}}, null")
        return IMAGENET if normalise == "imagenet" else normalise

    @field_validator("augment", mode="before")
    @classmethod
    def _operations(cls, raw: Any) -> Any:
        return operations(raw)

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: Any) -> Any:
        return [size, size] if isinstance(size, int) and not isinstance(size, bool) else size

    @field_validator("validation", mode="before")
    @classmethod
    def _share_or_folder(cls, validation: Any) -> Any:
        rule = "above 0 and below 1, or a folder's name, or null"
        if validation is None or (isinstance(validation, str) and validation):
            return validation
        if isinstance(validation, bool) or not isinstance(validation, int | float):
            raise mistake(f"{show(validation)} is not a share or a folder (allowed: {rule})")
        if not 0 < validation < 1:
            raise mistake(f"{show(validation)} is out of range (allowed: {rule})")
        return validation

    @model_validator(mode="after")
    def _folds_or_a_split(self) -> Self:
        if self.folds is not None and self.validation is not None:
            told = f"{show(self.validation)}: with folds each is the validation split in turn; allowed with folds: null"
            raise mistake(told, "validation")
        return self

    @model_validator(mode="after")
    def _folder_of_folders(self) -> Self:
        foldless = self.source in NAMED or ":" in self.source or self.source.lower().endswith((".npz", ".parquet"))
        if isinstance(self.validation, str) and foldless:
            told = f"{show(self.validation)}: {self.source} has no folders (allowed: above 0 and below 1, or null)"
            raise mistake(told, "validation")
        return self
