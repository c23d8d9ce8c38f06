"""The command line: results, exit codes, and one clear sentence for every mistake."""

import json
import os
import subprocess
import sys

import pytest
import torch

from earsight import cli
from earsight.cli.show import emit
from earsight.report.write import write_report
from earsight.training.origin import notices


def run(*arguments, cwd=None, **options):
    """Run the command; returns exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "earsight", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def fails(capsys, *arguments):
    """Run the command in this process; it must end with one message and no traceback."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("earsight: ")
    assert left.value.code in (1, 2)
    return left.value.code, captured.err


def does(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        cli.main([str(a) for a in arguments])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out.startswith("earsight 0.")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["scan"],
        ["corpus"],
        ["presets", "show"],
        ["pretrain"],
        ["evaluate"],
        ["merge"],
        ["compare"],
        ["report"],
        ["import"],
        ["doctor"],
        ["demo"],
    ],
)
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([*command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "usage: earsight" in text
    if command:
        assert "Example: earsight" in " ".join(text.replace("│", " ").split())


def test_usage_errors_exit_with_two():
    assert run("pretrain")[0] == 2
    assert run("dance")[0] == 2


def test_presets(capsys):
    assert "tiny" in json.loads(does(capsys, "presets", "ls", "--json"))
    shown = json.loads(does(capsys, "presets", "show", "tiny", "train.epochs=3", "--json"))
    assert shown["train"]["epochs"] == 3
    assert "method.video_to_audio: 1.0 -> 0.0" in does(
        capsys, "presets", "diff", "tiny", "tiny-self"
    )


def test_settings_on_both_sides_of_an_option_are_told_to_stand_together(capsys):
    given = ["pretrain", "-o", "x", "--preset", "tiny", "train.batch=8", "--dry-run", "threads=1"]
    with pytest.raises(SystemExit) as left:
        cli.parse(given)
    assert left.value.code == 2
    assert "settings (section.name=value) stand together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "flag", "says"),
    [
        ("evaluate", "--no-baseline", "Leave the random initialisation out."),
        ("report", "--no-media", "Leave clips to be played out"),
    ],
)
def test_help_says_what_a_flag_does(command, flag, says, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert text.partition(flag)[2].strip().startswith(says)


@pytest.mark.parametrize(("full", "code"), [(False, 141), (True, 1)], ids=["broken pipe", "full"])
def test_output_that_cannot_be_written(full, code):
    reading, writing = os.pipe()
    os.close(reading)
    if full:
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "earsight", "presets", "show", "tiny"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == code
    assert ("No space left" in done.stderr) if full else (done.stderr == "")


def test_what_machines_read_holds_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit(True, {"figure": float("nan")}, "")


def test_scan_pretrain_evaluate(media, small, tmp_path, capsys):
    manifest, folder = tmp_path / "c.parquet", tmp_path / "run"
    scanned = json.loads(
        does(
            capsys,
            "scan",
            media,
            "-o",
            manifest,
            "--labels",
            media / "labels.csv",
            "--json",
            "--workers",
            1,
        )
    )
    assert scanned["statuses"]["ok"] == 44
    assert "44 ok" in does(capsys, "scan", media, "-o", manifest, "--labels", media / "labels.csv")
    common = ["--preset", "tiny", "--corpus", manifest, *small, "train.epochs=1"]
    dry = json.loads(does(capsys, "pretrain", "-o", folder, *common, "--dry-run", "--json"))
    assert dry["steps"] == 4
    assert not folder.exists()
    trained = json.loads(does(capsys, "pretrain", "-o", folder, *common, "--json"))
    assert "retrieval/audio-video/R@1" in trained
    table = does(capsys, "evaluate", "knn", folder)
    assert "random init" in table
    assert "chance" in table


def test_import_then_evaluate(released, corpus, tmp_path, capsys):
    """The weights' terms are said with everything that is made of them."""
    file, folder = tmp_path / "avid.pth", tmp_path / "run"
    torch.save(released(cma=True), file)
    tree = json.loads(
        does(capsys, "import", "avid", file, "-o", folder, "video.size=64", "video.fps=8", "--json")
    )
    assert tree["run"] == str(folder)
    assert tree["criterion"] == "AVID-CMA"
    assert len(tree["keys"]["used"]) == 267 + 3
    assert "train_criterion.nce_average.positive_set" in tree["keys"]["unused"]
    assert tree["notices"] == list(notices(folder))
    assert "CC BY-NC 4.0" in tree["notices"][0]
    assert "not normalised" in tree["notices"][1]
    code, text = fails(capsys, "evaluate", "retrieve", folder)
    assert code == 2
    assert "--corpus" in text
    few = ("evaluation.gallery=4", "data.workers=0", "threads=1")
    given = ("retrieve", folder, *few, "--corpus", corpus, "--no-baseline")
    shown = does(capsys, "evaluate", *given)
    assert "chance" in shown
    assert "notice: imported from avid.pth, epoch 200: non-commercial licence" in shown
    tree = json.loads(does(capsys, "evaluate", *given, "--json"))
    assert tree["notices"] == list(notices(folder))
    assert tree["weights"] == "run, imported from avid.pth, epoch 200"
    kept = json.loads((folder / "evaluation" / "retrieve-corpus.json").read_text())
    assert kept["details"]["notices"] == list(notices(folder))
    write_report(folder, folder / "report.html")
    page = (folder / "report.html").read_text()
    assert "CC BY-NC 4.0" in page
    assert "avid.pth, epoch 200" in page
    assert "Learning rate" not in page


def test_import_in_words(released, tmp_path, capsys):
    file = tmp_path / "avid.pth"
    torch.save(released(), file)
    shown = does(capsys, "import", "avid", file, "-o", tmp_path / "run")
    for said in (
        "video_encoder.depth=18",
        "method.partition_value=2.5",
        "audio_encoder.strides=[2, 2, 2, 1]",
        "267 weights of encoders and heads: used",
        "optimizer.state: unused until",
        "notice: imported from avid.pth",
        "notice: no statistics",
    ):
        assert said in shown
    code, text = fails(capsys, "import", "avid", file, "-o", tmp_path / "run")
    assert code == 2
    assert "exists already" in text
    code, text = fails(capsys, "import", "avid", tmp_path / "none.pth", "-o", tmp_path / "other")
    assert code == 2
    assert "none.pth" in text
    assert not (tmp_path / "other").exists()


class TestBadInput:
    """Each mistake gets a sentence with its remedy, a non-zero exit, and loses nothing."""

    def test_an_empty_folder(self, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        code, text = fails(capsys, "scan", tmp_path / "empty", "-o", tmp_path / "c.parquet")
        assert code == 2
        assert "no media" in text
        assert not (tmp_path / "c.parquet").exists()

    def test_a_source_that_does_not_exist(self, tmp_path, capsys):
        code, text = fails(capsys, "scan", tmp_path / "none", "-o", tmp_path / "c.parquet")
        assert code == 2
        assert str(tmp_path / "none") in text

    def test_no_usable_clip(self, tmp_path, small, capsys):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "zero.mp4").write_bytes(b"")
        (tmp_path / "a" / "text.mp4").write_text("no video")
        (tmp_path / "a" / "list.mp4").write_text("#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:1/x.ts\n")
        manifest = tmp_path / "c.parquet"
        text = does(capsys, "scan", tmp_path / "a", "-o", manifest)
        assert "unreadable" in text
        code, text = fails(
            capsys,
            "pretrain",
            "--preset",
            "tiny",
            "--corpus",
            manifest,
            "-o",
            tmp_path / "r",
            *small,
        )
        assert code == 2
        assert "no clip can be used (3 unreadable)" in text
        assert not (tmp_path / "r").exists()

    def test_a_manifest_that_is_none(self, tmp_path, small, capsys):
        for path in (tmp_path / "none.parquet", tmp_path / "text.parquet"):
            if path.stem == "text":
                path.write_text("text")
            code, text = fails(
                capsys,
                "pretrain",
                "--preset",
                "tiny",
                "--corpus",
                path,
                "-o",
                tmp_path / "r",
                *small,
            )
            assert code == 2
            assert "scan" in text

    def test_a_run_folder_that_exists(self, finished, corpus, small, capsys):
        before = (finished / "metrics.jsonl").read_bytes()
        code, text = fails(
            capsys, "pretrain", "--preset", "tiny", "--corpus", corpus, "-o", finished, *small
        )
        assert code == 2
        assert "exists already" in text
        assert "--resume" in text
        assert (finished / "metrics.jsonl").read_bytes() == before

    def test_a_corpus_smaller_than_a_batch(self, corpus, small, tmp_path, capsys):
        code, text = fails(
            capsys,
            "pretrain",
            "--preset",
            "tiny",
            "--corpus",
            corpus,
            "-o",
            tmp_path / "r",
            *small,
            "train.batch=64",
        )
        assert code == 2
        assert "32 usable training instances, fewer than a batch of 64; set train.batch=16" in text

    def test_files_moved_since_the_scan(self, media, small, tmp_path, capsys):
        import shutil

        shutil.copytree(media, tmp_path / "m")
        does(capsys, "scan", tmp_path / "m", "-o", tmp_path / "c.parquet")
        (tmp_path / "m").rename(tmp_path / "elsewhere")
        code, text = fails(
            capsys,
            "pretrain",
            "--preset",
            "tiny",
            "--corpus",
            tmp_path / "c.parquet",
            "-o",
            tmp_path / "r",
            *small,
        )
        assert code == 2
        assert "are gone since the scan" in text
        assert "scan again" in text

    def test_misspelt_settings_are_all_named(self, corpus, tmp_path, capsys):
        code, text = fails(
            capsys,
            "pretrain",
            "--preset",
            "tiny",
            "--corpus",
            corpus,
            "-o",
            tmp_path / "r",
            "train.epoch=3",
            "optimiser.lr=1",
            "method.negative=5",
        )
        assert code == 2
        for hint in ("'epochs'", "'optimizer'", "'negatives'"):
            assert f"did you mean {hint}" in text

    def test_an_unknown_preset(self, tmp_path, capsys):
        code, text = fails(capsys, "pretrain", "--preset", "tinny", "-o", tmp_path / "r")
        assert code == 2
        assert "did you mean 'tiny'" in text

    def test_a_device_that_is_not_there(self, corpus, small, tmp_path, capsys):
        code, text = fails(
            capsys,
            "pretrain",
            "--preset",
            "tiny",
            "--corpus",
            corpus,
            "-o",
            tmp_path / "r",
            *small,
            "device=cuda:7",
        )
        assert code == 2
        assert "device=cpu" in text

    @pytest.mark.parametrize("other", ["--resume", "--dry-run"])
    def test_restartable_stands_alone(self, tmp_path, capsys, other):
        code, text = fails(
            capsys, "pretrain", "-o", tmp_path / "r", "--preset", "tiny", "--restartable", other
        )
        assert code == 2
        assert "--restartable starts a run or goes on with it" in text
        assert not (tmp_path / "r").exists()

    def test_a_checkpoint_of_another_schema(self, finished, tmp_path, capsys):
        import shutil

        import torch

        shutil.copytree(finished, tmp_path / "r")
        path = max((tmp_path / "r" / "checkpoints").iterdir())
        torch.save({"schema": 99}, path)
        code, text = fails(capsys, "pretrain", "-o", tmp_path / "r", "--resume")
        assert code == 2
        assert "has schema 99" in text

    def test_a_folder_that_is_no_run(self, tmp_path, capsys):
        code, text = fails(capsys, "evaluate", "knn", tmp_path)
        assert code == 2
        assert "no run folder" in text

    def test_a_run_that_has_not_finished(self, finished, tmp_path, capsys):
        import shutil

        shutil.copytree(finished, tmp_path / "r")
        (tmp_path / "r" / "encoders.safetensors").unlink()
        code, text = fails(capsys, "evaluate", "knn", tmp_path / "r")
        assert code == 2
        assert "has the run finished" in text

    def test_an_unknown_task(self, finished, capsys):
        code, text = fails(capsys, "evaluate", "dance", finished)
        assert code == 2
        assert "retrieve, knn, probe, svm, classify, memory" in text

    @pytest.mark.skipif(os.geteuid() != 0, reason="drops root's privileges, so needs them")
    def test_a_folder_that_may_not_be_written(self, media, tmp_path):
        code, _, errors = run("scan", media, "-o", "/proc/c.parquet", "--workers", 0)
        assert code == 2
        assert "Traceback" not in errors


def test_work_that_is_not_divided_takes_one_process(finished, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, said = fails(capsys, "evaluate", "probe", finished)
    assert code == 2
    assert "start it without torchrun" in said
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as left:
        cli.main(["search", "nowhere", "--query", "clip.mp4"])
    assert left.value.code == 2
    assert capsys.readouterr().err == ""
