"""Published weights as a run: the same features as by the paper's tables, and nothing unsaid."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch.nn import functional as F

from earsight import api
from earsight.config import ConfigError
from earsight.training.importing import LICENCE, PRESET, import_avid
from earsight.training.origin import notices, read_origin


@pytest.fixture
def checkpoint(released, tmp_path):
    path = tmp_path / "avid.pth.tar"
    torch.save(released(), path)
    return path


def write_statistics(path, bands=257):
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(-40, -20, bands), rng.uniform(5, 15, bands)
    np.savez(path, mean=mean, std=std)
    return path, mean, std


def test_the_run(checkpoint, tmp_path):
    run = tmp_path / "run"
    statistics, mean, std = write_statistics(tmp_path / "stats.npz")
    origin = import_avid(checkpoint, run, audio_stats=statistics)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "encoders.safetensors",
        "log.txt",
        "origin.json",
    }
    loaded = api.load_run(run, torch.device("cpu"))
    assert loaded.origin == origin == read_origin(run)
    assert origin.notices == (f"imported from avid.pth.tar, epoch 200: {LICENCE}",)
    assert len(origin.sha256) == 64
    assert origin.statistics == "stats.npz"
    assert len(origin.keys["used"]) == 269
    config = loaded.config
    assert (config.method.partition, config.method.partition_value) == ("fixed", 2.5)
    assert float(loaded.encoder.method.partition) == 2.5
    assert (config.video_encoder.depth, config.video_encoder.width) == (18, 4)
    assert config.audio_encoder.strides == (2, 2, 2, 1)
    assert (config.video.frames, config.video.fps, config.video.size) == (8, 16, 224)
    assert (config.audio.frames, config.audio.bands) == (200, 257)
    assert config.train.epochs == 200
    assert config.data.corpus == ""
    assert origin.read["head.hidden"] == [32, 32]
    assert origin.assumed["audio.top_db"] == 100
    normalise = loaded.inputs.normalise
    np.testing.assert_allclose(normalise.mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(normalise.std.numpy(), std + 1e-5, rtol=3e-7)
    with safe_open(run / "encoders.safetensors", framework="pt") as file:
        assert file.metadata()["licence"] == LICENCE
    assert "assumed: video.frames=8" in (run / "log.txt").read_text()


def test_without_statistics_sound_is_left_as_it_is_and_that_is_said(checkpoint, tmp_path):
    run = tmp_path / "run"
    import_avid(checkpoint, run)
    normalise = api.load_run(run, torch.device("cpu")).inputs.normalise
    assert torch.equal(normalise.mean, torch.zeros(257))
    assert torch.equal(normalise.std, torch.ones(257))
    assert len(notices(run)) == 2
    assert "--audio-stats" in notices(run)[1]


def test_settings_of_what_the_file_does_not_tell(checkpoint, tmp_path):
    run = tmp_path / "run"
    given = ("video.frames=16", "audio.bands=129", "audio.n_fft=512", "audio.window=512")
    origin = import_avid(checkpoint, run, settings=given)
    assert yaml.safe_load((run / "config.yaml").read_text())["video"]["frames"] == 16
    assert "video.frames" not in origin.assumed
    assert origin.given == given
    assert "video.size" in origin.assumed


@pytest.mark.parametrize("setting", ["video_encoder.depth=34", "method.partition=ema", "seed=1"])
def test_settings_that_the_weights_decide_are_refused(checkpoint, tmp_path, setting):
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        import_avid(checkpoint, tmp_path / "run", settings=[setting])
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit_together(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="bands"):
        import_avid(checkpoint, tmp_path / "run", settings=["audio.bands=100"])


def test_a_run_is_never_overwritten(checkpoint, finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="exists already"):
        import_avid(checkpoint, finished)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_imported_weights_are_not_trained_over(checkpoint, tmp_path, corpus):
    run = tmp_path / "run"
    import_avid(checkpoint, run)
    config = api.run_config(run, preset=None, config=None, corpus=corpus, settings=(), resume=True)
    with pytest.raises(ValueError, match="no training to resume"):
        api.pretrain(config, run, resume=True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("module.video_model.conv3x.0.res_conv.weight", None, "lacks 1 of 267 weights, such as"),
        ("module.audio_model.block2.bn1.bias", torch.ones(5), "(5,) instead of (8,)"),
        ("module.video_model.conv1.3.bias", torch.ones(4), "1 weights of another architecture"),
    ],
)
def test_weights_that_do_not_fit(released, tmp_path, name, value, said):
    state = released()
    state["model"].pop(name, None)
    if value is not None:
        state["model"][name] = value
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError) as caught:
        import_avid(tmp_path / "odd.pth", tmp_path / "run")
    assert said in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@torch.no_grad()
def test_one_block_per_stage_pools_in_its_stem(released, tmp_path):
    """The published code calls it depth 10; the paper's depth 9 does not pool."""
    state = released()
    state["model"] = {
        name: value
        for name, value in state["model"].items()
        if not (name.startswith("module.video_model.conv") and "x.1." in name)
    }
    torch.save(state, tmp_path / "small.pth")
    import_avid(tmp_path / "small.pth", tmp_path / "run")
    loaded = api.load_run(tmp_path / "run", torch.device("cpu"))
    assert loaded.config.video_encoder.depth == 10
    x = torch.randn(1, 3, 4, 64, 64)
    mine = loaded.encoder.model.video_encoder.eval()(x)
    close(mine, video_features(state["model"], x))


@pytest.mark.parametrize("cma", [False, True])
def test_without_a_partition(released, tmp_path, cma):
    state = released(cma=cma)
    criterion = state["train_criterion"]
    state["train_criterion"] = {n: x for n, x in criterion.items() if "avg_exp_score" not in n}
    torch.save(state, tmp_path / "file.pth")
    origin = import_avid(tmp_path / "file.pth", tmp_path / "run")
    assert api.load_run(tmp_path / "run", torch.device("cpu")).config.method.partition == "first"
    assert "train_criterion.criterion.avg_exp_score" in origin.keys["missing"]
    assert origin.criterion == ("AVID-CMA" if cma else "AVID")


def close(mine, theirs):
    error = float((mine - theirs).norm() / theirs.norm())
    assert math.isfinite(error)
    assert error < 1e-4


def normed(weights, x, name):
    """Batch norm in evaluation, by its definition."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    mean, var, scale, shift = (
        weights[f"{name}.{part}"].view(shape)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


def video_features(weights, x):
    """R(2+1)D with a pooled stem (methods.md §4), by the weights' names in the checkpoint."""
    root = "module.video_model."

    def conv(x, name, stride):
        w = weights[f"{root}{name}.weight"]
        return F.conv3d(x, w, stride=stride, padding=tuple(k // 2 for k in w.shape[2:]))

    def norm(x, name):
        return normed(weights, x, root + name)

    x = norm(conv(x, "conv1.0", (1, 2, 2)), "conv1.1").relu()
    x = F.max_pool3d(x, kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    for stage, step in (("conv2x", 1), ("conv3x", 2), ("conv4x", 2), ("conv5x", 2)):
        block = 0
        while f"{root}{stage}.{block}.spt_conv1.weight" in weights:
            here, stride = f"{stage}.{block}.", step if block == 0 else 1
            shortcut = x
            if f"{root}{here}res_conv.weight" in weights:
                shortcut = conv(x, here + "res_conv", stride)
            y = norm(conv(x, here + "spt_conv1", (1, stride, stride)), here + "spt_bn1").relu()
            y = norm(conv(y, here + "tmp_conv1", (stride, 1, 1)), here + "tmp_bn1").relu()
            y = norm(conv(y, here + "spt_conv2", 1), here + "spt_bn2").relu()
            x = norm(conv(y, here + "tmp_conv2", 1) + shortcut, here + "out_bn").relu()
            block += 1
    return x.amax((2, 3, 4))


def audio_features(weights, x):
    """Conv2D-9 with strides (2, 2, 2, 1) (methods.md §4)."""
    root = "module.audio_model."

    def layer(x, conv, norm, stride):
        w = weights[f"{root}{conv}.weight"]
        y = F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
        return normed(weights, y, root + norm).relu()

    x = layer(x, "conv1.0", "conv1.1", 2)
    for number, stride in enumerate((2, 2, 2, 1), 1):
        x = layer(x, f"block{number}.conv1", f"block{number}.bn1", stride)
        x = layer(x, f"block{number}.conv2", f"block{number}.bn2", 1)
    assert x.shape[2:] == (13, 17)
    return x.amax((2, 3))


def embedding(weights, x, root):
    """The head 512-512-128."""
    for layer in (0, 2, 4):
        name = f"module.{root}.projection.{layer}"
        x = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        x = x.relu() if layer < 4 else x
    return x / x.norm(dim=1, keepdim=True)


@torch.no_grad()
def test_features_at_full_size_equal_a_plain_forward(released, tmp_path):
    state = released(cma=True, width=64)
    torch.save(state, tmp_path / "full.pth")
    import_avid(tmp_path / "full.pth", tmp_path / "run")
    loaded = api.load_run(tmp_path / "run", torch.device("cpu"))
    model = loaded.encoder.model.eval()
    weights = state["model"]
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(1, 3, 8, 224, 224, generator=generator)
    audio = torch.randn(1, 1, 200, 257, generator=generator)
    features = model.features({"video": video, "audio": audio})
    theirs = {"video": video_features(weights, video), "audio": audio_features(weights, audio)}
    assert theirs["video"].shape == theirs["audio"].shape == (1, 512)
    embeddings = loaded.encoder.method.embed(model, {"video": video, "audio": audio})
    for name in ("video", "audio"):
        close(features[name], theirs[name])
        expected = embedding(weights, theirs[name], f"{name}_proj")
        assert expected.shape == (1, 128)
        close(embeddings[name], expected)


def test_the_preset_differs_from_the_paper_in_what_is_heard():
    tree = api.configure(PRESET).audio
    assert (tree.n_fft, tree.window, tree.hop, tree.bands) == (1024, 1024, 0.01, 257)
    assert (tree.padding, tree.top_db, tree.stretch) == ("zeros", 100, (2, 2))


def test_a_damaged_origin(checkpoint, tmp_path):
    run = tmp_path / "run"
    import_avid(checkpoint, run)
    path = run / "origin.json"
    tree = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**tree, "schema": 9}), json.dumps({"schema": 1})):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"origin\.json: cannot be read"):
            read_origin(run)
