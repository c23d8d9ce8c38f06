"""Settings of the data: which clips are read, and by whom."""

from collections.abc import Iterator
from typing import Literal

from earsight.config.checks import Fraction, at_least, within
from earsight.config.registry import section


@section
class DataConfig:
    """Which clips are read, and by whom.

    Attributes:
        corpus: the manifest that `earsight scan` wrote.
        workers: processes that decode, for each that trains; 0 decodes in the training process,
            ``auto`` is one per thread.
        prefetch: batches kept ready per worker.
        audio_missing: what becomes of instances without sound: left out (``skip``), given silence
            (``silence``), or refused (``error``).
        holdout: share of the groups held out for evaluation where the labels name no split.
        fold: 0 for the split that the labels name; k for the k-th official split: held out are the
            instances whose label ``fold`` is k, or the label ``split<k>`` says which.
        keep_duplicates: use exact copies too.
        max_failures: share of unreadable draws above which a run stops.
        max_pixels: largest width × height of a picture that is decoded.
        timeout: seconds that one clip may take to decode.
        block: neighbours read together (1 for loose files).
        pairs: ``true``, or ``shuffled``: sound of another clip at random, anew in every epoch (a
            control from which nothing across modalities can be learned). A clip's own sound then
            changes, too: methods that compare within sound lose these positives as well.
        cache: decode each clip once and keep it: in ``memory``, which the workers of a process
            share (of several GPUs, each takes its own), on ``disk``, or on the ``device`` (which
            also resizes there); ``none`` decodes anew.
        cache_folder: where the cache on disk lies; empty for a folder beside the manifest. With
            ``device``, clips come from such a cache, which runs share, and are not decoded again.
        share: share of the training instances that are used, of each class alike where the method
            learns from labels; smaller shares lie within larger ones.
    """

    corpus: str = ""
    workers: int | Literal["auto"] = "auto"
    prefetch: int = 2
    audio_missing: Literal["skip", "silence", "error"] = "skip"
    holdout: Fraction = 0.1
    fold: int = 0
    keep_duplicates: bool = False
    max_failures: Fraction = 0.01
    max_pixels: int = 8192 * 8192
    timeout: float = 30.0
    block: int = 1
    pairs: Literal["true", "shuffled"] = "true"
    cache: Literal["none", "memory", "disk", "device"] = "none"
    cache_folder: str = ""
    share: Fraction = 1.0

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        yield from at_least(self, prefetch=1, max_pixels=1, block=1, fold=0)
        if self.workers != "auto" and self.workers < 0:
            yield "workers: must be 0 or more, or auto"
        yield from within(self, 0, 1, "holdout", "max_failures")
        if self.timeout <= 0:
            yield "timeout: must be positive seconds"
        if self.cache_folder and self.cache not in ("disk", "device"):
            yield "cache_folder: has no effect unless cache is disk or device"
        if not 0 < self.share <= 1:
            yield "share: must lie between 0 and 1, above 0"
