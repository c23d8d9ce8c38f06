"""Parts of work done by the nodes of a Ray cluster: Ray only hands them out.

Each part is what a job of an array would do; one whose worker or node dies is done again by
another, which goes on from what was whole.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from earsight.corpus.part import Part

if TYPE_CHECKING:
    from types import ModuleType

Progress = Callable[[int, int], None]

_FOR_EACH = 4
"""Parts for each core: how evenly they end, against how often a manifest is read."""

_STORE = 2**27
"""Bytes of shared memory of a cluster that is started here; only numbers go through it."""


def over_parts(
    job: Callable[[Part], object],
    *,
    most: int,
    cores: int = 1,
    gpu: bool = False,
    progress: Progress | None = None,
) -> int:
    """Do all parts of some work on a Ray cluster.

    The cluster is that of ``RAY_ADDRESS``, or one that this process is connected to already, or
    else one of this machine alone, which ends with the work.

    Args:
        job: does a part; is sent to the nodes, on which earsight has to be installed.
        most: parts at most: pieces that the work can be divided into.
        cores: that each part takes.
        gpu: whether each part takes a GPU too, if the cluster has any.
        progress: told of parts done, and of how many.

    Returns:
        How many parts there were.

    Raises:
        ValueError: the extra is missing, or the cluster has too few cores; or what a job raises.
        RuntimeError: the same.
    """
    ray = _ray()
    with _cluster(ray):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(gpu and any(node.get("GPU", 0) >= 1 for node in nodes))
        count = max(1, min(most, _FOR_EACH * _free(nodes, cores, gpus)))
        numbers = [{"number": number} for number in range(count)]
        ray.data.DataContext.get_current().enable_progress_bars = False
        # Tasks whose worker or node has died are begun again by Ray Data, however often.
        rows = ray.data.from_items(numbers, override_num_blocks=count).map(
            partial(_do, job, count), num_cpus=cores, num_gpus=gpus or None
        )
        for done, row in enumerate(rows.iter_rows(), 1):
            if row["error"]:
                raise pickle.loads(row["error"])
            if progress is not None:
                progress(done, count)
    return count


def _do(job: Callable[[Part], object], of: int, row: dict[str, int]) -> dict[str, int | bytes]:
    """Do a part; what it raises comes back as it is, without what Ray would put around it."""
    error = b""
    try:
        job(Part(number=row["number"], of=of))
    except (ValueError, RuntimeError, OSError) as raised:
        error = pickle.dumps(raised)
    return {**row, "error": error}


def _ray() -> ModuleType:
    # Ray looks at these when it is imported: nothing is told to anyone, and a cluster of this
    # machine alone listens to this machine alone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("engine: ray needs its extra: pip install 'earsight[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # a page of plans for each pipeline
    module: ModuleType = ray
    return module


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """A connection to a cluster; one that was made here is ended here."""
    # What Ray prints of nodes that die is no result.
    with redirect_stdout(sys.stderr):
        if ray.is_initialized():
            yield
            return
        _connect(ray)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(ray: Any) -> None:
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    if "RAY_ADDRESS" in os.environ:
        try:
            ray.init(**quiet)
        except ConnectionError as error:
            raise ValueError(
                f"engine: no Ray cluster answers at {os.environ['RAY_ADDRESS']} (RAY_ADDRESS); "
                "start it, or unset the variable to use this machine alone"
            ) from error
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_STORE,
            _node_ip_address="127.0.0.1",
            **quiet,
        )


def _free(nodes: Sequence[Mapping[str, float]], cores: int, gpus: int) -> int:
    """How many parts can be done at once."""
    room = 0
    for node in nodes:
        by_cores = int(node.get("CPU", 0) // cores)
        room += min(by_cores, int(node.get("GPU", 0) // gpus)) if gpus else by_cores
    if not room:
        there = ", ".join(f"{node.get('CPU', 0):g}" for node in nodes)
        raise ValueError(
            f"workers: no node of the Ray cluster has {cores} cores{' and a GPU' * gpus} (they "
            f"have {there} cores); give fewer"
        )
    return room
