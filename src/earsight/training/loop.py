"""The training loop: batches in, one optimiser step, updates committed, state saved.

It knows batches and the method's contract, and nothing of what is learned.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from earsight.config import RunConfig, as_tree
from earsight.corpus.batch import Batch, Failure
from earsight.corpus.clips import TrainingClips
from earsight.corpus.keys import key_text
from earsight.corpus.loader import load
from earsight.errors import StoppedError
from earsight.methods.base import mean_over_ranks
from earsight.random import stream
from earsight.training.checkpoint import checkpoint_path, prune, save_checkpoint
from earsight.training.distributed import ALONE, Ranks
from earsight.training.failures import FailureCount
from earsight.training.logging import Log, metrics_at
from earsight.training.plan import Plan
from earsight.training.schedule import learning_rate
from earsight.training.signals import caught_signals
from earsight.training.step import Parts, Taken, autocast, prepare, train_step
from earsight.training.timed import Timed
from earsight.training.window import Window

Evaluate = Callable[[int], Mapping[str, float]]
"""Called with the epoch that ended; returns figures for the log."""


@dataclass(kw_only=True)
class Loop:
    """A run under way: its parts, and how far it has come."""

    config: RunConfig
    parts: Parts
    clips: TrainingClips
    run: Path
    log: Log
    device: torch.device
    workers: int
    plan: Plan
    ranks: Ranks = ALONE
    evaluate: Evaluate | None = None
    step: int = 0
    elapsed: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.window = Window(self._name_of)
        self.failures = FailureCount(self.config.data.max_failures)

    def _name_of(self, row: int) -> str:
        return f"{key_text(int(self.clips.instances.key[row]))} {self.clips.instances.path[row]}"

    def fit(self) -> None:
        """Train to the last step.

        Raises:
            StoppedError: SIGINT or SIGTERM came, to whichever rank; the state is saved.
            NonFiniteError: a loss was not finite; its update was not made, nothing was saved since.
            FailureShareError: more files fail than ``data.max_failures`` allows.
        """
        accumulate = self.config.train.accumulate
        numbers = range(self.step * accumulate, self.plan.steps * accumulate)
        batches = self._batches(numbers)
        self.parts.model.train()
        began = time.monotonic() - self.elapsed
        last = (time.monotonic(), self.step)
        with caught_signals() as caught:
            if self.step:
                self._evaluate_once(caught)
            while self.step < self.plan.steps:
                self._begin_epoch()
                stop = self._advance(batches, caught)
                self.elapsed = time.monotonic() - began
                if self.step % self.config.train.log_every == 0 or self.step == self.plan.steps:
                    last = self._report(batches, last)
                ended = self.step % self.plan.steps_per_epoch == 0
                if ended or self._due() or stop:
                    self.save()
                self._leave(stop)
                if ended:
                    self._evaluate(caught)

    def _leave(self, stop: int) -> None:
        """End here, the state being saved, where signal ``stop``, 0 for none, asks for it."""
        if stop and self.step < self.plan.steps:
            name = signal.Signals(stop).name
            raise StoppedError(stop, f"stopped by {name} after step {self.step}; --resume goes on")

    def _begin_epoch(self) -> None:
        epoch, into = divmod(self.step, self.plan.steps_per_epoch)
        if into:
            return
        if self._extra(epoch):
            about = self._encode(epoch)
        else:
            about = self.parts.method.begin_epoch(epoch, None, self.log.between)
        if about:
            self.log.note(about)

    def _extra(self, epoch: int) -> int:
        """Micro-batches of clips that only the method sees, before an epoch."""
        needs = self.parts.method.needs
        clips = needs.clips + (needs.first_clips if epoch == 0 else 0)
        return -(-clips // self.plan.micro)

    def _batches(self, numbers: range) -> Timed:
        pin = self.device.type == "cuda"
        return Timed(load(self.clips, numbers, self.config.data, workers=self.workers, pin=pin))

    def _encode(self, epoch: int) -> str:
        """Begin an epoch with the clips that only the method sees.

        Their sample indices follow on those of training, those of each epoch on one another.
        """
        count = self._extra(epoch)
        clips = count * self.plan.micro
        first = self.plan.steps * self.config.train.accumulate
        first += sum(self._extra(before) for before in range(epoch))
        batches = self._batches(range(first, first + count))
        failures: list[Failure] = []
        began = time.monotonic()
        # Key encoders may draw, too; see _advance.
        torch.manual_seed(int(stream(self.config.seed, "torch/encode", epoch, self.ranks.rank)))
        with autocast(self.config, self.device):
            about = self.parts.method.begin_epoch(
                epoch, self._ready(batches, failures), self.log.between
            )
        seconds = time.monotonic() - began
        every = [one for some in self.ranks.gather_objects(failures) for one in some]
        for text in self.failures.add(every, clips):
            self.log.note(text)
        waited = 100 * min(1.0, batches.take_waited() / max(1e-9, seconds))
        cost = f"{clips} clips encoded in {seconds:.1f} s, waiting for them {waited:.0f} %"
        return f"{about}; {cost}" if about else cost

    def _ready(self, batches: Iterator[Batch], failures: list[Failure]) -> Iterator[Batch]:
        """Batches as the network takes them; what could not be read is added to ``failures``."""
        for batch in batches:
            failures += batch.failures
            yield prepare(self.config, self.parts.inputs, batch, self.device)

    def _advance(self, batches: Timed, caught: Sequence[int]) -> int:
        """Make a step; returns the signal that stops all ranks after it, or 0."""
        rate = learning_rate(
            self.config.optimizer, self.step, self.plan.steps, self.plan.steps_per_epoch
        )
        for group in self.parts.optimizer.param_groups:
            group["lr"] = rate
        # What an encoder draws, such as dropout, is a function of the step and nothing before it.
        torch.manual_seed(int(stream(self.config.seed, "torch", self.step, self.ranks.rank)))
        taken = train_step(self.config, self.parts, batches, self.device, self.ranks, caught=caught)
        self.step += 1
        self.window.add(taken.metrics, taken.finite, taken.rows)
        for text in self.failures.add(self._failures(taken), len(taken.rows)):
            self.log.note(text)
        # Alone, one that came during the step is heard, too.
        return caught[0] if caught and self.ranks.size == 1 else taken.signal

    def _failures(self, taken: Taken) -> list[Failure]:
        """Those of all ranks' batches."""
        if not taken.failed:
            return []
        own = [failure for batch in taken.batches for failure in batch.failures]
        return [one for some in self.ranks.gather_objects(own) for one in some]

    def _report(self, batches: Timed, last: tuple[float, int]) -> tuple[float, int]:
        now = time.monotonic()
        seconds = max(1e-9, now - last[0])
        clips = (self.step - last[1]) * self.config.train.batch
        values = self.window.read()
        wait = float(mean_over_ranks(torch.tensor(batches.take_waited() / seconds)))
        values |= {
            "lr": self.parts.optimizer.param_groups[0]["lr"],
            "time": self.elapsed,
            "clips_per_second": clips / seconds,
            "wait": min(1.0, wait),
            "failures": float(self.failures.failed),
        }
        epoch = self.step / self.plan.steps_per_epoch
        self.log.metrics("train", self.step, epoch, values)
        self.log.progress(
            self.step,
            f"epoch {epoch:.1f}  loss {values['loss']:.3f}  "
            f"{values['clips_per_second']:.0f} clips/s  waiting {100 * values['wait']:.0f}%",
        )
        return now, self.step

    def _evaluate(self, caught: Sequence[int]) -> None:
        """Make the evaluation that is due after an epoch; a signal that came by then stops all."""
        epoch, into = divmod(self.step, self.plan.steps_per_epoch)
        every = self.config.evaluation.every
        due = not into and ((every and epoch % every == 0) or self.step == self.plan.steps)
        if self.evaluate is not None and due:
            evaluate = self.evaluate
            self.figures = self.ranks.on_main(lambda: dict(evaluate(epoch)))
            self.parts.model.train()
            self.log.metrics("evaluation", self.step, float(epoch), self.figures)
        self._leave(int(self.ranks.gather(torch.tensor(caught[:1] or [0])).max()))

    def _evaluate_once(self, caught: list[int]) -> None:
        """The evaluation of the step gone on from, which came after its save, if none was made."""
        metrics = self.run / "metrics.jsonl"
        made = self.ranks.on_main(lambda: metrics_at(metrics, "evaluation", self.step))
        if made is None:
            self._evaluate(caught)
        else:
            self.figures = made

    def _due(self) -> bool:
        every = self.config.train.checkpoint_every
        return bool(every) and self.step % every == 0

    def state(self) -> dict[str, Any]:
        """Everything that the next loss depends on; called on all ranks."""
        labels = self.clips.labels
        return {
            "step": self.step,
            "elapsed": self.elapsed,
            "config": as_tree(self.config),
            "keys": torch.from_numpy(self.clips.instances.key.view("int64").copy()),
            **({} if labels is None else {"labels": torch.from_numpy(labels.copy())}),
            "model": self.parts.model.state_dict(),
            "method": self.parts.method.whole_state(),
            "inputs": self.parts.inputs.state_dict(),
            "statistics_clips": self.parts.inputs.clips,
            "optimizer": self.parts.optimizer.state_dict(),
            "window": self.window.state(),
            "failures": self.failures.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state (of the same configuration and corpus).

        Everything in it is equal on all ranks.
        """
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.parts.model.load_state_dict(state["model"])
        self.parts.method.load_state_dict(state["method"])
        self.parts.inputs.load_state_dict(state["inputs"])
        # Checkpoints of earlier versions do not know how many.
        self.parts.inputs.clips = state.get("statistics_clips", self.parts.inputs.clips)
        self.parts.optimizer.load_state_dict(state["optimizer"])
        self.window.load(state["window"], self.device)
        self.failures.load(state["failures"])

    def save(self) -> None:
        """Write a checkpoint and drop those that are no longer kept; called on all ranks."""
        self.log.sync()
        state = self.state()
        self.ranks.on_main(lambda: self._write(state))

    def _write(self, state: dict[str, Any]) -> None:
        save_checkpoint(checkpoint_path(self.run, self.step), state)
        keep = {epoch * self.plan.steps_per_epoch for epoch in self.config.train.keep}
        prune(self.run, self.config.train.keep_last, keep)
