"""ONNX files of generators make the images of the network."""

import json

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from kdmodels.errors import UserError
from kdmodels.generators import served as module
from kdmodels.generators.build import GeneratorDescription
from kdmodels.generators.served import served_file
from kdmodels.serving.generator_file import ServedGenerator
from kdmodels.serving.model_file import CLASSES, ServedModel
from kdmodels.serving.refusal import RefusedError
from tests.kdmodels.generators.test_build import describe


def made(kind: str, *, conditional: bool) -> tuple[GeneratorDescription, torch.nn.Module]:
    torch.manual_seed(0)
    description = describe(kind, conditional=conditional)
    return description, description.build().eval()


@pytest.fixture(scope="module")
def content() -> bytes:
    description, network = made("vae", conditional=True)
    return served_file(description, network, "run-1")


@pytest.mark.parametrize(("kind", "conditional"), [("vae", True), ("gan", False)])
def test_the_file_makes_the_images_of_the_network(kind: str, conditional: bool) -> None:
    description, network = made(kind, conditional=conditional)
    served = ServedGenerator(served_file(description, network, "run-1"))
    assert (served.latent, served.image_shape, served.conditional) == (3, (1, 4, 4), conditional)
    assert served.classes == (["a", "b"] if conditional else [])
    codes, labels = torch.randn(300, 3), torch.arange(300) % 2  # more than a batch of the file
    with torch.no_grad():
        expected = network(codes, labels).numpy()
    np.testing.assert_allclose(served(codes.numpy(), labels.numpy()), expected, atol=1e-5)


def test_samples_depend_on_the_seed_and_more_of_them_begin_alike(content: bytes) -> None:
    served, labels = ServedGenerator(content), np.arange(6) % 2
    images = served.sample(labels, seed=1)
    assert images.shape == (6, 1, 4, 4)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_allclose(served.sample(labels[:4], seed=1), images[:4], atol=1e-6)
    assert not np.allclose(served.sample(labels, seed=2), images)
    assert not np.allclose(served.sample(1 - labels, seed=1), images)


def test_the_digest_is_that_of_the_weights(content: bytes) -> None:
    description, network = made("vae", conditional=True)
    again = ServedGenerator(served_file(description, network, "run-2"))
    assert again.digest == ServedGenerator(content).digest
    with torch.no_grad():
        network.decoder[0].bias[0] += 1
    assert ServedGenerator(served_file(description, network, "run-1")).digest != again.digest


def test_the_metadata_describe_input_and_output(content: bytes) -> None:
    metadata = {prop.key: prop.value for prop in ModelProto.FromString(content).metadata_props}
    assert json.loads(metadata[CLASSES]) == ["a", "b"]
    assert metadata["kd.input"] == (
        "float32 codes (N, 3) from the standard normal distribution; float32 one-hot class (N, 2)"
    )
    assert metadata["kd.output"] == "float32 images (N, 1, 4, 4); grey"


def test_a_file_that_makes_other_images_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    description, network = made("gan", conditional=False)
    other = module.Decoder(made("gan", conditional=False)[1])
    with torch.no_grad():
        other.layers[0].weight += 1
    fill = module.fill
    monkeypatch.setattr(module, "fill", lambda graph, state, metadata: fill(graph, other.state_dict(), metadata))
    with pytest.raises(UserError, match=r"does not make the images of the trained generator: pixels differ by "):
        served_file(description, network, "run-1")


def test_generators_and_classifiers_are_not_mistaken_for_each_other(content: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^the input is codes FLOAT .*\. Allowed: one input named images$"):
        ServedModel(content)


def test_a_file_with_other_inputs_is_refused(content: bytes) -> None:
    third, renamed, wide = (ModelProto.FromString(content) for _ in range(3))
    third.graph.input.append(helper.make_tensor_value_info("third", TensorProto.FLOAT, ["batch", 2]))
    renamed.graph.input[1].name = "label"
    del wide.metadata_props[:]
    wide.metadata_props.add(key=CLASSES, value='["a"]')
    for model, message in [
        (third, r"Allowed: one input named codes"),
        (renamed, r"Allowed: inputs named codes, class"),
        (wide, r"is not a list of 2 names, one per class"),
    ]:
        with pytest.raises(RefusedError, match=message):
            ServedGenerator(model.SerializeToString())
