"""Networks from elsewhere: what they are given, what is refused, and pretrained weights that lie on the disk."""

import pytest

from tests.support.external import refused


def own(name: str) -> dict[str, str]:
    return {"module": f"tests.support.networks:{name}"}


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({"module": "nowhere.at_all:Net"}, "network.module: nowhere.at_all can't be imported: ModuleNotFoundError: "),
        (own("Attentoin"), "network.module: tests.support.networks has no 'Attentoin'. Did you mean 'Attention'?"),
        (own("answer"), "network.module: tests.support.networks:answer: expected a class or function, got a int"),
        (own("no_network"), "network.module: tests.support.networks:no_network: expected a torch.nn.Module, got a str"),
        (own("raising"), "network.module: tests.support.networks:raising(classes=5) raised ValueError: "
         "no network for 5 classes"),
        (own("Dictionary"), "network.module: tests.support.networks:Dictionary: expected logits of shape (2, 5) for "
         "two images, got a dict"),
        (own("three_classes"), "network.module: tests.support.networks:three_classes: expected logits of shape "
         "(2, 5) for two images, got (2, 3)"),
        (own("Tied"), "network.module: tests.support.networks:Tied: two layers share parameters: "
         "network.other.weight. Allowed: separate parameters"),
        (own("narrow"), "network.module: tests.support.networks:narrow fails on images of 3x4x4 (RuntimeError: "),
        ({"torchvision": "resnet19"}, "network.torchvision: unknown classification model 'resnet19'. Did "),
        ({"torchvision": "raft_small"}, "network.torchvision: unknown classification model 'raft_small'. "),
        ({"timm": "resnet1"}, "network.timm: unknown model 'resnet1'. Did you mean resnet18, "),
        ({"timm": "resnet18.a1_in1k"}, "network.timm: unknown model 'resnet18.a1_in1k'. Did you mean "),
    ],
    ids=str,
)  # fmt: skip
def test_a_network_that_can_not_be_built_gives_one_line(raw: object, line: str) -> None:
    message = refused(raw, input_shape=(3, 4, 4))
    assert message.startswith(line)
    assert "\n" not in message


@pytest.mark.parametrize(("name", "smallest"), [("alexnet", 63), ("vit_b_32", 224)])
def test_the_error_for_small_images_names_the_smallest_size(name: str, smallest: int) -> None:
    message = refused({"torchvision": name})
    assert f"{name} fails on images of 3x32x32 (" in message
    assert message.endswith(f"The smallest images that the network takes are {smallest}x{smallest}")
