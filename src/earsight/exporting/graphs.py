"""Graphs as files: ONNX, and the programs of torch.export; each is run before it is kept."""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from earsight.exporting.networks import Network, check_answers, examples

METADATA = "earsight.json"
"""The extra file of a torch.export program that holds its metadata."""

_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def check_onnx() -> None:
    """Fail before anything is made where the extra is not installed.

    Raises:
        ValueError: names it.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise ValueError("format: onnx needs the extra: pip install 'earsight[onnx]'")


def write_onnx(network: Network, path: Path, metadata: Mapping[str, str]) -> float:
    """Write an ONNX file and run it; returns the largest difference from torch.

    Raises:
        ValueError: the network cannot be expressed in ONNX.
        RunError: its answers differ.
    """
    program = _convert(network)
    program.model.metadata_props.update(metadata)
    program.save(str(path), external_data=False)
    return _check_onnx(network, path)


def _convert(network: Network) -> torch.onnx.ONNXProgram:
    traced = _trace(network)
    try:
        with _quiet():
            program = torch.onnx.export(
                traced,
                dynamo=True,
                input_names=[network.input],
                output_names=list(network.outputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        missing = re.search(r"OpOverload\(op='([^']+)'", str(error))
        what = f" ({missing[1]})" if missing else ""
        raise ValueError(
            f"{network.name}: a part of the network cannot be expressed in ONNX{what}; export it "
            "with --format torch"
        ) from error
    assert program is not None
    return program


def _check_onnx(network: Network, path: Path) -> float:
    import onnxruntime  # noqa: PLC0415 - an extra

    options = onnxruntime.SessionOptions()
    # Its own choice pins threads to cores, which a container may not allow.
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for x, expected in examples(network):
        answers = session.run(list(network.outputs), {network.input: x.numpy()})
        found = tuple(torch.from_numpy(answer) for answer in answers)
        worst = max(worst, check_answers(network, found, expected))
    return worst


def write_torch(network: Network, path: Path, metadata: Mapping[str, str]) -> float:
    """Write a torch.export program and run it; returns the largest difference from torch.

    Raises:
        ValueError: the network cannot be traced.
        RunError: its answers differ.
    """
    with _quiet():
        torch.export.save(_trace(network), path, extra_files={METADATA: json.dumps(metadata)})
        program = torch.export.load(path).module()
    worst = 0.0
    for x, expected in examples(network):
        with torch.no_grad():
            found = program(x)
        worst = max(worst, check_answers(network, found, expected))
    return worst


def _trace(network: Network) -> ExportedProgram:
    """The graph for any batch; one of two is traced, since 1 would be taken for a constant."""
    batch = Dim("batch", min=1)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(
                network.graph, (network.sample(2),), dynamic_shapes=({0: batch},)
            )
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{network.name}: the network cannot be traced ({reason}); export it with "
            "--format safetensors"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say of themselves: deprecations, and packages not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
