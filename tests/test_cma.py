"""CMA end to end: from a Cross-AVID run to positives, resumed, evaluated, shown."""

import json
import os
import re
import shutil

import pytest
import torch

from earsight import api
from earsight.errors import StoppedError
from earsight.training.checkpoint import load_checkpoint
from earsight.training.resume import last_checkpoint

CMA = (
    "method.positives=4",
    "method.drawn=2",
    "method.refresh=1",
    "optimizer.milestones=[1]",
)


@pytest.fixture(scope="module")
def settings(small):
    plain = [text for text in small if not text.startswith("optimizer.")]
    return [*plain, *CMA]


def cma_config(corpus, settings, start, *more):
    own = [f"data.corpus={corpus}", f'start="{start}"']
    return api.configure("tiny-cma", settings=[*settings, *own, *more])


@pytest.fixture(scope="module")
def run(finished, corpus, settings, tmp_path_factory):
    run = tmp_path_factory.mktemp("cma") / "run"
    api.pretrain(cma_config(corpus, settings, finished), run, quiet=True)
    return run


def test_it_starts_from_weights_bank_and_partition(run, finished):
    log = (run / "log.txt").read_text()
    assert "video_encoder, audio_encoder, video_head, audio_head" in log
    assert "memory of run: 32 of 32 rows taken over, 0 are new, 0 of its rows are gone" in log
    assert "4 positives per row by agreement (min), 2 drawn per step" in log
    assert log.count("4 positives found for 32 of 32 rows") == 2
    before, after = last_checkpoint(finished)["method"], last_checkpoint(run)["method"]
    assert torch.equal(before["partition"], after["partition"])
    assert after["positives"].shape == (32, 4)


def test_stopped_and_resumed_it_ends_alike(run, finished, corpus, settings, tmp_path):
    again, seen = tmp_path / "again", []

    def stop(step, of):
        seen.append(step)
        if step == 3:
            raise StoppedError(15, "stopped")

    more = ("train.checkpoint_every=1",)
    with pytest.raises(StoppedError):
        api.pretrain(cma_config(corpus, settings, finished, *more), again, quiet=True, watch=stop)
    config = api.run_config(again, preset=None, config=None, corpus=None, settings=[], resume=True)
    api.pretrain(config, again, resume=True, quiet=True)
    whole, resumed = last_checkpoint(run), last_checkpoint(again)
    for part in ("model", "method"):
        assert all(torch.equal(x, resumed[part][name]) for name, x in whole[part].items())


def test_it_starts_from_a_kept_epoch(corpus, small, settings, tmp_path):
    first = tmp_path / "first"
    more = [f"data.corpus={corpus}", "train.keep=[1]", "train.keep_last=1"]
    api.pretrain(api.configure("tiny", settings=[*small, *more]), first, quiet=True)
    steps = sorted(int(p.stem[5:]) for p in (first / "checkpoints").glob("*.pt"))
    assert steps == [4, 8]
    config = cma_config(corpus, settings, first, "start_epoch=1", "train.epochs=1")
    api.pretrain(config, tmp_path / "second", quiet=True)
    kept = load_checkpoint(first / "checkpoints" / "step-000000004.pt")
    mined = last_checkpoint(tmp_path / "second")["method"]
    assert torch.equal(mined["partition"], kept["method"]["partition"])
    config = cma_config(corpus, settings, first, "start_epoch=3")
    with pytest.raises(ValueError, match=r"kept no checkpoint of epoch 3, but of 1, 2"):
        api.pretrain(config, tmp_path / "third", quiet=True)


def test_without_a_run_to_start_from_it_says_so(corpus, settings, tmp_path):
    config = api.configure("tiny-cma", settings=[*settings, f"data.corpus={corpus}"])
    with pytest.raises(ValueError, match="start from one with --from RUN"):
        api.pretrain(config, tmp_path / "run", quiet=True)
    # The same command, mended, finds the folder free.
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_gained_and_lost_clips_is_matched_by_key(finished, media, settings, tmp_path):
    other = tmp_path / "videos"
    shutil.copytree(media, other)
    labels = (other / "labels.csv").read_text().splitlines()
    lost, copied = [line.split(",")[0] for line in labels if ",train" in line][:2]
    new = other / "new.mp4"
    shutil.copy(other / copied, new)
    os.truncate(new, new.stat().st_size - 1)
    (other / lost).unlink()
    (line,) = [line for line in labels if line.startswith(copied)]
    kept = [line for line in labels if not line.startswith(lost)]
    (other / "labels.csv").write_text("\n".join([*kept, line.replace(copied, "new.mp4")]) + "\n")
    manifest = tmp_path / "other.parquet"
    api.scan([str(other)], manifest, labels=other / "labels.csv", workers=0)
    run = tmp_path / "run"
    api.pretrain(cma_config(manifest, settings, finished, "train.epochs=1"), run, quiet=True)
    log = (run / "log.txt").read_text()
    assert "memory of run: 31 of 32 rows taken over, 1 are new, 1 of its rows are gone" in log
    assert "found for 31 of 32 rows" in log


def test_it_is_probed(run):
    evaluation = api.evaluate(run, "probe", baseline=False)
    accuracies = [row.value for row in evaluation.rows if row.metric == "accuracy"]
    assert accuracies
    assert all(0 <= x <= 1 for x in accuracies)


def test_positives_that_leave_no_negative_are_refused_before_anything_is_read(
    finished, corpus, settings
):
    config = cma_config(corpus, settings, finished, "method.positives=31")
    with pytest.raises(ValueError, match="31 of 32 training instances leave no negative"):
        api.dry_run(config)


def test_agreement_is_evaluated_with_a_page(run):
    evaluation = api.agreement(run, settings=["evaluation.positives=5"])
    rows = {(r.task, r.modality, r.label, r.metric): r for r in evaluation.rows}
    criteria = {key[1] for key in rows if key[3].startswith("precision@")}
    assert criteria == {"min", "video", "audio", "either", "positives"}
    assert rows["agreement", "min", "shape", "precision@5"].n == 32
    assert rows["agreement", "video", None, "mean_inner_product"].n == 100_000
    assert rows["memory", "both", "shape", "accuracy"].chance > 0
    tree = json.loads((run / "evaluation" / "agreement.json").read_text())
    assert len(tree["results"]) == len(evaluation.rows)
    page = (run / api.AGREEMENT_PAGE).read_text()
    assert page.count("<video") >= 32
    assert page.count("rejected: alike in picture alone") >= 1
    assert re.search(r"picture -?\d\.\d\d · sound -?\d\.\d\d", page)
    assert "<svg" in page
    assert "http" not in re.sub(r"data:[^\"]*", "", page).replace("http-equiv", "")


def test_runs_and_corpora_without_what_it_takes_are_refused(
    run, finished, corpus, small, settings, tmp_path
):
    supervised = tmp_path / "supervised"
    plain = [s for s in small if not s.startswith(("method", "optimizer"))]
    own = [f"data.corpus={corpus}", "method.label=shape", "train.epochs=1"]
    api.pretrain(api.configure("tiny-supervised", settings=[*plain, *own]), supervised, quiet=True)
    with pytest.raises(
        ValueError, match=r"keeps no memory bank of video and audio \(its method is"
    ):
        api.agreement(supervised)
    with pytest.raises(ValueError, match="the corpus has no column 'none'"):
        api.agreement(run, settings=["evaluation.labels=[none]"])
    without = tmp_path / "without"
    shutil.copytree(finished, without)
    shutil.rmtree(without / "checkpoints")
    with pytest.raises(ValueError, match="without keeps no memory bank of both modalities"):
        api.pretrain(cma_config(corpus, settings, without), tmp_path / "cma", quiet=True)
    with pytest.raises(ValueError, match="has no checkpoint, in which a memory bank would be"):
        api.agreement(without)


def test_without_labels_the_rest_is_measured(run, media, tmp_path):
    manifest = tmp_path / "plain.parquet"
    split = tmp_path / "split.csv"
    lines = (media / "labels.csv").read_text().splitlines()
    head = lines[0].split(",")
    chosen = [head.index("path"), head.index("split")]
    split.write_text("\n".join(",".join(x.split(",")[i] for i in chosen) for x in lines) + "\n")
    api.scan([str(media)], manifest, labels=split, workers=0)
    evaluation = api.agreement(run, corpus=manifest)
    assert {row.metric for row in evaluation.rows} == {"mean_inner_product"}
    notes = evaluation.details["notes"]
    assert "31 positives instead of 32: there are no more" in notes
    assert any("no labels, so no precision" in note for note in notes)
