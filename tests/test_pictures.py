"""Pairs of pictures end to end: the same loop, methods, checkpoints and probe as for films."""

import json

import numpy as np
import pytest
import torch

from earsight import api, cli
from earsight.config import ConfigError
from earsight.corpus.pairs import PairSource, read_pairs
from earsight.errors import StoppedError
from earsight.media.types import AudioRequest, ClipRequest, Limits, VideoRequest
from earsight.studies.design import read_design
from earsight.training.resume import last_checkpoint
from earsight.training.setup import open_data

TINY = (
    "pictures.cells=2",
    "video_encoder.width=2",
    "audio_encoder.width=2",
    "video_encoder.dim=16",
    "audio_encoder.dim=16",
    "head.dim=8",
    "optimizer.warmup_steps=2",
    "train.batch=16",
    "train.epochs=2",
    "train.epoch_samples=48",
    "evaluation.probe_samples=96",
)
OWN = ("method.dictionary=16", "method.momentum=0.9", "method.temperature=0.2")
METHODS = {
    "smoco": (),
    "xmoco": (),
    "random-pool": ("method.pool=32",),
    "cm-acc": ("method.pool=32",),
}


def pair_config(pairs, name, *more):
    own = [f"data.corpus={pairs}", f"method.name={name}", *OWN, *METHODS[name]]
    return api.configure("study-omniglot", settings=[*TINY, *own, *more])


@pytest.fixture(scope="module")
def runs(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in METHODS:
        api.pretrain(pair_config(pairs, name), folder / name, quiet=True)
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_each_method_learns_and_the_characters_of_shown_cells_are_probed(runs, name):
    lines = (runs / name / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if '"train"' in line]
    assert np.isfinite(losses).all()
    rows = api.evaluate(runs / name, "probe").rows
    assert {(row.modality, row.label) for row in rows} == {
        (modality, label) for modality in ("video", "audio") for label in ("cell1", "cell2")
    }
    assert all(row.n == 24 and row.baseline is not None for row in rows)


@pytest.mark.parametrize("name", METHODS)
def test_stopped_and_resumed_it_ends_alike(runs, pairs, tmp_path, name):
    again = tmp_path / "again"

    def stop(step, of):
        if step == 3:
            raise StoppedError(15, "stopped")

    config = pair_config(pairs, name, "train.checkpoint_every=1", "train.log_every=1")
    with pytest.raises(StoppedError):
        api.pretrain(config, again, quiet=True, watch=stop)
    config = api.run_config(again, preset=None, config=None, corpus=None, settings=[], resume=True)
    api.pretrain(config, again, resume=True, quiet=True)
    whole, resumed = last_checkpoint(runs / name), last_checkpoint(again)
    assert whole["step"] == resumed["step"] == 6
    for part in ("model", "method"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(x, resumed[part][n]) for n, x in whole[part].items())


def test_retrieval_is_across_the_pictures_where_the_method_has_such_a_space(runs):
    found = {(row.task, row.modality) for row in api.evaluate(runs / "xmoco", "retrieve").rows}
    assert ("retrieve", "video-audio") in found
    alone = {(row.task, row.modality) for row in api.evaluate(runs / "smoco", "retrieve").rows}
    assert ("retrieve", "video-audio") not in alone


def test_views_are_the_pairs_own_drawings(pairs):
    kept = read_pairs(pairs / "pairs.npz")
    source = PairSource(kept, 2, torch.device("cpu"))
    picture, sound = (
        VideoRequest(start=0, fps=1, frames=1),
        AudioRequest(start=0, duration=1, rate=1),
    )
    request = ClipRequest(path="", video=(picture,) * 2, audio=(sound,) * 2)
    clips = [source.read(int(kept.key[row]), request, Limits()) for row in (5, 0)]
    view = source.view(1, clips, 0)
    assert {name: tuple(x.shape) for name, x in view.items()} == {
        "video": (2, 2, 32, 32),
        "audio": (2, 2, 32, 32),
    }
    for at, row in enumerate((5, 0)):
        for side, name in enumerate(("video", "audio")):
            for cell in range(2):
                character = kept.character[row, side, cell]
                wanted = kept.drawings[character, kept.writer[row, side, cell]]
                assert np.array_equal(view[name][at, cell].numpy(), wanted)
    alone = [source.read(int(kept.key[0]), ClipRequest(path="", video=(picture,)), Limits())]
    assert set(source.view(0, alone, 0)) == {"video"}


def test_shuffled_pairs_show_the_second_picture_of_another(pairs, tmp_path):
    config = pair_config(pairs, "xmoco", "data.pairs=shuffled")
    api.pretrain(config, tmp_path / "run", quiet=True)
    assert last_checkpoint(tmp_path / "run")["step"] == 6


def test_labels_of_cells_that_are_not_shown_are_not_there(pairs):
    data = open_data(pair_config(pairs, "xmoco"))
    assert set(data.train.labels) == {"cell1", "cell2"}
    assert (len(data.train), len(data.held_out)) == (96, 24)


@pytest.mark.parametrize("name", ["mutual-information", "dictionary"])
def test_the_studies_of_pairs_train_on_them(name):
    design = read_design(name)
    assert design.preset == "study-omniglot"


def test_a_study_of_pairs(pairs, tmp_path):
    text = """
about: Does it run?
preset: study-omniglot
first_seed: 1
seeds: 2
arms:
  one: {train: [pictures.cells=1]}
  three: {train: [pictures.cells=3]}
stages:
  train: {do: pretrain}
  probe: {do: evaluate, of: train, task: probe, options: {modality: video}}
report:
  - {name: characters, stage: probe, row: "probe/video/*/accuracy"}
"""
    (tmp_path / "own.yaml").write_text(text)
    settings = [one for one in TINY if "cells" not in one] + ["method.name=xmoco", *OWN]
    summary = api.study(
        str(tmp_path / "own.yaml"), pairs, home=tmp_path / "studies", settings=settings
    )
    one, three = summary.figures
    # Guessing is harder in larger alphabets: chance goes with the cells that are shown.
    assert one.chance != three.chance
    assert 0 <= one.estimate.mean <= 1


def refused(capsys, preset, corpus, folder):
    """What a run that cannot be made says."""
    words = ("pretrain", "--preset", preset, "--corpus", str(corpus), "-o", str(folder / "run"))
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    assert ended.value.code == 2
    return capsys.readouterr().err


class TestRefused:
    def test_a_preset_for_pictures_with_films(self, corpus, tmp_path, capsys):
        told = refused(capsys, "study-omniglot", corpus, tmp_path)
        assert "holds no pairs of pictures, which pictures.cells=4 asks for" in told
        assert "earsight corpus omniglot" in told

    def test_a_preset_for_films_with_pictures(self, pairs, tmp_path, capsys):
        told = refused(capsys, "tiny", pairs, tmp_path)
        assert "holds pairs of pictures; learn from them with the preset study-omniglot" in told

    def test_more_cells_than_there_are(self, pairs):
        with pytest.raises(ValueError, match=r"has pictures of 3 cells, not of 4; lower it"):
            open_data(pair_config(pairs, "xmoco", "pictures.cells=4"))

    def test_settings_without_effect_are_all_named(self):
        given = [
            "pictures.cells=0",
            "pictures.turn=3",
        ]
        with pytest.raises(ConfigError) as error:
            api.configure("study-omniglot", settings=given)
        assert "turn: has no effect unless pictures.cells is set" in str(error.value)
        given = ["video.size=64", "audio.hop=0.01", "data.cache=device", "train.compile=inputs"]
        with pytest.raises(ConfigError) as error:
            api.configure("study-omniglot", settings=given)
        told = str(error.value)
        for name in ("video.size", "audio.hop", "data.cache", "train.compile"):
            assert f"{name}: " in told

    def test_encoders_that_do_not_go_with_the_corpus(self):
        with pytest.raises(ConfigError, match=r"takes pairs of pictures; set pictures\.cells"):
            api.configure("study-omniglot", settings=["pictures.cells=0"])
        with pytest.raises(ConfigError, match="takes no pictures; take conv2d-picture"):
            api.configure("tiny", settings=["pictures.cells=2"])

    def test_pairs_without_their_file(self, pairs, tmp_path):
        (tmp_path / "corpus.parquet").write_bytes((pairs / "corpus.parquet").read_bytes())
        with pytest.raises(ValueError, match="files are gone since the scan"):
            open_data(pair_config(tmp_path, "xmoco"))
        (tmp_path / "pairs.npz").write_bytes(b"no")
        with pytest.raises(ValueError, match="cannot be read as pairs of pictures"):
            open_data(pair_config(tmp_path, "xmoco"))

    def test_tensors(self, pairs, tmp_path):
        config = pair_config(pairs, "xmoco", "data.corpus=''")
        with pytest.raises(ValueError, match=r"pictures.cells: tensors hold films"):
            api.pretrain(config, tmp_path / "run", tensors={"video": torch.zeros(1)}, quiet=True)

    def test_files_to_embed_and_graphs(self, runs, pairs, media, tmp_path):
        told = "has learned from pairs of pictures, and its encoders take neither films nor"
        with pytest.raises(ValueError, match=told):
            api.load(runs / "xmoco")
        with pytest.raises(ValueError, match=told):
            api.embed(runs / "xmoco", media, tmp_path / "index")
        with pytest.raises(ValueError, match=told):
            api.export(runs / "xmoco", tmp_path / "onnx", format="onnx")
        assert api.export(runs / "xmoco", tmp_path / "weights").files

    def test_films_to_evaluate_on(self, runs, corpus):
        with pytest.raises(ValueError, match="holds no pairs of pictures"):
            api.evaluate(runs / "xmoco", "probe", corpus=corpus)
