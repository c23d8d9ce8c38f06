import math

import pytest
import yaml

import earsight.encoders
import earsight.methods  # noqa: F401 - registers the choices
from earsight import api, presets
from earsight.config import (
    ConfigError,
    Registry,
    as_tree,
    merge,
    override,
    parse,
    read_yaml,
    write_yaml,
)


def tiny(**changes):
    return changed(changes)


def changed(changes):
    return parse(merge(presets.load("tiny"), changes))


def test_every_fault_is_reported_at_once_with_the_nearest_name():
    tree = merge(
        presets.load("tiny"),
        {
            "sed": 1,
            "method": {"negativs": 3},
            "video_encoder": {"name": "r2plus1"},
            "train": {"batch": "many", "accumulat": 2},
            "optimizer": {"schedule": "cosine", "milestones": [3], "gamma": 0.1},
            "audio": {"bands": 100},
        },
    )
    with pytest.raises(ConfigError) as caught:
        parse(tree)
    text = "\n".join(caught.value.faults)
    assert "sed: no such setting; did you mean 'seed'?" in text
    assert "method.negativs: no such setting; did you mean 'negatives'?" in text
    assert "video_encoder.name: 'r2plus1' is not one of" in text
    assert "did you mean 'r2plus1d'?" in text
    assert "train.batch: input should be a valid integer" in text
    assert "did you mean 'accumulate'?" in text
    assert "optimizer.milestones: have no effect unless schedule is multistep" in text
    assert "audio.bands: must be 129" in text
    assert len(caught.value.faults) == 7


def test_a_setting_without_its_section_is_told_which():
    with pytest.raises(ConfigError) as caught:
        changed({"epochs": 3, "batch": 8, "negatives": 9, "method": "avid"})
    assert caught.value.faults == [
        "method: has settings of its own; give method.name=avid",
        "epochs: no such setting; did you mean 'train.epochs'?",
        "batch: no such setting; did you mean 'train.batch'?",
        "negatives: no such setting; did you mean 'evaluation.negatives'?",
    ]
    with pytest.raises(ConfigError, match=r"'method\.negatives' or 'evaluation\.negatives'"):
        changed({"negatives": 9})


def test_missing_choices_are_named():
    with pytest.raises(ConfigError, match=r"method: is missing; one of .*avid"):
        parse({"seed": 1})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"train": {"accumulate": 3}}, "accumulate: must divide"),
        ({"train": {"keep": [1000]}}, "keep: epochs lie between"),
        ({"train": {"epochs": 0}}, "epochs: must be at least 1"),
        ({"optimizer": {"lr": 0.0}}, "lr: must be positive"),
        ({"audio": {"top_db": 0.0}}, "top_db: must be positive decibels"),
        ({"audio": {"padding": "edge"}}, "audio.padding: input should be 'reflect' or 'zeros'"),
        ({"optimizer": {"schedule": "constant", "milestones": []}}, "gamma: has no effect"),
        ({"optimizer": {"milestones": []}}, "milestones: the multistep schedule needs"),
        ({"video": {"crop_area": [1.0, 0.5]}}, "crop_area: must be two positive numbers"),
        ({"video": {"hue": 0.7}}, "hue: must lie between"),
        ({"video": {"short_side": 32}}, r"short_side: must be at least size \(64\)"),
        ({"video": {"short_side": 72}}, "crop_area: has no effect where short_side is set"),
        (
            {"video": {"short_side": 72, "crop_ratio": [1.0, 1.0]}},
            "crop_ratio: has no effect where short_side is set",
        ),
        ({"video": {"jitter": -0.5}}, "video.jitter: must be 0 or more"),
        ({"audio": {"n_fft": 258}}, "n_fft: must be a multiple of 4"),
        (
            {"audio": {"spectrogram": "mel", "bands": 200}},
            "audio.bands: some of 200 mel bands lie between the bins of n_fft=256",
        ),
        ({"audio": {"spectrogram": "mle"}}, "audio.spectrogram: input should be 'stft' or 'mel'"),
        (
            {"audio_encoder": {"name": "resnet1d-audio"}},
            "audio_encoder.bands: must be 65, those of audio.bands",
        ),
        ({"audio": {"window": 1024}}, "window: must not exceed"),
        ({"audio": {"hop": 0.0}}, "hop: must be positive"),
        ({"data": {"workers": -1}}, "workers: must be 0 or more"),
        ({"data": {"timeout": 0.0}}, "timeout: must be positive"),
        ({"head": {"hidden": [0]}}, "hidden: widths"),
        ({"evaluation": {"tasks": []}}, "tasks: name at least one"),
        ({"threads": -1}, "threads: must be at least 0"),
        ({"plugins": ["no_such_module_here"]}, "plugins: cannot import"),
        ({"plugins": "in_batch"}, r"^plugins: must be a list, such as \[in_batch\]$"),
        ({"plugins": 5}, r"^plugins: must be a list, such as \[5\]$"),
        ({5: 1}, "^5: no such setting"),
        ({"train": {5: 1}}, "train.5: "),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr: input should be a finite number"),
        ({"optimizer": {"lr": math.inf}}, "optimizer.lr: input should be a finite number"),
        ({"video": {"crop_area": [math.nan, 1.0]}}, "crop_area.0: input should be a finite number"),
        ({"seed": True}, "^seed: input should be a number"),
        ({"method": {"negatives": True}}, "^method.negatives: input should be a number"),
        ({"head": {"hidden": [True]}}, "^head.hidden: input should be a number"),
        ({"data": {"workers": True}}, "^data.workers: input should be a number"),
        ({"seed": 2**63}, "^seed: must be at most 9223372036854775807"),
    ],
)
def test_each_section_checks_itself(changes, fault):
    with pytest.raises(ConfigError, match=fault):
        changed(changes)


def test_inputs_of_cm_acc_are_valid():
    config = tiny(
        video_encoder={"name": "resnet3d", "width": 4},
        audio_encoder={"name": "resnet1d-audio", "width": 4},
        video={
            "frames": 16,
            "fps": 10.0,
            "size": 224,
            "short_side": 256,
            "crop_area": [0.08, 1.0],
            "jitter": 0.5,
            "grayscale": 0.2,
        },
        audio={
            "spectrogram": "mel",
            "rate": 16000,
            "duration": 1.6,
            "n_fft": 400,
            "window": 400,
            "hop": 0.01,
            "bands": 80,
            "padding": "zeros",
            "jitter": 0.0,
            "stretch": [1.6, 1.6],
        },
    )
    assert (config.audio.frames, config.audio.hop_samples) == (160, 160)
    assert config.audio.duration == config.video.duration


def test_settings_on_the_command_line():
    tree = override(presets.load("tiny"), ["train.epochs=3", "optimizer.lr=1e-4", "video.flip=0.5"])
    config = parse(tree)
    assert (config.train.epochs, config.optimizer.lr, config.video.flip) == (3, 1e-4, 0.5)
    with pytest.raises(ConfigError, match=r"'epochs': settings are written section\.name=value"):
        override({}, ["epochs"])
    with pytest.raises(ConfigError) as caught:
        override({}, ["video.crop_area=[0.5,1.0", "data.corpus=*.parquet", "epochs"])
    assert [fault.split(": ")[1][:9] for fault in caught.value.faults] == [
        "the value",
        "the value",
        "settings ",
    ]


def test_another_choice_starts_afresh():
    merged = merge({"method": {"name": "avid", "negatives": 5}}, {"method": {"name": "other"}})
    assert merged == {"method": {"name": "other"}}
    same = merge({"method": {"name": "avid", "negatives": 5}}, {"method": {"momentum": 0.1}})
    assert same == {"method": {"name": "avid", "negatives": 5, "momentum": 0.1}}


def test_a_written_configuration_reads_back(tmp_path):
    config = tiny(seed=5)
    write_yaml(tmp_path / "config.yaml", config)
    assert parse(read_yaml(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("seed: 1\nseed: 2\n", "given twice"),
        ("- 1\n", "must hold settings"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_yaml_is_read_strictly(tmp_path, text, fault):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=fault):
        read_yaml(tmp_path / "c.yaml")


def test_a_name_is_registered_once():
    registry = Registry("thing", "earsight.config")

    def build_one(settings):
        return settings

    def build_two(settings):
        return settings

    registry.register("x", int)(build_one)
    with pytest.raises(ValueError, match="registered already"):
        registry.register("x", int)(build_two)


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_valid_and_says_what_it_is_for(name):
    config = parse(presets.load(name))
    assert parse(yaml.safe_load(yaml.safe_dump(as_tree(config)))) == config
    assert len(presets.about(name)) > 20


def test_presets_hold_the_papers_settings():
    analysis, kinetics, audioset = (
        parse(presets.load(f"avid-{name}")) for name in ("analysis", "kinetics", "audioset")
    )
    assert [c.train.batch for c in (analysis, kinetics, audioset)] == [256] * 3
    assert [c.optimizer.lr for c in (analysis, kinetics, audioset)] == [1e-4, 2e-4, 5e-4]
    assert [c.optimizer.weight_decay for c in (analysis, kinetics, audioset)] == [1e-5] * 3
    epochs = [(c.train.epochs, c.train.epoch_samples) for c in (analysis, kinetics, audioset)]
    assert epochs == [(400, 100_000), (300, 240_000), (200, 1_800_000)]
    assert (analysis.video_encoder.depth, kinetics.video_encoder.depth) == (9, 18)
    assert (analysis.video.frames, analysis.video.size) == (16, 112)
    assert (kinetics.video.frames, kinetics.video.size) == (8, 224)
    assert (analysis.audio.frames, analysis.audio.bands) == (100, 129)
    assert (kinetics.audio.frames, kinetics.audio.bands) == (200, 257)
    assert analysis.method.negatives == 1024
    assert (analysis.method.temperature, analysis.method.momentum) == (0.07, 0.5)
    assert analysis.head.hidden == (512, 512)
    assert analysis.head.dim == 128
    assert 200 in analysis.train.keep


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        presets.load("tny")


def test_the_order_of_settings_does_not_matter_where_a_choice_changes():
    settings = ["method.partition=ema", "method.name=cma", "method.positives=5"]
    for order in (settings, settings[::-1]):
        method = parse(override(as_tree(tiny(method={"negatives": 7})), order)).method
        assert (method.name, method.partition, method.positives) == ("cma", "ema", 5)
        assert method.negatives == 1024


def test_compiling_what_is_not_done_is_an_error():
    still = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "grayscale"), 0.0)
    with pytest.raises(ConfigError, match="inputs has no effect where no colours are changed"):
        tiny(video=still, train={"compile": "inputs"})


def test_a_file_that_is_no_utf8_and_one_of_another_version_are_named(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes("seed: 1 # für".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"own\.yaml: is not written in UTF-8"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="schema: is 99"):
        parse({**presets.load("tiny"), "schema": 99})


@pytest.mark.parametrize("setting", ["optimizer.gamma=-1", "optimizer.milestones=[-3]"])
def test_rates_of_no_sense_are_refused(setting):
    settings = ["data.corpus=c.parquet", "optimizer.schedule=multistep", "optimizer.milestones=[1]"]
    with pytest.raises(ConfigError, match=setting.partition("=")[0].replace(".", r"\.")):
        api.configure("tiny", settings=[*settings, setting])
