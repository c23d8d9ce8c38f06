import json
from pathlib import Path

import pytest
import torch

from earsight.config import HeadConfig, RunConfig
from earsight.encoders import Conv2DAudioConfig, R2Plus1DConfig, build_pair
from earsight.encoders.released import check_shapes, read_architecture, renamed

KEYS = Path(__file__).parents[2] / "../shared/avid_checkpoint_keys.json"


def full_size_shapes():
    config = RunConfig(
        method=None,
        video_encoder=R2Plus1DConfig(depth=18),
        audio_encoder=Conv2DAudioConfig(strides=(2, 2, 2, 1)),
        head=HeadConfig(),
    )
    with torch.device("meta"):
        pair = build_pair(config)
    return {name: list(value.shape) for name, value in pair.state_dict().items()}


@pytest.mark.skipif(not KEYS.exists(), reason="the list of released keys is not on this machine")
def test_every_released_key_has_one_place_of_equal_shape():
    released = json.loads(KEYS.read_text())["model"]
    theirs = {renamed(key): shape for key, shape in released.items()}
    assert len(theirs) == len(released) == 267
    assert theirs == full_size_shapes()


def test_names():
    ours = full_size_shapes()
    for key, shape in {
        "module.video_model.conv1.0.weight": [64, 3, 3, 7, 7],
        "module.video_model.conv4x.0.res_conv.weight": [256, 128, 1, 1, 1],
        "module.video_model.conv5x.1.out_bn.num_batches_tracked": [],
        "module.audio_model.block3.bn2.running_var": [256],
        "module.video_proj.projection.4.weight": [128, 512],
        "module.audio_proj.projection.0.bias": [512],
    }.items():
        assert ours[renamed(key)] == shape


def test_other_keys_are_refused():
    with pytest.raises(ValueError, match="nce_average"):
        renamed("nce_average.view1_mem")


def shapes_of(released):
    return {renamed(key): tuple(shape) for key, shape in released["model"].items()}


def test_the_architecture_is_read_off_the_shapes(released_keys):
    assert read_architecture(shapes_of(released_keys)) == {
        "video_encoder": {"name": "r2plus1d", "depth": 18, "width": 64},
        "audio_encoder": {"name": "conv2d-audio", "width": 64},
        "head": {"hidden": [512, 512], "dim": 128, "norm": False},
    }


@pytest.mark.parametrize("depth", [10, 34])
def test_other_depths(depth):
    config = RunConfig(
        method=None,
        video_encoder=R2Plus1DConfig(depth=depth, width=2),
        audio_encoder=Conv2DAudioConfig(width=3),
        head=HeadConfig(hidden=(5,), dim=4),
    )
    shapes = {name: tuple(x.shape) for name, x in build_pair(config).state_dict().items()}
    found = read_architecture(shapes)
    assert found["video_encoder"] == {"name": "r2plus1d", "depth": depth, "width": 2}
    assert found["audio_encoder"]["width"] == 3
    assert found["head"] == {"hidden": [5], "dim": 4, "norm": False}
    check_shapes(shapes, shapes)


def test_shapes_that_do_not_fit():
    expected = {"video_encoder.a": (2,), "audio_head.b": (3, 1)}
    with pytest.raises(ValueError, match=r"lacks 1 of 2 weights, such as module\.audio_proj\.b"):
        check_shapes({"video_encoder.a": (2,)}, expected)
    with pytest.raises(ValueError, match=r"module\.video_model\.a: \(3,\) instead of \(2,\)"):
        check_shapes({**expected, "video_encoder.a": (3,)}, expected)
    with pytest.raises(ValueError, match=r"1 weights of another architecture, .*video_proj\.c"):
        check_shapes({**expected, "video_head.c": (1,)}, expected)
