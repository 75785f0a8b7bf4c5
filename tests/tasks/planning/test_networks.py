"""The networks of an experiment as they will be built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.data import IMAGENET
from kdmodels.experiment.recipe import Member
from tasks.planning.networks import checkpoint_digest, checkpoint_network, describe_teacher, sized
from tasks.references import DataReference
from tests.support.authors import authors_state
from tests.tasks.planning.conftest import small_experiment


def test_a_budget_becomes_a_width_and_a_depth(data: DataReference) -> None:
    document = small_experiment("kd").model_dump(mode="json")
    document["student"]["network"] = {"compact": {"block": "depthwise", "budget": 2_000}}
    planned = sized(Experiment.model_validate(document), data)
    compact = planned.student.network.model_dump(mode="json")["compact"]
    assert compact == {"block": "depthwise", "budget": {"parameters": 2_000}, "width": 8, "depth": 6}
    assert planned.teacher == small_experiment("kd").teacher
    assert sized(planned, data) == planned


def test_a_student_over_its_budget_is_an_error(data: DataReference) -> None:
    document = small_experiment("kd").model_dump(mode="json")
    document["student"]["network"] = {"compact": {"block": "plain", "budget": 2_000, "width": 16, "depth": 4}}
    with pytest.raises(UserError, match=r"plain of width 16 and depth 4 has [\d,]+ parameters\. Allowed .* 2,000$"):
        sized(Experiment.model_validate(document), data)


def member(**fields: Any) -> Member:
    return Member.model_validate({"network": {"mlp": [8]}, "epochs": 1} | fields)


def test_a_teacher_may_have_a_normalisation_and_a_size_of_its_own(data: DataReference) -> None:
    described = describe_teacher(member(normalise={"mean": [0.2], "std": [0.4]}, size=16), data)
    assert (described.mean, described.std, described.size) == ([0.2], [0.4], (16, 16))
    assert described.input_shape == data.input_shape
    assert described.build()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    plain = describe_teacher(member(), data)
    assert (plain.mean, plain.std, plain.size) == (data.mean, data.std, None)


def test_a_teacher_trained_on_data_of_its_own_is_normalised_by_them(data: DataReference) -> None:
    own = member(data={"source": "digits", "subset": 50})
    assert own.data is not None
    reference = data.model_copy(update={"data": own.data, "mean": [0.1], "std": [0.3]})
    described = describe_teacher(own, data.model_copy(update={"teachers": [reference]}))
    assert (described.mean, described.std) == ([0.1], [0.3])


def test_torchvisions_networks_take_the_normalisation_of_colours_for_grey_images(data: DataReference) -> None:
    network = describe_teacher(member(network={"torchvision": "resnet18"}, normalise="imagenet", size=32), data).build()
    seen: list[torch.Tensor] = []
    network.get_submodule("normalise").register_forward_hook(lambda _, __, output: seen.append(output))
    network.eval()(torch.full((1, 1, 8, 8), 0.7))
    expected = (0.7 - torch.tensor(IMAGENET["mean"])) / torch.tensor(IMAGENET["std"])
    assert torch.allclose(seen[0], expected.view(1, 3, 1, 1).expand(1, 3, 32, 32))
    with pytest.raises(UserError, match=r"^teacher\.normalise: expected one number per channel, got 3\. Allowed: 1$"):
        describe_teacher(member(normalise="imagenet"), data)
    two = {"mean": [0.5, 0.5], "std": [1.0, 1.0]}
    with pytest.raises(UserError, match=r"^teacher\.normalise: expected one number .* got 2\. Allowed: 1 or 3$"):
        describe_teacher(member(network={"torchvision": "resnet18"}, normalise=two), data)


def test_a_budget_counts_the_resized_images(data: DataReference) -> None:
    document = small_experiment("kd").model_dump(mode="json")
    document["teacher"] |= {"network": {"compact": {"block": "depthwise", "budget": {"flops": 400_000}}}, "size": 32}
    large = sized(Experiment.model_validate(document), data).teacher
    small = sized(Experiment.model_validate(document | {"teacher": document["teacher"] | {"size": 16}}), data).teacher
    for teacher in (large, small):
        assert teacher.network is not None
        assert teacher.network.compact is not None
    assert large.network != small.network


def test_a_checkpoint_with_a_normalisation_keeps_it(data: DataReference, tmp_path: Path) -> None:
    state = describe_teacher(member(), data).build().state_dict()
    file = tmp_path / "teacher.safetensors"
    own = {"mean": [0.2], "std": [0.4]}
    teacher = member(epochs=0, checkpoint=str(file), normalise=own, size=8)
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("normalise.")}, file)
    network, description = checkpoint_network(teacher, data)
    assert network.state_dict()["normalise.mean"].item() == pytest.approx(0.2)
    assert description.size == (8, 8)
    save_file(state, file)
    with pytest.raises(UserError, match=r"^teacher\.normalise: conflicts with the normalisation in .*Allowed: null$"):
        checkpoint_network(teacher, data)


def test_a_checkpoint_of_a_network_of_the_catalogue_may_have_its_authors_names(
    data: DataReference, tmp_path: Path
) -> None:
    teacher = member(network="resnet8x4", epochs=0, checkpoint=str(tmp_path / "teacher.pth"))
    state = describe_teacher(teacher, data).build().state_dict()
    tensors = [tensor + 1 for name, tensor in state.items() if not name.startswith("normalise.")]
    torch.save({"model": dict(zip(authors_state("resnet8x4"), tensors, strict=True))}, tmp_path / "teacher.pth")
    network, _ = checkpoint_network(teacher, data)
    assert torch.equal(network.state_dict()["head.bias"], state["head.bias"] + 1)


def test_the_digest_of_a_checkpoint_depends_on_the_loaded_weights_alone(data: DataReference, tmp_path: Path) -> None:
    def digest(file: str, **choice: str) -> str:
        return checkpoint_digest(member(epochs=0, checkpoint=str(tmp_path / file), **choice), data)

    network = describe_teacher(member(), data).build()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("normalise.")}
    other = {name: tensor + 1 for name, tensor in state.items()}
    save_file(state, tmp_path / "flat.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "prefix.pt")
    torch.save({"model": state, "model_ema": other, "epoch": 3}, tmp_path / "both.pt")
    assert digest("flat.safetensors") == digest("prefix.pt") == digest("prefix.pt", prefix="module.")
    assert digest("flat.safetensors") == digest("both.pt", key="model") != digest("both.pt", key="model_ema")
    save_file(network.state_dict(), tmp_path / "normalised.safetensors")
    assert digest("normalised.safetensors") != digest("flat.safetensors")  # the normalisation of the file is loaded
    with pytest.raises(UserError, match="the weights under model and model_ema all fit the network"):
        digest("both.pt")
