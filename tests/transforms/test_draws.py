import numpy as np
import pytest
import torch

from earsight import random
from earsight.transforms.draws import as_array, between, check_count, to_device


def test_draws_are_those_of_the_library(device: torch.device) -> None:
    index = np.array([4, 9])
    expected = 2 + 3 * random.uniform(1, "thing", index, 6)
    for given in (index, torch.from_numpy(index).to(device)):
        made = between(2, 5, "thing", seed=1, index=given, view=6)
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(as_array(given), index)


def test_indices_are_counted() -> None:
    check_count(np.arange(3), 3)
    with pytest.raises(ValueError, match="batch has 2 clips"):
        check_count(np.arange(3), 2)
    with pytest.raises(ValueError, match="one sample index per clip"):
        check_count(torch.zeros(3, 1), 3)


def test_numbers_reach_the_device(device: torch.device) -> None:
    made = to_device(np.array([[1.5, 2.5]]), device, torch.float32)
    assert made.device.type == device.type
    assert made.dtype == torch.float32
    assert made.tolist() == [[1.5, 2.5]]
