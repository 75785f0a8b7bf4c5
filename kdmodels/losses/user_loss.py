"""The user's own losses: the builder for a function or an `nn.Module` class, and the checks before training."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
from pydantic_core import PydanticCustomError
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from kdmodels.experiment.loss import Loss
from kdmodels.experiment.terms import parse_hyperparameters
from kdmodels.experiment.user_losses import SHAPES, read_loss
from kdmodels.losses.term_loss import Builder, LossInputs, LossSetting, Shape, TermLoss, total
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.user_imports import import_code

EXAMPLES = 11  # number of random examples in a trial; few data sets have 11 classes, so mixed-up shapes fail
Value = Callable[[LossInputs, nn.Module | None], Tensor]


class UserLoss(nn.Module):
    """The module of a user's loss. Its parameters are trained together with the student.

    Args:
        create: Function that creates the user's module and draws its initial parameters. The function may use torch's
            global generator.
    """

    def __init__(self, create: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.create, self.loss = create, create()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the value of the loss, (B,) or ()."""
        value: Tensor = self.loss(*inputs)
        return value

    def initialise(self, generator: Generator) -> None:
        """Draw the initial parameters from a generator."""
        with isolated_rng(generator):
            fresh = self.create().state_dict()
        for name, tensor in self.loss.state_dict().items():
            tensor.copy_(fresh[name])


def builder_of(name: str, inputs: Sequence[str]) -> Builder:
    """Return the builder of a user's loss.

    The builder imports the loss, and tries it on random examples. It raises ValueError if the loss cannot be used for
    training, and UsageError if the loss's code is not allowed to run.

    Args:
        name: The name of the loss, as `module:name`.
        inputs: The names of the loss's positional arguments when the experiment file was read.
    """

    def build(setting: LossSetting) -> TermLoss:
        row = _row(name, inputs, setting)
        target = import_code("terms", name)
        if row.modules is None:
            return _tried(partial(_value_of_function, target, inputs, setting), None, inputs, setting)
        modules = nn.ModuleList(UserLoss(partial(_created, target, setting, place)) for place in _places(setting))
        frozen = [name for name, parameter in modules.named_parameters() if not parameter.requires_grad]
        if frozen:
            raise ValueError(f"the frozen parameters {', '.join(frozen)} would be trained. Allowed: buffers")
        return _tried(partial(_value_of_modules, inputs), modules, inputs, setting)

    return build


def _row(name: str, inputs: Sequence[str], setting: LossSetting) -> Loss:
    """Describe a user's loss like a row of the catalogue. Raise ValueError if the loss does not fit the experiment."""
    row = read_loss(name)
    if list(row.inputs) != list(inputs):
        was, now = (", ".join(names) for names in (inputs, row.inputs))
        raise ValueError(f"its positional arguments are {now}, but the experiment says {was} in inputs")
    try:
        parse_hyperparameters(name, row, dict(setting.hyperparameters))
    except PydanticCustomError as error:
        (key,) = (error.context or {})["path"]
        raise ValueError(f"{key}: {error.message()}") from error
    return row


def _created(target: Callable[..., nn.Module], setting: LossSetting, place: int) -> nn.Module:
    """Create the user's module for one place where features are taken.

    If the loss takes no features, the module gets the shape of the logits, (K,), instead of the shapes of features.
    """
    logits = (setting.classes,)
    student, teacher = (each[place] if each else logits for each in (setting.student_shapes, setting.teacher_shapes))
    known = dict(zip(SHAPES, (student, teacher, setting.classes), strict=True))
    wanted = {name: value for name, value in known.items() if name in inspect.signature(target).parameters}
    with _errors_of_user():
        return target(**wanted, **setting.hyperparameters)


def _places(setting: LossSetting) -> range:
    return range(len(setting.student_shapes) or 1)


def _value_of_function(
    function: Callable[..., Tensor], names: Sequence[str], setting: LossSetting, inputs: LossInputs, _: None
) -> Tensor:
    hyperparameters = {**setting.hyperparameters, **inputs.varied}
    return total(function(*_arguments(names, inputs, place), **hyperparameters) for place in _places(setting))


def _value_of_modules(names: Sequence[str], inputs: LossInputs, modules: nn.ModuleList) -> Tensor:
    return total(module(*_arguments(names, inputs, place)) for place, module in enumerate(modules))


def _arguments(names: Sequence[str], inputs: LossInputs, place: int) -> list[Tensor]:
    """Return the positional arguments of a user's loss. The teacher's tensors are detached."""
    values = [getattr(inputs, name) for name in names]
    tensors = [value[place] if name.endswith("features") else value for name, value in zip(names, values, strict=True)]
    return [
        tensor.detach() if name.startswith("teacher") else tensor for name, tensor in zip(names, tensors, strict=True)
    ]


@contextmanager
def _errors_of_user() -> Iterator[None]:
    """Convert any error that the user's code raises to a ValueError."""
    try:
        yield
    except Exception as error:  # the user's code raises errors of any kind
        line = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"raised {type(error).__name__}{f': {line}' if line else ''}") from error


def _tried(value: Value, modules: nn.Module | None, inputs: Sequence[str], setting: LossSetting) -> TermLoss:
    """Try a loss on random examples, and return the loss as a `TermLoss`.

    The trial shows whether the loss compares examples (`per_batch`), and whether it works under `vmap` (`vmaps`).

    Raises:
        ValueError: The loss raises an error, or cannot train a student because of its value or its gradient.
    """
    trial = _Trial(value, deepcopy(modules))
    generator = generator_for(0, "user loss")
    batch, other = _random_batch(setting, generator), _random_batch(setting, generator)
    before = torch.get_rng_state()
    with _errors_of_user():
        values = trial(batch)
    draws = not torch.equal(torch.get_rng_state(), before)
    _require_values(values, inputs)
    _require_gradient(values, batch, inputs)
    per_batch = draws or values.ndim == 0 or not _is_by_example(trial, batch, values)
    return TermLoss(value, modules, per_batch=per_batch, vmaps=not draws and _works_under_vmap(trial, [batch, other]))


class _Trial(nn.Module):
    """Module that computes a loss from `LossInputs` and contains the modules of the loss."""

    def __init__(self, value: Value, modules: nn.Module | None) -> None:
        super().__init__()
        self.value, self.own = value, modules

    def forward(self, inputs: LossInputs) -> Tensor:
        return self.value(inputs, self.own)


def _random_batch(setting: LossSetting, generator: Generator) -> LossInputs:
    def draw(shape: Shape, *, trained: bool) -> Tensor:
        return torch.randn(EXAMPLES, *shape, generator=generator).requires_grad_(trained)

    logits = (setting.classes,)
    return LossInputs(
        draw(logits, trained=True),
        draw(logits, trained=False),
        torch.arange(EXAMPLES) % setting.classes,
        torch.arange(EXAMPLES),
        [draw(shape, trained=True) for shape in setting.student_shapes],
        [draw(shape, trained=False) for shape in setting.teacher_shapes],
    )


def _require_values(values: Tensor, inputs: Sequence[str]) -> None:
    kinds = f"one value per example, (B,){'' if 'labels' in inputs else ', or one per batch, ()'}"
    if values.shape != (EXAMPLES,) and (values.ndim or "labels" in inputs):
        raise ValueError(f"returned shape {tuple(values.shape)} for {EXAMPLES} examples. Allowed: {kinds}")
    if not values.isfinite().all():
        wrong = values[~values.isfinite()][0].item()
        raise ValueError(f"returned {wrong} for random examples. Allowed: finite values")


def _require_gradient(values: Tensor, batch: LossInputs, inputs: Sequence[str]) -> None:
    gradients = _gradients(values, [batch]) if values.requires_grad else []
    if not any(gradient.any() for gradient in gradients):
        names = " and ".join(name for name in inputs if name.startswith("student"))
        raise ValueError(f"has no gradient for {names}. Allowed: a loss that trains the student")
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise ValueError("has a gradient of infinity or NaN for random examples. Allowed: finite gradients")


def _gradients(values: Tensor, batches: Iterable[LossInputs]) -> list[Tensor]:
    """Return the gradients of the sum of `values` with respect to the student's tensors.

    Tensors without a gradient are left out.
    """
    tensors = [tensor for batch in batches for tensor in (batch.student_logits, *batch.student_features)]
    gradients = torch.autograd.grad(values.sum(), tensors, allow_unused=True, retain_graph=True)
    return [gradient for gradient in gradients if gradient is not None]


def _is_by_example(trial: _Trial, batch: LossInputs, values: Tensor) -> bool:
    """Return whether the value of an example does not depend on the other examples of its batch."""
    part = EXAMPLES // 2
    tensors, rebuild = _flat(batch)
    with torch.no_grad():
        alone = trial(rebuild([tensor[:part] for tensor in tensors]))
    return _is_close(alone, values[:part])


def _works_under_vmap(trial: _Trial, batches: Sequence[LossInputs]) -> bool:
    """Return whether `torch.func.vmap` gives the same losses and gradients of several replicas as a loop."""
    state = {**dict(trial.named_parameters()), **dict(trial.named_buffers())}
    states = {name: torch.stack([tensor.detach().clone() for _ in batches]) for name, tensor in state.items()}
    flat = [_flat(batch)[0] for batch in batches]
    rebuild = _flat(batches[0])[1]

    def mean(own: dict[str, Tensor], *tensors: Tensor) -> Tensor:
        return functional_call(trial, own, (rebuild(tensors),)).mean()

    try:
        together = vmap(mean)(states, *map(torch.stack, zip(*flat, strict=True)))
        gradients = _gradients(together, batches)
    except Exception:  # torch and the user's code raise errors of any kind
        return False
    alone = [mean({name: tensor.detach().clone() for name, tensor in state.items()}, *tensors) for tensors in flat]
    expected = _gradients(torch.stack(alone), batches)
    pairs = zip([together, *gradients], [torch.stack(alone), *expected], strict=True)
    return len(gradients) == len(expected) and all(_is_close(one, two) for one, two in pairs)


def _is_close(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5)  # equal up to rounding


def _flat(batch: LossInputs) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], LossInputs]]:
    """Return the tensors of a batch as a list, and a function that converts such a list to a batch."""
    count = len(batch.student_features)

    def rebuild(tensors: Sequence[Tensor]) -> LossInputs:
        student_logits, teacher_logits, labels, indices, *features = tensors
        return LossInputs(student_logits, teacher_logits, labels, indices, features[:count], features[count:])

    return [*batch[:4], *batch.student_features, *batch.teacher_features], rebuild
