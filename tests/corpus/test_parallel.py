import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from earsight.corpus.parallel import Lost, cores, deaf_to, each

MODULE = """
import os, signal, time

def work(item):
    if item == "hang":
        time.sleep(600)
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "exit":
        os._exit(7)
    if item == "bug":
        raise KeyError("a bug")
    return item, os.getpid()

def die():
    os._exit(1)
"""


@pytest.fixture
def hears_ctrl_c():
    """Tests that run in the background may have been told to ignore it, and so would children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "module_of_work.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_work

    return module_of_work.work


def test_in_this_process(work):
    got = list(each(work, ["a", "b"], workers=0, seconds=[1, 1]))
    assert got == [(0, ("a", os.getpid())), (1, ("b", os.getpid()))]


def test_hanging_and_crashing_items_are_lost_and_the_rest_go_on(work):
    items = ["a", "hang", "crash", "b", "exit", *map(str, range(20))]
    seconds = [300.0] * len(items)
    seconds[1] = 0.5
    began = time.monotonic()
    got = dict(each(work, items, workers=2, seconds=seconds))
    # What hangs is given up after its own half second, not after what the others may take.
    assert time.monotonic() - began < 300
    assert sorted(got) == list(range(len(items)))
    assert got[1] == Lost(reason="timed out: took more than 0.5 s to read")
    assert got[2] == Lost(reason="crashed its reader (signal 11)")
    assert got[4] == Lost(reason="crashed its reader (exit code 7)")
    good = [result for at, result in got.items() if at not in {1, 2, 4}]
    assert [item for item, _ in sorted(good)] == sorted(set(items) - {"hang", "crash", "exit"})
    assert os.getpid() not in {pid for _, pid in good}


def test_a_crash_with_a_single_worker(work):
    got = dict(each(work, ["exit", "a", "crash"], workers=1, seconds=[20] * 3))
    assert isinstance(got[0], Lost)
    assert got[1][0] == "a"
    assert isinstance(got[2], Lost)


def test_a_bug_is_not_hidden(work):
    with pytest.raises(KeyError, match="a bug") as error:
        list(each(work, ["bug"], workers=1, seconds=[20]))
    assert "while working on bug" in error.value.__notes__


def test_workers_that_cannot_start_say_so(work, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="use 0 workers"):
        list(each(work, ["a"], workers=1, seconds=[20]))


SLOW_TO_START = """
import sys, time
from pathlib import Path

if __name__ != "__main__":  # a worker, before it has said which signals it heeds
    (Path(sys.argv[1]) / "starting").touch()
    time.sleep(SECONDS)

def work(item):
    return item

if __name__ == "__main__":
    from earsight.corpus.parallel import each
    list(each(work, list(range(9)), workers=2, seconds=[60] * 9))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals a group of processes")
@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_while_workers_start_is_for_the_parent_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SLOW_TO_START.replace("SECONDS", "5"))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "starting").exists():
        assert parent.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGINT)
    _, told = parent.communicate(timeout=60)
    assert parent.returncode == -signal.SIGINT
    assert told.count("Traceback (most recent call last)") == 1
    assert told.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.usefixtures("hears_ctrl_c")
def test_what_was_sent_meanwhile_arrives_at_the_end():
    order = []

    def interrupted():
        with deaf_to(signal.SIGINT):
            # To this thread: another would take it in its place.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            order.append("deaf")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert order == ["deaf"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_nothing_to_do_starts_nothing(work):
    assert list(each(work, [], workers=2, seconds=[])) == []
    assert cores() >= 1
