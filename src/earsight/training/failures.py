"""Files that fail while training: named once, counted always, too many stop the run."""

from collections.abc import Iterator, Mapping, Sequence

from earsight.corpus.batch import Failure
from earsight.errors import RunError

_JUDGED_FROM = 200
"""Draws after which a share is worth judging; before, only as many failures as it would allow."""


class FailureShareError(RunError):
    """More draws failed than the run allows."""


class FailureCount:
    """How many draws failed, out of how many."""

    def __init__(self, largest_share: float) -> None:
        self.largest_share = largest_share
        self.failed = 0
        self.drawn = 0
        self._named: set[str] = set()

    def add(self, failures: Sequence[Failure], drawn: int) -> Iterator[str]:
        """Count a step's draws; yields a line for every file not named before.

        Raises:
            FailureShareError: the share of failures is above the largest allowed.
        """
        self.failed += len(failures)
        self.drawn += drawn + len(failures)
        for failure in failures:
            if failure.key not in self._named:
                self._named.add(failure.key)
                yield f"unreadable while training: {failure.key} {failure.path}: {failure.reason}"
        if self.failed > self.largest_share * max(self.drawn, _JUDGED_FROM):
            raise FailureShareError(
                f"{self.failed} of {self.drawn} clips could not be read, more than "
                f"data.max_failures={self.largest_share:g} allows; scan the sources again with "
                "--deep to leave broken files out, or raise data.max_failures; of shards, "
                "copy them again, or delete them and run `earsight prepare` again"
            )

    def state(self) -> dict[str, object]:
        """What a resumed run goes on from."""
        return {"failed": self.failed, "drawn": self.drawn, "named": sorted(self._named)}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a saved state."""
        failed, drawn, named = state["failed"], state["drawn"], state["named"]
        assert isinstance(failed, int)
        assert isinstance(drawn, int)
        assert isinstance(named, list)
        self.failed, self.drawn, self._named = failed, drawn, set(named)
