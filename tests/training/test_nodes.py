"""Several nodes: what ends when one is lost, and what goes on when it is back."""

import shutil
import sys
import time
from pathlib import Path

import pytest

import forked
from earsight import api
from earsight.config import ConfigError
from earsight.training.resume import last_checkpoint

sys.path.insert(0, str(Path(__file__).parent))

import rank
from hosts import two_hosts, why_not
from test_distributed import ended, start, train_lines

EPOCHS = 6
WAITS = 15


def command(run, corpus, small, *more):
    """What starts a run and goes on with it."""
    settings = [f"train.epochs={EPOCHS}", "train.checkpoint_every=2", f"train.rank_timeout={WAITS}"]
    own = ["--preset", "tiny", "--corpus", str(corpus), "--restartable"]
    return ["pretrain", "-o", str(run), *own, *small, *settings, *more]


def said(errors):
    """The sentences of earsight alone."""
    return [line for line in errors.splitlines() if line.startswith("earsight:")]


def wait_for_step(run, step, processes):
    """Until a step is logged."""
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 300
    while not (metrics.exists() and f'"step": {step}' in metrics.read_text()):
        assert time.monotonic() < deadline
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.005)


def same_losses(run, other):
    """Both logged all steps, with losses that differ by 1e-5 at most."""
    found, wanted = train_lines(run), train_lines(other)
    assert [line["step"] for line in found] == list(range(1, 4 * EPOCHS + 1))
    losses = [[line["loss"] for line in lines] for lines in (found, wanted)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.fixture(scope="module")
def uninterrupted(corpus, small, tmp_path_factory):
    """A run of two processes that nothing happens to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    codes, errors = ended(start(["-m", "earsight", *command(run, corpus, small)]), 300)
    assert codes == [0, 0], errors
    return run


def test_a_killed_rank_is_named(corpus, small, tmp_path):
    run = tmp_path / "run"
    dies = [rank.__file__, "die", str(tmp_path / "died"), *command(run, corpus, small)]
    codes, errors = ended(start(dies), 300)
    assert codes == [1, -9], errors
    (sentence,) = said(errors[0])
    assert sentence.startswith("earsight: rank 1 ended without a word, perhaps for want of memory")
    assert sentence.endswith("go on with --resume")
    assert last_checkpoint(run)["step"] == 2


def test_torchrun_starts_a_killed_rank_again(uninterrupted, corpus, small, tmp_path):
    run = tmp_path / "run"
    restarts = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    dies = [rank.__file__, "die", str(tmp_path / "died"), *command(run, corpus, small)]
    done = forked.run(["-m", "torch.distributed.run", *restarts, *dies], timeout=400)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists()
    # torchrun may end the other rank before it has said why.
    assert len(said(done.stderr)) <= 1
    assert "goes on from step 2 of 24" in (run / "log.txt").read_text()
    same_losses(run, uninterrupted)


def test_a_run_is_gone_on_with_by_its_own_settings_alone(uninterrupted, corpus, small, tmp_path):
    run = tmp_path / "run"
    settings = [*small, f"data.corpus={corpus}", "train.epochs=1"]
    config = api.configure("tiny", settings=settings)
    api.pretrain(config, run, resume=None, quiet=True)
    lines = train_lines(run)
    api.pretrain(config, run, resume=None, quiet=True)
    assert train_lines(run) == lines
    other = api.configure("tiny", settings=[*settings, "method.negatives=9"])
    with pytest.raises(ConfigError, match=r"method\.negatives: the run was started with 8"):
        api.pretrain(other, run, resume=None, quiet=True)
    # Before the first checkpoint, too.
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ConfigError, match=r"method\.negatives: the run was started with 8"):
        api.pretrain(other, run, resume=None, quiet=True)
    assert train_lines(run) == lines


@pytest.fixture
def hosts():
    if reason := why_not():
        pytest.skip(reason)
    with two_hosts() as made:
        yield made


def test_a_host_that_is_cut_off_ends_the_run_and_rejoins(
    hosts, uninterrupted, corpus, small, tmp_path
):
    run = tmp_path / "run"
    words = ["-m", "earsight", *command(run, corpus, small)]
    processes = [hosts.torchrun(number, *words) for number in range(2)]
    wait_for_step(run, 5, processes)
    hosts.cable("down")
    cut = time.monotonic()
    first, second = (process.communicate(timeout=WAITS + 120)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert time.monotonic() - cut < WAITS + 120
    (sentence,) = said(first)
    assert sentence.startswith("earsight: rank 1 did not arrive in time (train.rank_timeout)")
    assert sentence.endswith("go on with --resume")
    (sentence,) = said(second)
    assert "(MASTER_ADDR) no longer answers: it is gone, or the network is cut" in sentence
    step = last_checkpoint(run)["step"]
    assert 4 <= step < 4 * EPOCHS
    hosts.cable("up")
    processes = [hosts.torchrun(number, *words, port=29614) for number in range(2)]
    errors = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert f"goes on from step {step} of 24" in (run / "log.txt").read_text()
    same_losses(run, uninterrupted)
