"""Published recipes, which an experiment file names in its field `recipe`.

A recipe sets fields that the file does not set. Networks and data are always the file's own.
"""

from collections.abc import Mapping

from kdmodels.errors import allowed
from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.experiment.presets import PRESETS
from kdmodels.experiment.schema import mistake, show

RECIPES = ("cifar-repdistiller",)

EPOCHS = 240
STEPS = (150 / 240, 180 / 240, 210 / 240)  # shares of the training after which the learning rate is divided by 10
RATE = 0.05
MOBILE_RATE = 0.01  # for MobileNetV2 and ShuffleNet
DECAY = 5e-4
MOBILE = ("mobilenetv2", "shufflenetv1", "shufflenetv2")
WITHOUT_HE = ("shufflenetv1", "shufflenetv2")  # families with torch's default initialisation

Fields = dict[str, object]
Places = list[str | dict[str, str]]


def with_recipe(raw: Fields) -> Fields:
    """Return an unvalidated experiment with the fields of its recipe, and `recipe: null`.

    The recipe `cifar-repdistiller` has the settings of the code of Tian et al., "Contrastive representation
    distillation", 2020. Values that are not of the expected type are left to the validation of the experiment.

    Args:
        raw: Experiment as written in the file. If its field `recipe` is missing or null, it is returned unchanged.

    Raises:
        PydanticCustomError: The recipe is unknown.
    """
    name = raw.get("recipe")
    if name is None:
        return raw
    if name not in RECIPES:
        raise mistake(f"unknown recipe {show(name)}. {allowed(str(name), RECIPES)}", "recipe")
    student, teacher, variants, data = (raw.get(field) for field in ("student", "teacher", "variants", "data"))
    completed = raw | {"recipe": None}
    data = {"source": data} if isinstance(data, str) else data
    if isinstance(data, dict):
        completed["data"] = {"augment": [{"crop": 4}, {"flip": True}]} | data
    if isinstance(student, dict):
        completed["student"] = _training(student) | student
    if teacher is not None:
        completed["teacher"] = _with_training(teacher)
    if isinstance(variants, list) and isinstance(student, dict):
        places = _Places(_name_of(student), _name_of(teacher))
        completed["variants"] = [_variant(item, student, places) for item in variants]
    return completed


def _with_training(teacher: object) -> object:
    """Return a teacher, or each member of an ensemble, with the training of the recipe."""
    if isinstance(teacher, list):
        return [_with_training(member) for member in teacher]
    if not isinstance(teacher, dict) or teacher.get("checkpoint") or teacher.get("registry"):
        return teacher
    if "ensemble" in teacher:
        return teacher | {"ensemble": _with_training(teacher["ensemble"])}
    return _training(teacher) | teacher


def _training(network: Fields) -> Fields:
    """Return the training settings of a teacher or student. The learning rate's steps scale with the epochs."""
    epochs = network.get("epochs", EPOCHS)
    length = epochs if isinstance(epochs, int) and epochs > 0 else EPOCHS
    return {
        "epochs": EPOCHS,
        "batch": 64,
        "decay_norms": True,
        "schedule": {"step": {"at": sorted({max(1, round(share * length)) for share in STEPS}), "factor": 0.1}},
        **_of_network(_name_of(network)),
    }


def _of_network(name: str | None) -> Fields:
    """Return the settings that depend on the network: optimizer and initialisation."""
    family = ARCHITECTURES[name].family if name else None
    rate = MOBILE_RATE if family in MOBILE else RATE
    return {
        "optimizer": {"sgd": {"lr": rate, "momentum": 0.9, "weight_decay": DECAY}},
        "init": "fan_out" if name and family not in WITHOUT_HE else None,
    }


def _name_of(network: object) -> str | None:
    """Return the name of a teacher's or student's network in the catalogue. None if it is another network."""
    described = network.get("network") if isinstance(network, dict) else None
    name = described.get("name") if isinstance(described, dict) else described
    return name if isinstance(name, str) and name in ARCHITECTURES else None


class _Places:
    """The places where losses take features, for a student and a teacher.

    If both networks are in the catalogue and have equally many stages, the places are the outputs of all stages, as in
    the recipe. A VGG's first stage does not count. Otherwise, the places are `first`, `middle` and `deepest`.
    """

    def __init__(self, student: str | None, teacher: str | None) -> None:
        self.stages: Places = ["first", "middle", "deepest"]
        self.second: Places = ["middle"]
        self.with_stem: Places = self.stages
        if student and teacher and len(_stages(student)) == len(_stages(teacher)):
            self.stages = _paired(_stages(student), _stages(teacher))
            self.second = self.stages[1:2]
            self.with_stem = _paired([_stem(student)], [_stem(teacher)]) + self.stages

    def of(self, loss: str) -> Fields:
        """Return the fields of a loss's term that differ from the loss's defaults."""
        places: Mapping[str, Fields] = {
            "attention_transfer": {"at": self.stages},
            "neuron_selectivity": {"at": self.stages},
            "variational_information": {"at": self.stages},
            "flow_of_solution": {"at": self.with_stem},
            "activation_boundaries": {"at": self.stages},
            "overhaul": {"at": self.stages},
            "hint": {"at": self.second, "activation": "relu"},
        }
        return places.get(loss, {})


def _stages(name: str) -> list[str]:
    architecture = ARCHITECTURES[name]
    first = 2 if architecture.family == "vgg" else 1
    return [f"block{number}" for number in range(first, len(architecture.stages) + 1)]


def _stem(name: str) -> str:
    """Return the place of a network's first features."""
    return {"vgg": "block1", "mobilenetv2": "stem.0"}.get(ARCHITECTURES[name].family, "stem")


def _paired(student: list[str], teacher: list[str]) -> Places:
    pairs = zip(student, teacher, strict=True)
    return [one if one == other else {"student": one, "teacher": other} for one, other in pairs]


def _variant(item: object, student: Fields, places: _Places) -> object:
    """Return an item of the field `variants` with the settings of the recipe.

    The name of a preset becomes a variant with published weights and places. If a variant has another network, its
    student has the optimizer and the initialisation of that network. Other items do not change.
    """
    if isinstance(item, str) and item in PRESETS:
        return {"name": item, "terms": [_term(item, number, places) for number in range(len(PRESETS[item].published))]}
    if isinstance(item, dict) and isinstance(item.get("student"), dict) and "network" in item["student"]:
        chosen = _of_network(_name_of(item["student"])).items()
        return item | {"student": {key: value for key, value in chosen if key not in student} | item["student"]}
    return item


def _term(preset: str, number: int, places: _Places) -> Fields:
    term = PRESETS[preset].published[number]
    shared = {"weight": term.weight, "warmup": term.warmup, "cosine": term.cosine}
    at = {} if term.at is None else {"at": term.at}
    return {term.loss: shared | at | term.hyperparameters | places.of(term.loss)}
