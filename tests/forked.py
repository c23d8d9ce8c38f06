"""Python processes that are forked from one that has torch: to import it takes seconds, and tests
start hundreds of them.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["earsight.training.run", "earsight.evaluation.tasks", "torch._dynamo", "pandas", "scipy.stats"]
)


def start_server() -> None:
    """Start it before a loader does: its own has less in it, and is blind to SIGTERM."""
    forkserver.ensure_running()


class Forked:
    """What ``python`` does with ``-m module`` or a script; names are those of ``Popen``."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.args = [*map(str, arguments)]
        self._said = [os.memfd_create(name) for name in ("out", "err")]
        said = [Path(f"/proc/{os.getpid()}/fd/{number}") for number in self._said]
        place, environment = cwd or Path.cwd(), dict(os.environ if env is None else env)
        self._process = _CONTEXT.Process(target=_run, args=(self.args, place, environment, said))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that was said, once it has ended."""
        self.wait(timeout)
        out, err = (_whole(number) for number in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run(
    arguments: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` does; what hangs is ended."""
    process = Forked(arguments, cwd, env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def _whole(number: int) -> str:
    with os.fdopen(number) as file:
        file.seek(0)
        return file.read()


def _run(arguments: list[str], cwd: Path, environment: dict[str, str], said: list[Path]) -> None:
    # Blocked, where a loader of an earlier test started the server of processes.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for number, path in enumerate(said, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    first, *rest = arguments
    if first == "-m":
        sys.path.insert(0, str(cwd))
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(first).parent))
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")
