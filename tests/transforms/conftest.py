import numpy as np
import pytest
import torch
from torch import Tensor

DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def clips() -> Tensor:
    """Five clips of uneven size, with black, white, gray and pure colours among the noise."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 9, 7), dtype=np.uint8)
    noise[1] //= 4
    noise[2, :, 0] = 0
    noise[2, :, 1] = 255
    noise[2, :, 2] = 77
    noise[3, 0, 0], noise[3, 1:, 0] = 255, 0
    noise[3, 2, 1], noise[3, :2, 1] = 200, 10
    return torch.from_numpy(noise)
