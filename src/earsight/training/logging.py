"""Where a run writes what happens: JSON lines always, a log, the terminal, extras on request."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from earsight.config import LogConfig
from earsight.files import write_whole
from earsight.terminal import make_bar

SCHEMA = 1
"""Version of ``metrics.jsonl``."""

_PLAIN_SECONDS = 10.0

Sink = Callable[[int, Mapping[str, float]], None]


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines of ``metrics.jsonl`` that lie past ``step``, and a last line cut short.

    Raises:
        OSError: it cannot be written; all its lines are still there.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.endswith("}"):
            continue
        if json.loads(line).get("step", 0) <= step:
            kept.append(line)
    write_whole(path, "".join(line + "\n" for line in kept))


def metrics_at(path: Path, kind: str, step: int) -> dict[str, float] | None:
    """The figures of ``metrics.jsonl`` of that kind and step, None where it has no such line."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found = [line for line in lines if (line["kind"], line["step"]) == (kind, step)]
    about = ("kind", "step", "epoch")
    return {name: x for name, x in found[-1].items() if name not in about} if found else None


_EXTRAS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}
"""Setting to the module that it needs."""


def require_extras(config: LogConfig) -> None:
    """Fail before anything is made where an extra that is asked for is not installed.

    Raises:
        ValueError: names the extra.
    """
    for name in _EXTRAS:
        if getattr(config, name):
            _extra(name)


class Log(Protocol):
    """Who is told of what happens in a run."""

    def note(self, text: str) -> None:
        """Take a line for people."""

    def metrics(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Take the figures of a step."""

    def progress(self, step: int, text: str) -> None:
        """Take how far the run has come."""

    def between(self, done: int, of: int, what: str) -> None:
        """Take how far work between two steps has come."""

    def sync(self) -> None:
        """Flush what has been written."""

    def close(self) -> None:
        """Flush and close every file."""


class NoLog:
    """The log of ranks other than 0, which write nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def metrics(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Nothing."""

    def progress(self, step: int, text: str) -> None:
        """Nothing."""

    def between(self, done: int, of: int, what: str) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class RunLog:
    """``metrics.jsonl`` and ``log.txt`` of a run, and a progress bar or plain lines."""

    def __init__(
        self,
        run: Path,
        config: LogConfig,
        *,
        steps: int,
        quiet: bool = False,
        watch: Callable[[int, int], None] | None = None,
    ) -> None:
        self._metrics = (run / "metrics.jsonl").open("a", encoding="utf-8")
        self._text = (run / "log.txt").open("a", encoding="utf-8")
        if self._metrics.tell() == 0:
            self._write({"kind": "header", "schema": SCHEMA, "step": 0})
        self._sinks, self._finish = _sinks(run, config)
        self._progress = None if quiet else _progress(steps)
        self._quiet = quiet
        self._watch = watch
        self._steps = steps
        self._printed = 0.0
        self._between: TaskID | None = None

    def note(self, text: str) -> None:
        """A line for people, in the log and on the terminal."""
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        self._text.flush()
        if not self._quiet:
            self._print(text)

    def metrics(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl``, passed on to the extras too."""
        self._write({"kind": kind, "step": step, "epoch": round(epoch, 4), **values})
        for sink in self._sinks:
            sink(step, values)

    def progress(self, step: int, text: str) -> None:
        """Move the bar; without a terminal, print a line now and then."""
        if self._watch is not None:
            self._watch(step, self._steps)
        if self._progress is not None:
            bar, task = self._progress
            bar.update(task, completed=step, note=text)
        else:
            self._now_and_then(f"step {step}/{self._steps}  {text}")

    def between(self, done: int, of: int, what: str) -> None:
        """Move a second bar, there while the work lasts; without a terminal, print lines."""
        if self._progress is None:
            self._now_and_then(f"{what}: {done}/{of}")
            return
        bar, _ = self._progress
        if self._between is None:
            self._between = bar.add_task(what, total=of, note="")
        bar.update(self._between, completed=done)
        if done >= of:
            bar.remove_task(self._between)
            self._between = None

    def close(self) -> None:
        """Flush and close every file."""
        if self._progress is not None:
            self._progress[0].stop()
        self._metrics.close()
        self._text.close()
        for finish in self._finish:
            finish()

    def sync(self) -> None:
        """Flush what has been written."""
        self._metrics.flush()

    def _write(self, line: Mapping[str, object]) -> None:
        self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        self._metrics.flush()

    def _now_and_then(self, text: str) -> None:
        if not self._quiet and time.monotonic() - self._printed > _PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._print(text)

    def _print(self, text: str) -> None:
        if self._progress is not None:
            self._progress[0].console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _progress(steps: int) -> tuple[Progress, TaskID] | None:
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    bar = make_bar(console, TextColumn("{task.fields[note]}"))
    bar.start()
    return bar, bar.add_task("train", total=steps, note="")


def _sinks(run: Path, config: LogConfig) -> tuple[list[Sink], list[Callable[[], object]]]:
    """What takes figures, and what ends each: a second run in a process begins a log of its own."""
    sinks: list[Sink] = []
    finish: list[Callable[[], object]] = []
    if config.tensorboard:
        writer = _extra("tensorboard").SummaryWriter(str(run / "tensorboard"))
        sinks.append(lambda step, values: _to_tensorboard(writer, step, values))
        finish.append(writer.close)
    for name in ("wandb", "trackio"):
        if getattr(config, name):
            module = _extra(name)
            module.init(project="earsight", name=run.name)
            sinks.append(_to_tracker(module))
            finish.append(module.finish)
    return sinks, finish


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(_EXTRAS[name])
    except ImportError as error:
        raise ValueError(f"log.{name}: needs the extra: pip install 'earsight[{name}]'") from error


def _to_tensorboard(writer: Any, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)
    writer.flush()


def _to_tracker(module: Any) -> Sink:
    def log(step: int, values: Mapping[str, float]) -> None:
        module.log(dict(values), step=step)

    return log
