import json
from pathlib import Path

import pytest
import torch

from earsight.config import HeadConfig, RunConfig
from earsight.encoders import Conv2DAudioConfig, R2Plus1DConfig, build_pair
from earsight.encoders.released import renamed

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
