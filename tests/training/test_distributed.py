"""Two processes over gloo: what they learn is what one learns, and they end together."""

import csv
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import forked
from earsight import api, cli
from earsight.config import ConfigError
from earsight.training import devices, place
from earsight.training.checkpoint import checkpoint_path, save_checkpoint, steps_saved
from earsight.training.devices import cores, prepare_machine, thread_count
from earsight.training.distributed import Ranks
from earsight.training.place import claim_gpu
from earsight.training.plan import Plan
from earsight.training.resume import last_checkpoint
from forked import Forked

sys.path.insert(0, str(Path(__file__).parent))

import rank

SCRIPT = Path(__file__).with_name("rank.py")
RUN = ("train.epochs=3", "train.checkpoint_every=5", "train.rank_timeout=60")
ONE_PRECISION = "train.precision=float32"


def pretrain(run, corpus, small, *extra):
    arguments = ["--preset", "tiny", "--corpus", str(corpus), *small, *RUN]
    return ["pretrain", "-o", str(run), *([] if "--resume" in extra else arguments), *extra]


def start(command, ranks=2):
    """The processes of a command, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    sizes = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    started = []
    for number in range(ranks):
        told = {**shared, **sizes, "RANK": number, "LOCAL_RANK": number}
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        started.append(Forked(command, env=environment))
    return started


def ended(processes, seconds=60):
    """Exit codes and errors, once all have ended."""
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], errors


def wait_for_step(run, step, processes):
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        if metrics.exists() and f'"step": {step}' in metrics.read_text():
            return
        time.sleep(0.005)
    raise AssertionError([process.communicate() for process in processes])


def train_lines(run):
    """The training lines without what is timed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = {"time", "clips_per_second", "wait"}
    return [
        {k: v for k, v in line.items() if k not in timed}
        for line in lines
        if line["kind"] == "train"
    ]


@pytest.fixture(scope="module")
def scenarios(corpus, small, tmp_path_factory):
    """What one process does in every scenario, and what each of two does."""
    settings = [*small, f"data.corpus={corpus}", ONE_PRECISION]
    folder = tmp_path_factory.mktemp("ranks")
    processes = start([str(SCRIPT), "steps", str(folder), *settings])
    one = {name: rank.scenario(name, settings) for name in rank.SCENARIOS}
    codes, errors = ended(processes)
    assert codes == [0, 0], errors
    return one, [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.parametrize("name", ["whole", "accumulated", "one encoder", "duplicates", "momentum"])
def test_two_processes_learn_what_one_learns(scenarios, name):
    one, two = scenarios[0][name], [done[name] for done in scenarios[1]]
    for drawn in ("row", "index", "start", "video", "audio"):
        parts = [torch.cat(pair) for pair in zip(two[0][drawn], two[1][drawn], strict=True)]
        for whole, joined in zip(one[drawn], parts, strict=True):
            assert torch.equal(whole, joined), drawn
    for expected, *found in zip(one["metrics"], *(x["metrics"] for x in two), strict=True):
        assert found[0] == found[1]
        assert found[0].keys() == expected.keys()
        for metric, value in expected.items():
            assert float(found[0][metric]) == pytest.approx(float(value), rel=1e-5, abs=1e-5)
    for number in ("model", "method"):
        for key, value in two[0][number].items():
            assert torch.equal(value, two[1][number][key]), key
            torch.testing.assert_close(value, one[number][key], rtol=1e-3, atol=1e-4)


def test_two_processes_that_share_a_bank_learn_what_two_learn_that_do_not(scenarios):
    for number, done in enumerate(scenarios[1]):
        apart, shared = done["whole"], done["sharded"]
        for expected, found in zip(apart["metrics"], shared["metrics"], strict=True):
            assert all(torch.equal(found[name], value) for name, value in expected.items())
        for part in ("model", "method") if number == 0 else ("model",):
            assert shared[part].keys() == apart[part].keys()
            assert all(torch.equal(shared[part][n], x) for n, x in apart[part].items())
        assert ("bank.video" in shared["method"]) == (number == 0)


def test_two_processes_choose_alike(scenarios):
    one, two = scenarios[0]["active"], [done["active"] for done in scenarios[1]]
    for name, value in two[0]["method"].items():
        assert torch.equal(value, two[1]["method"][name]), name
    for modality in ("video", "audio"):
        rows = [done["method"][f"dictionaries.{modality}.rows"] for done in (one, *two)]
        assert (rows[0] >= 0).all()
        assert torch.equal(rows[0], rows[1])


def test_an_encoder_that_no_direction_uses_keeps_its_weights(scenarios):
    done = scenarios[1][0]["one encoder"]
    changed = {n for n, x in done["model"].items() if not torch.equal(x, done["before"][n])}
    assert {name.split("_")[0] for name in changed} == {"video"}


def test_a_row_on_both_ranks_moves_its_target_once(scenarios):
    """By the mean of both embeddings: the first step brought rows 0 to 3 twice."""
    one, two = scenarios[0]["duplicates"], scenarios[1]
    rows = torch.cat([done["duplicates"]["row"][0] for done in two])
    assert rows.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    bank = two[0]["duplicates"]["method"]["bank.video"]
    torch.testing.assert_close(bank, one["method"]["bank.video"], rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_no_number_on_one_rank_stops_the_update_on_all(scenarios):
    for done in scenarios[1]:
        done = done["poisoned"]
        assert not done["finite"][0]
        assert all(torch.equal(done["before"][n], x) for n, x in done["model"].items())


def test_updates_of_any_length_are_joined_by_micro_batch_then_rank(scenarios):
    expected = [
        [0, 10, 100, 110],
        [0, 10, 11, 12, 13, 14, 100, 101, 102, 103, 104, 110],
        [0, 10, 11, 100, 101, 110],
    ]
    for done in scenarios[1]:
        assert [one["x"].tolist() for one in done["joined"]] == expected
        assert all(torch.equal(one["y"], one["x"][:, None] > 10) for one in done["joined"])


def test_gradients_are_means_over_ranks_and_what_none_uses_has_none(scenarios):
    for done in scenarios[1]:
        assert done["averaged"]["none"] is None
        assert torch.equal(done["averaged"]["both"], torch.full((2, 3), 1.5))
        assert torch.equal(done["averaged"]["one"], torch.full((2, 3), 2.0))


@pytest.fixture(scope="module")
def uninterrupted(corpus, small, tmp_path_factory):
    """A run by torchrun."""
    run = tmp_path_factory.mktemp("whole") / "run"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "earsight", *pretrain(run, corpus, small)]
    done = forked.run(command, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the run is in") == 1
    assert "Warning" not in done.stderr
    return run


def test_one_process_writes(uninterrupted):
    files = [p.relative_to(uninterrupted) for p in uninterrupted.rglob("*") if p.is_file()]
    assert sorted(map(str, files)) == [
        ".lock",
        "checkpoints/step-000000010.pt",
        "checkpoints/step-000000012.pt",
        "config.yaml",
        "encoders.safetensors",
        "log.txt",
        "metrics.jsonl",
    ]
    assert [line["step"] for line in train_lines(uninterrupted)] == list(range(1, 13))
    log = (uninterrupted / "log.txt").read_text()
    assert log.count("instances to train on") == 1
    assert "2 processes: each takes 4 of the 8 clips" in log
    assert "8 negatives per query, drawn from 31 rows" in log


def test_a_signal_to_one_rank_ends_all_and_the_run_resumes(uninterrupted, corpus, small, tmp_path):
    run = tmp_path / "run"
    # The other run keeps the bank on both: that changes nothing.
    command = pretrain(run, corpus, small, "method.bank=sharded")
    processes = start(["-m", "earsight", *command])
    wait_for_step(run, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, errors = ended(processes)
    assert codes == [143, 143], errors
    assert "".join(errors).count("stopped by SIGTERM") == 1
    assert "Traceback" not in "".join(errors)
    assert steps_saved(run)
    codes, errors = ended(start(["-m", "earsight", *pretrain(run, corpus, small, "--resume")]))
    assert codes == [0, 0], errors
    assert train_lines(run) == train_lines(uninterrupted)
    learned, expected = (load_file(r / "encoders.safetensors") for r in (run, uninterrupted))
    assert all(torch.equal(learned[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("chosen", "read"), [([3], 3), ([3, 6], 6), ([], None)])
def test_all_ranks_go_on_from_the_checkpoint_that_rank_0_sees(tmp_path, chosen, read):
    class Other(Ranks):
        def on_main(self, work):
            return chosen

    for step in (3, 6):
        save_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
    state = last_checkpoint(tmp_path, Other(1, 2))
    assert (state and state["step"]) == read


def test_a_run_of_two_processes_goes_on_with_one(uninterrupted):
    settings = ["train.epochs=4", "method.bank=sharded"]
    more = api.run_config(
        uninterrupted, preset=None, config=None, corpus=None, settings=settings, resume=True
    )
    api.pretrain(more, uninterrupted, resume=True, quiet=True)
    assert [line["step"] for line in train_lines(uninterrupted)] == list(range(1, 17))
    told = "method.bank=sharded changes nothing in a single process"
    assert told in (uninterrupted / "log.txt").read_text()


def test_a_rank_that_hangs_is_named(corpus, small, tmp_path):
    # Rows are fetched from a bank of more than 8 times the negatives: there, rank 0 waits.
    shared = ("method.bank=sharded", "method.negatives=2")
    command = pretrain(tmp_path / "run", corpus, small, "train.rank_timeout=5", *shared)
    processes = start([str(SCRIPT), "hang", *command])
    processes[0].wait(timeout=60)
    processes[1].kill()
    codes, errors = ended(processes)
    assert codes == [1, -signal.SIGKILL], errors
    (sentence,) = [line for line in errors[0].splitlines() if line.startswith("earsight:")]
    assert sentence.startswith("earsight: rank 1 did not arrive in time (train.rank_timeout)")
    assert "Traceback" not in errors[0]


def test_a_rank_that_fails_ends_the_others_with_its_reason(corpus, small, tmp_path):
    began = time.monotonic()
    command = [str(SCRIPT), "fail", *pretrain(tmp_path / "run", corpus, small)]
    codes, errors = ended(start(command))
    assert codes == [1, 2], errors
    assert time.monotonic() - began < 50, "the timeout is 60 s"
    assert "earsight: the disk of rank 1 is gone" in errors[1]
    assert "Traceback" not in "".join(errors)
    (sentence,) = [line for line in errors[0].splitlines() if line.startswith("earsight:")]
    assert sentence == "earsight: rank 1 failed: the disk of rank 1 is gone"


def test_a_file_that_one_rank_cannot_read_counts_on_all(media, small, tmp_path):
    shutil.copytree(media, tmp_path / "media")
    corpus = tmp_path / "corpus.parquet"
    api.scan([str(tmp_path / "media")], corpus, labels=media / "labels.csv", workers=0)
    damaged = tmp_path / "media" / "train" / "0007.mp4"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    command = pretrain(tmp_path / "run", corpus, small, "data.max_failures=0")
    codes, errors = ended(start(["-m", "earsight", *command]))
    assert codes == [1, 1], errors
    assert "".join(errors).count("1 of") == 1, errors
    assert "clips could not be read, more than data.max_failures=0" in "".join(errors)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("unreadable while training") == 1
    assert "0007.mp4" in log


def test_one_rank_fills_a_cache_on_disk(corpus, small, tmp_path):
    place = f"data.cache_folder={tmp_path / 'cache'}"
    command = pretrain(tmp_path / "run", corpus, small, "data.cache=disk", place)
    codes, errors = ended(start([str(SCRIPT), "fill", str(tmp_path), *command]))
    assert codes == [0, 0], errors
    assert [path.name for path in tmp_path.glob("filled-*")] == ["filled-0"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_folder_that_holds_something_is_told_once(corpus, small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    command = pretrain(tmp_path / "run", corpus, small)
    codes, errors = ended(start(["-m", "earsight", *command]))
    assert codes == [2, 1], errors
    assert "exists already; choose another folder" in errors[0]
    assert errors[1].startswith("earsight: rank 0 failed: ")
    assert "Traceback" not in "".join(errors)


@pytest.mark.parametrize(("number", "told"), [(0, 1), (1, 0)])
def test_a_mistaken_setting_is_told_once(
    corpus, small, tmp_path, monkeypatch, capsys, number, told
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(number))
    monkeypatch.setenv("LOCAL_RANK", str(number))
    with pytest.raises(SystemExit) as left:
        cli.main(pretrain(tmp_path / "run", corpus, small, "train.batches=3"))
    assert left.value.code == 2
    assert capsys.readouterr().err.count("train.batches") == told


def test_a_batch_must_divide_among_processes(corpus, small):
    config = api.configure("tiny", settings=[*small, "train.accumulate=2"])
    assert Plan.of(config, 32, 2).micro == 4
    with pytest.raises(ValueError, match=r"8 clips cannot be divided among 3.*set train\.batch=6"):
        Plan.of(config, 32, 3)


def test_threads_are_shared_among_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert thread_count(0) == max(1, cores() // 2)
    assert thread_count(3) == 3


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [("cuda:0", 2, "cannot be divided"), ("mps", 0, "cannot be divided"), ("auto", 1, "1 GPUs")],
)
def test_devices_that_processes_cannot_share(monkeypatch, device, gpus, message):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(place.torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(place.torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=message):
        claim_gpu(device)


@pytest.mark.parametrize(("device", "claimed"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_single_process_computes_on_the_gpu_that_is_named(small, monkeypatch, device, claimed):
    current = []
    monkeypatch.setattr(devices, "choose_device", torch.device)
    monkeypatch.setattr(devices.torch.cuda, "set_device", lambda one: current.append(str(one)))
    config = api.configure("tiny", settings=[*small, f"device={device}"])
    assert prepare_machine(config) == torch.device(device)
    assert current == claimed


def test_a_dry_run_takes_one_process(corpus, small, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = api.configure("tiny", settings=[*small, f"data.corpus={corpus}"])
    with pytest.raises(ValueError, match="without torchrun"):
        api.dry_run(config)


def test_timeouts_are_positive(small):
    with pytest.raises(ConfigError, match=r"train\.rank_timeout: must be positive"):
        api.configure("tiny", settings=[*small, "train.rank_timeout=0"])


def test_ranks_search_their_parts_and_end_with_the_positives_of_one(
    uninterrupted, corpus, small, tmp_path
):
    chosen = [text for text in small if not text.startswith("optimizer.")]
    settings = [*chosen, "method.positives=4", "optimizer.milestones=[1]", "train.epochs=1"]

    def command(run, *more):
        own = ["--preset", "tiny-cma", "--corpus", str(corpus), "--from", str(uninterrupted)]
        return ["-m", "earsight", "pretrain", "-o", str(run), *own, *settings, *more]

    codes, errors = ended(start(command(tmp_path / "two", "method.bank=sharded")))
    assert codes == [0, 0], errors
    codes, errors = ended(start(command(tmp_path / "one"), ranks=1))
    assert codes == [0], errors
    one, two = (last_checkpoint(tmp_path / name)["method"] for name in ("one", "two"))
    assert torch.equal(one["positives"], two["positives"])
    assert torch.equal(one["agreement"], two["agreement"])


@pytest.fixture
def folded(media, tmp_path):
    """The rendered corpus in two folds."""
    with (media / "labels.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        parts = [[*cells, str(1 + number % 2)] for number, cells in enumerate(lines)]
        csv.writer(file).writerows([[*head, "fold"], *parts])
    manifest = tmp_path / "folded.parquet"
    api.scan([str(media)], manifest, labels=tmp_path / "labels.csv", workers=0)
    return manifest


def test_two_processes_fine_tune_over_folds(finished, folded, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("evaluation"))
    asked = ["--modality", "audio", "--label", "shape", "--corpus", str(folded), "--folds", "all"]
    settings = ["train.epochs=1", "train.epoch_samples=8", "train.batch=8", "train.rank_timeout=30"]
    command = ["-m", "earsight", "evaluate", "finetune", str(run), *asked, "--json", *settings]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = forked.run([*torchrun, *command], timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["details"]["protocol"]["folds"] == [1, 2]
    made = sorted(path.name for path in (run / "evaluation").glob("*.json"))
    name = "finetune-audio-shape-100pc"
    assert made == [
        f"{name}-folded-fold1-2.json",
        *(f"{name}-seed0-fold{fold}-folded.json" for fold in (1, 2)),
    ]
    # Tested again, and without torchrun's store, which outlives the processes' meetings.
    processes = start([*command, "evaluation.clips=2"])
    (text, other), errors = zip(*(one.communicate(timeout=60) for one in processes), strict=True)
    assert [one.returncode for one in processes] == [0, 0], errors
    assert json.loads(text)["details"]["protocol"]["clips"] == 2
    assert other == ""
