"""The classes of which a row of the loss catalogue consists. The rows are in `catalogue.py`.

This module does not import torch.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from kdmodels.errors import allowed
from kdmodels.experiment.schema import show


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter with a number as its value.

    Attributes:
        default: The default value. `None` if the default depends on the shapes of the features. In this case, a term
            has no value for the hyperparameter unless the experiment file sets it.
        low: The lower end of the interval of allowed values.
        high: The upper end of the interval. The upper end is not an allowed value.
        low_inclusive: Whether the lower end is an allowed value.
        whole: Whether only whole numbers are allowed.
        derived: If `default` is `None`, a description of the default in words.
        tune: The range in which a search tunes the hyperparameter, on a logarithmic scale. `None` if it is not tuned.
            The function of the loss must accept a tuned hyperparameter as a tensor without dimensions.
    """

    default: float | None
    low: float
    high: float = float("inf")
    low_inclusive: bool = False
    whole: bool = False
    derived: str = ""
    tune: tuple[float, float] | None = None

    def __str__(self) -> str:
        """Return the interval of allowed values, in words.

        >>> str(Hyperparameter(0.1, low=0, high=1, low_inclusive=True))
        '0 or more and below 1'
        """
        low = f"{self.low:g} or more" if self.low_inclusive else f"above {self.low:g}"
        kind = "a whole number, " if self.whole else ""
        return f"{kind}{low}" if self.high == float("inf") else f"{kind}{low} and below {self.high:g}"

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed.

        >>> Hyperparameter(4.0, low=0).problem(-1)
        '-1 is out of range. Allowed: above 0'
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and value != value // 1):
            return f"{show(value)} is not a {'whole ' if self.whole else ''}number. Allowed: {self}"
        above = self.low <= value if self.low_inclusive else self.low < value
        if above and value < self.high and value <= sys.float_info.max:
            return None
        return f"{show(value)} is out of range. Allowed: {self}"

    def converted(self, value: object) -> float:
        """Return `value` as a float. `value` must be allowed."""
        assert isinstance(value, int | float)
        return float(value)


@dataclass(frozen=True)
class Choice:
    """A hyperparameter with a word as its value.

    Attributes:
        default: The default value. `None` if a term has no value for the hyperparameter unless the experiment file sets
            it.
        words: The allowed words.
    """

    default: str | None
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.words)

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed.

        >>> Choice("euclidean", ("euclidean", "cosine")).problem("manhattan")
        "'manhattan' is not a known value. Allowed: euclidean, cosine"
        """
        if value in self.words:
            return None
        return f"{show(value)} is not a known value. {allowed(str(value), self.words)}"

    def converted(self, value: object) -> str:
        """Return `value` as a string. `value` must be allowed."""
        return str(value)


@dataclass(frozen=True)
class Argument:
    """A hyperparameter of a user's own loss: a keyword-only argument.

    Attributes:
        types: The types of the allowed values.
        required: Whether the argument has no default.
        default: The default. `None` if there is no default, or if the default is not a number, text or boolean. A term
            then has no value for the argument unless the experiment file sets it.
        words: The allowed texts. Empty if all texts are allowed.
    """

    types: tuple[type[float | str], ...]
    required: bool
    default: float | str | None = None
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the allowed values, in words.

        >>> str(Argument((bool, float), required=False)), str(Argument((str,), required=True, words=("l1", "l2")))
        ('true or false, or a number', "'l1' or 'l2'")
        """
        if self.words:
            return " or ".join(map(repr, self.words))
        return ", or ".join(_IN_WORDS[each] for each in self.types)

    def problem(self, value: object) -> str | None:
        """Return a description of the problem with a value. Return `None` if the value is allowed.

        >>> Argument((int,), required=True).problem(2.5)
        'expected a whole number, got 2.5'
        """
        is_allowed = type(value) in self.types or (type(value) is int and float in self.types)
        if is_allowed and (value in self.words or not self.words) and (type(value) is not float or isfinite(value)):
            return None
        return f"expected {self}, got {show(value)}"

    def converted(self, value: object) -> float | str:
        """Return `value`, which must be allowed, in the type of the hyperparameter.

        An integer is converted to float if the hyperparameter accepts floats but not integers.
        """
        assert isinstance(value, int | float | str)
        return float(value) if type(value) is int and int not in self.types else value


_IN_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}


Kind = Hyperparameter | Choice | Argument
Needs = Literal[
    "labels",
    "logits",
    "logits and labels",
    "features",
    "features and labels",
    "logits and features",
    "logits and features and labels",
]


@dataclass(frozen=True)
class Loss:
    """The description of a loss of `kdmodels.losses`, or of a user's own loss (see `user_losses.py`).

    Attributes:
        needs: The inputs that the loss needs in addition to the student's outputs. `logits` means the teacher's logits.
        file: The name of the module of `kdmodels.losses` that contains the loss. The mapping `BUILDERS` of this module
            contains the builder of the loss.
        formula: The formula of the loss. Letters: z logits, F features, G Gram matrices, s student, t teacher,
            B examples, K classes.
        paper: The paper that introduced the loss.
        weight: The usual weight, its source, and the batch size for which the weight was published. If the value of the
            loss does not depend on the batch size, the batch size is "any".
        cost: The cost of one step, without the student's forward and backward pass. Letters: D features, C channels,
            P positions.
        hyperparameters: The hyperparameters of the loss or of its modules, by name.
        places: The places in the networks where features are taken if a term has no field `at`.
        takes: The shape of the features that the loss takes. For `maps`, the shape is (B, C, H, W). For `embeddings`,
            the shape is (B, D), and maps are first averaged over their positions.
        joint: Whether the loss receives the features of all places together, as lists. If false, the loss is computed
            for one place at a time.
        per_batch: Whether the loss compares the examples of a batch with each other and has one value per batch.
        falls_with_batch: Whether the value of the loss falls as 1 / B. The objective then multiplies the value by B /
            `WEIGHT_BATCH`, so that a weight has the same effect at every batch size. The values of all other losses
            depend on B only weakly, by a relative change of about 1 / B.
        modules: The name of the class of the loss's module, which has parameters or memory. `None` if the loss has no
            module.
        ensemble: The form in which the loss receives the logits of an ensemble of M teachers. `softened`, (B, K),
            means logits whose softmax at the term's temperature is the mean of the members' softmax distributions.
            `mean`, (B, K), means the mean of the members' logits, for losses that compare logits without softmax.
            `members`, (B, M, K), means the logits of each member.
        opponent: If the module is trained against the student, the metric name of the value that it minimises, e.g.
            `discriminator`. Otherwise, `None`.
        remembers: Whether the loss stores data for each training example. Such a loss needs the indices and labels of
            the examples, and has no value for validation examples.
        version: The version of the loss. Increase the version if the results of the loss change. Runs with an older
            version are then not reused.
        inputs: The names of the positional arguments of a user's own loss, in order. Empty for a loss of the catalogue.
    """

    needs: Needs
    file: str
    formula: str
    paper: str
    weight: str
    cost: str
    hyperparameters: Mapping[str, Kind] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    takes: Literal["any", "maps", "embeddings"] = "any"
    joint: bool = False
    per_batch: bool = False
    falls_with_batch: bool = False
    modules: str | None = None
    ensemble: Literal["softened", "mean", "members"] = "mean"
    opponent: str | None = None
    remembers: bool = False
    version: int = 1
    inputs: tuple[str, ...] = ()
