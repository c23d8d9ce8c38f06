"""Exports stand alone, answer as the run does, and say what they are."""

import json
import re
import shutil

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from earsight import api, cli
from earsight.config import AudioConfig
from earsight.errors import RunError
from earsight.exporting import networks as checked
from earsight.exporting.graphs import write_onnx, write_torch
from earsight.exporting.networks import Graph, Network
from earsight.exporting.raw import Waveform
from earsight.exporting.subject import open_subject
from earsight.training.origin import Origin, notices, read_origin, write_origin
from earsight.training.run_folder import read_config
from earsight.transforms.audio import Spectrogram

FAMILIES = {
    "r2plus1d-10": ("video", "video_encoder.depth=10"),
    "r2plus1d-standard": ("video", "video_encoder.depth=10"),
    "resnet3d": ("video", "video_encoder.depth=10"),
    "conv2d-audio": ("audio", "audio_encoder.strides=[1,2,2,1]"),
    "resnet1d-audio": ("audio", "audio_encoder.depth=10", "audio_encoder.bands=65"),
}
CPU = torch.device("cpu")


@pytest.fixture
def onnx():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def momentum(corpus, small, tmp_path_factory):
    """A run whose queries are compared with keys."""
    run = tmp_path_factory.mktemp("export") / "momentum"
    plain = [text for text in small if not text.startswith(("optimizer.", "method."))]
    own = ["method.name=xmoco", "method.dictionary=8", "method.momentum=0.9", "head.fcl=true"]
    settings = [*plain, *own, "optimizer.milestones=[1]", f"data.corpus={corpus}"]
    api.pretrain(api.configure("tiny", settings=settings), run, quiet=True)
    return run


@pytest.fixture(scope="module")
def classifier(finished, tmp_path_factory):
    """A supervised run; its weights are random, which is of no matter here."""
    return made_run(
        tmp_path_factory.mktemp("classifier") / "run",
        api.configure("tiny-supervised", settings=[*SUPERVISED]),
    )


SUPERVISED = (
    "video_encoder.width=4",
    "audio_encoder.width=4",
    "video.frames=4",
    "video.size=32",
    "method.label=material",
    'method.classes=["glass","wood","tin"]',
    "data.corpus=/home/somebody/private.parquet",
)


def made_run(run, config):
    """A run folder with weights at their random initialisation."""
    from earsight.evaluation.load import random_encoder
    from earsight.training.run_folder import create_run, save_encoders
    from earsight.transforms.inputs import Inputs

    create_run(run, config)
    bands = config.audio.bands
    inputs = Inputs(
        config.video, config.audio, mean=torch.zeros(bands), std=torch.ones(bands), clips=1
    )
    save_encoders(run, random_encoder(config, CPU).model, inputs, config)
    return run


def texts(folder):
    """Everything an export says, as one text."""
    return "".join(p.read_bytes().decode("utf-8", "replace") for p in sorted(folder.iterdir()))


def test_weights_stand_alone_and_tell_no_place(finished, corpus, tmp_path):
    done = api.export(finished, tmp_path / "out", licence="apache-2.0")
    assert done.files == ("README.md", "config.yaml", "encoders.safetensors")
    ours, theirs = (load_file(f / "encoders.safetensors") for f in (finished, tmp_path / "out"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(x, theirs[name]) for name, x in ours.items())
    assert str(corpus.parent) not in texts(tmp_path / "out")
    assert str(corpus.parent) in texts_of_run(finished)
    one, two = (api.load_run(f, CPU) for f in (finished, tmp_path / "out"))
    view = {"video": torch.randint(0, 255, (2, 3, 4, 32, 32), dtype=torch.uint8)}
    answers = [
        x.encoder.model.eval().features(x.inputs.prepare(view, training=False))["video"]
        for x in (one, two)
    ]
    assert torch.equal(*answers)


def texts_of_run(run):
    return (run / "config.yaml").read_text() + (run / "log.txt").read_text()


def test_a_single_file_is_loaded_by_itself(finished, tmp_path):
    done = api.export(finished, tmp_path / "one.safetensors", licence="mit")
    assert done.files == ("one.safetensors",)
    assert [p.name for p in tmp_path.iterdir()] == ["one.safetensors"]
    assert api.load_run(tmp_path / "one.safetensors", CPU).config.data.corpus == ""
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        assert file.metadata()["licence"] == "mit"


def test_onnx_answers_as_the_method_does(onnx, finished, tmp_path):
    import numpy as np

    done = api.export(finished, tmp_path / "out", format="onnx")
    assert done.files == ("README.md", "audio.onnx", "video.onnx")
    assert max(done.differences.values()) < 1e-4
    loaded = api.load_run(finished, CPU)
    loaded.encoder.model.eval()
    for name in ("video", "audio"):
        session = onnx.InferenceSession(str(tmp_path / "out" / f"{name}.onnx"))
        told = session.get_modelmeta().custom_metadata_map
        x = torch.randn(3, *json.loads(told["input_shape"])[1:])
        features, embedding = session.run(["features", "embedding"], {"inputs": x.numpy()})
        with torch.no_grad():
            wanted = loaded.encoder.model.features({name: x})[name]
            method = loaded.encoder.method.embed(loaded.encoder.model, {name: x})[name]
        np.testing.assert_allclose(features, wanted.numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(embedding, method.numpy(), rtol=1e-3, atol=1e-4)
    assert json.loads(told["sample_rate"]) == loaded.inputs.audio.rate
    assert json.loads(told["mean"]) == loaded.inputs.normalise.mean.tolist()
    assert json.loads(told["compare_with"]) == ["video"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_encoder_can_be_a_graph(onnx, family, tmp_path):
    modality, *more = FAMILIES[family]
    name = family.removesuffix("-10")
    sizes = ["video_encoder.width=4", "audio_encoder.width=4", "video.frames=4", "video.size=32"]
    config = api.configure("tiny", settings=[f"{modality}_encoder.name={name}", *sizes, *more])
    run = made_run(tmp_path / "run", config)
    (network,) = [n for n in checked.networks(open_subject(run)) if n.name == modality]
    assert write_onnx(network, tmp_path / "one.onnx", {}) < 1e-4
    assert write_torch(network, tmp_path / "one.pt2", {}) < 1e-4


def test_torch_programs_carry_their_constants(momentum, tmp_path):
    done = api.export(momentum, tmp_path / "out", format="torch")
    names = [f"{x}.pt2" for x in ("audio", "audio_key", "video", "video_key")]
    assert done.files == ("README.md", *names)
    extra = {"earsight.json": ""}
    graph = torch.export.load(tmp_path / "out" / "audio_key.pt2", extra_files=extra).module()
    told = json.loads(extra["earsight.json"])
    loaded = api.load_run(momentum, CPU)
    loaded.encoder.model.eval()
    view = {"audio": torch.randn(2, *json.loads(told["input_shape"])[1:])}
    with torch.no_grad():
        wanted = loaded.encoder.method.embed(loaded.encoder.model, view)
        _, found = graph(view["audio"])
    torch.testing.assert_close(found, wanted["audio_key"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, wanted["audio"], atol=1e-3)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `video` | `audio_key` |" in card
    assert "| `video` | `audio` |" not in card


def test_raw_onnx_graphs_run(onnx, finished, tmp_path):
    import numpy as np

    api.export(finished, tmp_path / "out", format="onnx", raw=True)
    assert "they take `pixels`" in (tmp_path / "out" / "README.md").read_text()
    session = onnx.InferenceSession(str(tmp_path / "out" / "video.onnx"))
    pixels = np.zeros((3, 3, 4, 32, 32), dtype=np.uint8)
    assert len(session.run(["embedding"], {"pixels": pixels})[0]) == 3


def test_raw_graphs_take_pixels_and_samples(finished, tmp_path):
    api.export(finished, tmp_path / "out", format="torch", raw=True)
    loaded = api.load_run(finished, CPU)
    loaded.encoder.model.eval()
    audio = loaded.inputs.audio
    raw = {
        "video": torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8),
        "audio": 0.1 * torch.randn(2, round(audio.duration * audio.rate)),
    }
    wanted = loaded.encoder.model.features(loaded.inputs.prepare(raw, training=False))
    for name, x in raw.items():
        graph = torch.export.load(tmp_path / "out" / f"{name}.pt2").module()
        features, _ = graph(x)
        torch.testing.assert_close(features, wanted[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        AudioConfig(),
        AudioConfig(bands=257, padding="zeros", top_db=60.0, hop=0.01),
        AudioConfig(spectrogram="mel", bands=40, n_fft=1024, window=400, rate=16000),
    ],
    ids=["pairs", "every bin", "mel"],
)
def test_the_spectrogram_of_a_graph_is_the_exact_one(config):
    from dataclasses import replace

    samples = round(config.duration * config.rate)
    tone = torch.sin(torch.arange(samples) * 0.3)
    wave = torch.stack([torch.randn(samples) * 0.1, tone, torch.zeros(samples)])
    exact = Spectrogram(replace(config, precision="float64"))(wave)
    assert (Waveform(config)(wave) - exact).abs().max() < 1e-3


def test_a_classifier_gives_logits_of_named_classes(onnx, classifier, tmp_path):
    done = api.export(classifier, tmp_path / "out", format="onnx")
    assert done.files == ("README.md", "video.onnx")
    session = onnx.InferenceSession(str(tmp_path / "out" / "video.onnx"))
    told = session.get_modelmeta().custom_metadata_map
    x = torch.randn(2, *json.loads(told["input_shape"])[1:])
    _, logits = session.run(["features", "logits"], {"inputs": x.numpy()})
    assert logits.shape == (2, 3)
    assert json.loads(told["classes"]) == ["glass", "wood", "tin"]
    assert "somebody" not in texts(tmp_path / "out")


def test_a_linear_probe_gives_logits_of_each_block(onnx, tmp_path):
    blocks = 'method.blocks=["pooled",1,4]'
    run = made_run(
        tmp_path / "run", api.configure("tiny-supervised", settings=[*SUPERVISED, blocks])
    )
    (network,) = checked.networks(open_subject(run))
    _, logits = network.graph(network.sample(2))
    assert logits.shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"in ONNX \(aten.adaptive_max_pool2d\); export it with"):
        write_onnx(network, tmp_path / "probe.onnx", {})
    assert api.export(run, tmp_path / "out", format="torch").files == ("README.md", "video.pt2")


def test_the_card_says_what_was_learned_and_how_good_it_is(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    api.evaluate(run, "retrieve")
    api.export(run, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    tree = yaml.safe_load(front)
    assert tree["license"] == "unknown"
    assert tree["library_name"] == "earsight"
    assert "avid" in tree["tags"]
    assert "- Corpus: corpus\n" in body
    assert re.search(r"- Clips: 32 to train on, 12 held out", body)
    assert re.search(r"- Hours of the clips trained on: 0\.0\d", body)
    assert "| R@1 |" in body
    assert "random initialisation | chance" in body
    assert "faces" in body
    assert "/" not in re.search(r"Corpus: (.*?)\. Seed", body)[1]
    assert str(tmp_path) not in text


def imported(run, source):
    """A copy of a run that says its weights were imported."""
    from earsight.training.importing import LICENCE

    shutil.copytree(source, run)
    origin = Origin(
        layout="avid",
        file="AVID.pth.tar",
        sha256="0" * 64,
        licence=LICENCE,
        criterion="AVID",
        epoch=3,
        read={},
        assumed={},
        given=(),
        statistics="",
        keys={},
    )
    write_origin(run, origin)
    return run


def test_imported_weights_keep_their_terms(finished, tmp_path):
    run = imported(tmp_path / "run", finished)
    with pytest.raises(ValueError, match="no other licence replaces"):
        api.export(run, tmp_path / "out", licence="mit")
    done = api.export(run, tmp_path / "out")
    assert {"NOTICE", "origin.json"} <= set(done.files)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "imported from AVID.pth.tar, epoch 3" in card
    assert api.load_run(tmp_path / "out", CPU).origin.file == "AVID.pth.tar"
    with safe_open(tmp_path / "out" / "encoders.safetensors", framework="pt") as file:
        assert "CC BY-NC 4.0" in file.metadata()["licence"]


def test_a_single_file_says_what_must_be_said(finished, tmp_path):
    alone = tmp_path / "one.safetensors"
    api.export(imported(tmp_path / "run", finished), alone)
    said = notices(tmp_path / "run")
    assert "imported from AVID.pth.tar, epoch 3" in said[0]
    assert notices(alone) == api.load_run(alone, CPU).notices == said


def test_so_does_what_was_trained_from_them(finished, tmp_path):
    from earsight.config import as_tree, merge, parse, write_yaml

    before = imported(tmp_path / "before", finished)
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = parse(merge(as_tree(read_config(run)), {"start": str(before)}))
    write_yaml(run / "config.yaml", config)
    (notice,) = api.export(run, tmp_path / "out").notices
    assert notice.startswith("trained from weights imported from AVID.pth.tar")
    shutil.rmtree(before)
    done = api.export(run, tmp_path / "out", overwrite=True)
    assert done.notices == ("started from the run before, whose terms are not known here",)
    assert not (tmp_path / "out" / "origin.json").exists()


def test_a_run_records_the_terms_of_what_it_starts_from(finished, corpus, small, tmp_path):
    before, run, after = (tmp_path / name for name in ("before", "run", "after"))
    imported(before, finished)
    for folder, start in ((run, before), (after, run)):
        config = api.configure(
            "tiny", settings=[*small, f"data.corpus={corpus}", f'start="{start}"']
        )
        api.pretrain(config, folder, quiet=True)
    # Nobody has to keep the runs that it started from.
    shutil.rmtree(before)
    shutil.rmtree(run)
    assert read_origin(after).trained
    with safe_open(after / "encoders.safetensors", framework="pt") as file:
        assert "CC BY-NC 4.0" in file.metadata()["licence"]
    done = api.export(after, tmp_path / "out")
    assert done.notices[0].startswith("trained from weights imported from AVID.pth.tar, epoch 3")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "trained from weights imported from AVID.pth.tar, epoch 3: non-commercial" in card
    assert "Clips: 32 to train on" in card
    with pytest.raises(ValueError, match="no other licence replaces"):
        api.export(after, tmp_path / "other", licence="mit")
    # It is a run like any other: it can be gone on with.
    assert api.pretrain(read_config(after), after, resume=True, quiet=True) is not None


def test_nothing_is_replaced_unasked(finished, tmp_path):
    out = tmp_path / "out"
    api.export(finished, out)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists already; choose another place, or add --over"):
        api.export(finished, out)
    api.export(finished, out, format="torch", overwrite=True)
    assert {p.name for p in out.iterdir()} == {"README.md", "audio.pt2", "video.pt2", "mine.txt"}
    with pytest.raises(ValueError, match="is a run folder"):
        api.export(finished, finished, overwrite=True)


def test_what_cannot_be_exported_is_said(finished, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="'tflite' is unknown; one of safetensors, onnx, torch"):
        api.export(finished, out, format="tflite")
    with pytest.raises(ValueError, match="raw: has no effect on safetensors"):
        api.export(finished, out, raw=True)
    with pytest.raises(ValueError, match="name a folder"):
        api.export(finished, tmp_path / "x.pt2", format="torch")
    with pytest.raises(ValueError, match="is no abbreviation"):
        api.export(finished, out, licence="Apache License")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished / "config.yaml", unfinished)
    with pytest.raises(ValueError, match="has not finished"):
        api.export(unfinished, out)
    with pytest.raises(ValueError, match="is no run folder"):
        api.export(tmp_path / "nowhere", out)
    assert not out.exists()


def test_a_graph_that_answers_otherwise_is_not_left(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(checked, "TOLERANCE", -1.0)
    monkeypatch.setattr(checked, "_check_against_method", lambda *_: None)
    with pytest.raises(RunError, match="differs from torch by"):
        api.export(finished, tmp_path / "out", format="torch")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_onnx_it_is_named(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("earsight.exporting.graphs.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'earsight\[onnx\]'"):
        api.export(finished, tmp_path / "out", format="onnx")


def test_an_encoder_that_cannot_be_traced_is_said(tmp_path):
    class ByLength(torch.nn.Module):
        def forward(self, x):
            return x * len(x)

    graph = Graph(None, ByLength(), torch.nn.Identity(), embeds=False)
    network = Network(
        name="audio", modality="audio", graph=graph, shape=(3,), raw=False, outputs=("a", "b")
    )
    with pytest.raises(ValueError, match="audio: the network cannot be traced"):
        write_torch(network, tmp_path / "x.pt2", {})


def test_a_method_with_embeddings_of_its_own_is_refused(finished):
    subject = open_subject(finished)
    method = subject.loaded.encoder.method
    original = type(method).embed
    kind = type(
        "Own",
        (type(method),),
        {"embed": lambda s, m, v: {k: -x for k, x in original(s, m, v).items()}},
    )
    method.__class__ = kind
    with pytest.raises(ValueError, match="in a way of its own"):
        checked.networks(subject)


def test_a_difference_of_nan_or_shape_is_infinite():
    x = torch.ones(2)
    assert checked.difference(x * torch.nan, x) == float("inf")
    assert checked.difference(x[:1], x) == float("inf")
    assert checked.difference(x * 1.5, x) == 0.5
    graph = Graph(None, torch.nn.Identity(), torch.nn.Identity(), embeds=False)
    network = Network(
        name="audio", modality="audio", graph=graph, shape=(3,), raw=False, outputs=("a", "b")
    )
    assert [len(x) for x, _ in checked.examples(network)] == [1, 2, 5]


def test_the_command(finished, tmp_path, capsys):
    given = ["export", str(finished), "-o", str(tmp_path / "out"), "--licence", "apache-2.0"]
    with pytest.raises(SystemExit) as left:
        cli.main([*given, "--json"])
    assert left.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == ["README.md", "config.yaml", "encoders.safetensors"]
    for wrong in (["--private"], ["--push", "a/b"]):
        with pytest.raises(SystemExit) as left:
            cli.main([*given, *wrong])
        assert left.value.code == 2
    assert "has no effect" in capsys.readouterr().err
