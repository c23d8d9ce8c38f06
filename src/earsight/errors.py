"""Errors that end a command with a sentence; those of a user's mistake are ValueErrors."""


class RunError(RuntimeError):
    """The work failed for a reason that the message explains."""


class StoppedError(RunError):
    """A signal asked the work to stop; its state has been saved."""

    def __init__(self, number: int, message: str) -> None:
        self.signal = number
        super().__init__(message)


class SaidElsewhereError(RunError):
    """All processes of a run fail alike, and another one says why."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class FullDiskError(RunError):
    """A disk is full; what was whole before is untouched, and what was begun is taken away."""
