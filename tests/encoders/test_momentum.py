import copy

import pytest
import torch
from torch import nn

from earsight.config import HeadConfig
from earsight.encoders.heads import MLPHead
from earsight.encoders.momentum import Caught, follow, key_pair, last_linear
from earsight.encoders.pair import Pair


def make_pair(**head):
    torch.manual_seed(0)
    video, audio = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), nn.Linear(5, 7)
    config = HeadConfig(**{"hidden": (), "dim": 3, **head})
    return Pair(video, audio, MLPHead(6, config), MLPHead(7, config))


def moved(pair):
    """Another pair of the same shapes, with other weights and other statistics."""
    other = copy.deepcopy(pair)
    for tensor in [*other.parameters(), *other.buffers()]:
        if tensor.is_floating_point():
            tensor.data += torch.randn(tensor.shape)
    return other


@pytest.mark.parametrize("crosswise", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_follow_their_own_and_fcl_that_of_the_other_modality(momentum, crosswise):
    first = make_pair(fcl=True, norm=True)
    query = moved(first)
    keys = key_pair(first, crosswise=crosswise)
    before = {name: x.clone() for name, x in keys.named_parameters()}
    follow(keys, query, momentum, crosswise=crosswise)
    theirs, swap = dict(query.named_parameters()), {"video": "audio", "audio": "video"}
    for name, x in keys.named_parameters():
        partner = name
        if crosswise and "fcl" in name:
            modality = name.split("_")[0]
            partner = name.replace(modality, swap[modality], 1)
        wanted = momentum * before[name] + (1 - momentum) * theirs[partner]
        torch.testing.assert_close(x, wanted, rtol=1e-6, atol=1e-7)
        assert not x.requires_grad
    for mine, of in zip(keys.buffers(), query.buffers(), strict=True):
        assert torch.equal(mine, of)


def test_fcl_is_exchanged_from_the_start():
    query = make_pair(fcl=True)
    keys = key_pair(query, crosswise=True)
    assert torch.equal(keys.video_head.fcl.weight, query.audio_head.fcl.weight)
    assert torch.equal(keys.audio_head.fcl.weight, query.video_head.fcl.weight)
    assert torch.equal(keys.video_head.projection[0].weight, query.video_head.projection[0].weight)


@pytest.mark.parametrize(
    "head", [{"fcl": True}, {}, {"norm": True}, {"hidden": (8,), "norm": True}]
)
def test_the_last_linear_layer_and_what_it_is_given(head):
    pair = make_pair(**head).eval()
    layer = last_linear(pair.video_head)
    x = torch.randn(5, 4)
    with Caught(layer) as caught:
        embedded, _ = pair(x, None)
    (inputs,) = caught.inputs
    outputs = nn.functional.linear(inputs, layer.weight, layer.bias)
    if head.get("norm") and not head.get("fcl"):
        outputs = pair.video_head.projection[-1](outputs)
    torch.testing.assert_close(outputs, embedded)
    pair(x, None)
    assert len(caught.inputs) == 1
