"""Learn video and audio encoders from unlabelled videos, and put them to use."""

from typing import Any

from earsight.version import __version__

__all__ = [
    "__version__",
    "av_digits",
    "configure",
    "dry_run",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "import_avid",
    "load",
    "load_run",
    "merge",
    "omniglot",
    "prepare",
    "pretrain",
    "scan",
    "search",
    "serve",
    "study",
]


def __getattr__(name: str) -> Any:
    """Functions of :mod:`earsight.api`, imported when first used: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'earsight' has no attribute {name!r}")
    from earsight import api  # noqa: PLC0415 - that is the point

    return getattr(api, name)
