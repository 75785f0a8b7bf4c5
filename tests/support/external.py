"""Networks from elsewhere: image shapes, and the error for a network that is refused."""

from typing import Any

import pytest
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import build

SMALL: dict[str, Any] = {"input_shape": (3, 4, 4), "classes": 5, "mean": [0.5] * 3, "std": [0.2] * 3}
RGB = SMALL | {"input_shape": (3, 32, 32)}


def refused(raw: object, **images: Any) -> str:
    """Return the error message for a network that can't be built."""
    with pytest.raises(UserError) as caught:
        build(Network.model_validate(raw), **(RGB | images))
    return str(caught.value)


def state_of_external(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network from elsewhere, without the normalisation."""
    return network.get_submodule("network").state_dict()
