import torch

from earsight.config import HeadConfig, RunConfig
from earsight.encoders import Conv2DAudioConfig, R2Plus1DConfig, build_pair

CONFIG = RunConfig(
    method=None,
    video_encoder=R2Plus1DConfig(width=2),
    audio_encoder=Conv2DAudioConfig(width=3),
    head=HeadConfig(hidden=(8,), dim=5),
)
VIDEO = torch.randn(2, 3, 4, 16, 16)
AUDIO = torch.randn(2, 1, 20, 17)


def small_pair(seed=0):
    torch.manual_seed(seed)
    return build_pair(CONFIG)


def test_embeddings_are_heads_of_features():
    pair = small_pair().eval()
    video, audio = pair(VIDEO, AUDIO)
    features = pair.features({"video": VIDEO, "audio": AUDIO})
    assert features["video"].shape == (2, 16)
    assert features["audio"].shape == (2, 24)
    assert video.shape == audio.shape == (2, 5)
    assert torch.equal(video, pair.video_head(features["video"]))
    assert torch.equal(audio, pair.audio_head(features["audio"]))


def test_one_modality_alone():
    pair = small_pair().eval()
    video, audio = pair(VIDEO, AUDIO)
    only_video, no_audio = pair(VIDEO, None)
    no_video, only_audio = pair(None, AUDIO)
    assert no_audio is None
    assert no_video is None
    assert torch.equal(only_video, video)
    assert torch.equal(only_audio, audio)
    assert set(pair.features({"audio": AUDIO})) == {"audio"}


def test_weights_are_a_function_of_the_seed():
    first, second = small_pair(3).state_dict(), small_pair(3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        small_pair(4).state_dict()["video_head.projection.0.weight"],
        first["video_head.projection.0.weight"],
    )


def test_learns_under_autocast():
    pair = small_pair().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        video, audio = pair(VIDEO, AUDIO)
        loss = video.float().square().mean() + audio.float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pair.parameters())
