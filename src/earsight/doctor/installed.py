"""Versions of what earsight needs, and extras: what is there, and what an absence costs."""

import importlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from earsight.doctor.check import Check
from earsight.version import __version__

PYTHON = (3, 11)
TORCH = (2, 10)
PYAV = (16, 20)
"""Oldest Python and torch; oldest PyAV, and the first that is too new."""

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "pebble": "pebble",
    "rich": "rich",
    "threadpoolctl": "threadpoolctl",
    "tyro": "tyro",
}
"""Modules that are imported, beside torch and PyAV, and the packages that they are of."""

_REINSTALL = "install earsight again, in an environment of its own"
_TORCH = "install the build for this machine: https://pytorch.org/get-started/locally"


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An extra.

    Attributes:
        packages: that it brings.
        modules: that are imported of these.
        without: what cannot be done where one of them is missing.
    """

    packages: tuple[str, ...]
    modules: tuple[str, ...]
    without: str


EXTRAS: Mapping[str, Extra] = {
    "tensorboard": Extra(
        packages=("tensorboard",),
        modules=("tensorboard",),
        without="no event files for TensorBoard (log.tensorboard)",
    ),
    "wandb": Extra(
        packages=("wandb",), modules=("wandb",), without="nothing goes to Weights & Biases"
    ),
    "trackio": Extra(
        packages=("trackio",), modules=("trackio",), without="nothing goes to Trackio"
    ),
    "faiss": Extra(
        packages=("faiss-cpu",),
        modules=("faiss",),
        without="positives (no method.search=certified) and neighbours beyond a million windows "
        "are found by exact search alone",
    ),
    "remote": Extra(
        packages=("fsspec",),
        modules=("fsspec",),
        without="prepared shards are read from this machine alone, not from object stores",
    ),
    "ray": Extra(
        packages=("ray", "pandas"),
        modules=("ray", "pandas"),
        without="no preparation and embedding by a Ray cluster (--engine ray); job arrays do not "
        "need it",
    ),
    "onnx": Extra(
        packages=("onnx", "onnxruntime", "onnxscript"),
        modules=("onnx", "onnxruntime", "onnxscript"),
        without="no export to ONNX",
    ),
    "hub": Extra(
        packages=("huggingface_hub",),
        modules=("huggingface_hub",),
        without="nothing goes to the hub or comes from it",
    ),
    "serve": Extra(
        packages=("fastapi", "python-multipart", "uvicorn"),
        modules=("fastapi", "python_multipart", "uvicorn"),
        without="no web page on an index (earsight serve)",
    ),
}
"""Extras for users, by name."""


def versions() -> Iterator[Check]:
    """Everything without which nothing works."""
    yield Check(group="versions", name="earsight", text=__version__)
    yield _python(sys.version_info[:2], platform.python_version())
    yield _torch()
    yield _pyav()
    yield from _libraries(LIBRARIES)


def _python(found: tuple[int, int], text: str) -> Check:
    if found >= PYTHON:
        return Check(group="versions", name="Python", text=text)
    oldest = ".".join(map(str, PYTHON))
    return Check(
        group="versions",
        name="Python",
        status="broken",
        text=f"{text} is too old",
        remedy=f"use Python {oldest} or newer",
    )


def _torch() -> Check:
    found = _import("torch", "torch", _TORCH)
    if isinstance(found, Check):
        return found
    if _numbers(found) < TORCH:
        oldest = ".".join(map(str, TORCH))
        return _broken("torch", f"{found} is older than {oldest}", _TORCH)
    return Check(group="versions", name="torch", text=found)


def _pyav() -> Check:
    name = "PyAV and FFmpeg"
    found = _import("av", name, "install it by pip install 'av>=16,<20'")
    if isinstance(found, Check):
        return found
    lowest, above = PYAV
    if not lowest <= _numbers(found)[0] < above:
        text = f"{found} is not between {lowest} and {above - 1}"
        return _broken(name, text, f"pip install 'av>={lowest},<{above}'")
    import av  # noqa: PLC0415 - it may be missing

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    ffmpeg = getattr(av, "ffmpeg_version_info", "")
    return Check(
        group="versions",
        name=name,
        text=f"{found} with FFmpeg {ffmpeg}".rstrip() + f" (libavcodec {codec})",
        figures={"pyav": found, "ffmpeg": ffmpeg, "libavcodec": codec},
    )


def _libraries(wanted: Mapping[str, str]) -> Iterator[Check]:
    """A line for all that are there, and one for each that is not."""
    there = {}
    for module, package in wanted.items():
        found = _import(module, package, _REINSTALL)
        if isinstance(found, Check):
            yield found
        else:
            there[package] = _version(package) or found
    text = ", ".join(f"{package} {number}" for package, number in there.items())
    yield Check(group="versions", name="libraries", text=text or "none", figures=there)


def _import(module: str, name: str, remedy: str) -> str | Check:
    """A module's version, or what is wrong with it."""
    try:
        return str(getattr(importlib.import_module(module), "__version__", ""))
    except ImportError as error:
        return _broken(name, f"cannot be imported ({_line(error)})", remedy)
    except (OSError, RuntimeError, AttributeError, ValueError) as error:
        return _broken(name, f"fails when it is imported ({_line(error)})", remedy)


def _broken(name: str, text: str, remedy: str) -> Check:
    return Check(group="versions", name=name, status="broken", text=text, remedy=remedy)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _numbers(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:2]]
    return tuple(numbers)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def extras(wanted: Mapping[str, Extra] = EXTRAS) -> Iterator[Check]:
    """Each extra, and what its absence costs."""
    for name, extra in wanted.items():
        missing = [module for module in extra.modules if find_spec(module) is None]
        if missing:
            yield Check(
                group="extras",
                name=f"extra {name}",
                status="lacking",
                text=_missing_text(missing, extra.modules, extra.without),
                remedy=f"pip install 'earsight[{name}]'",
            )
            continue
        found = {package: _version(package) for package in extra.packages}
        text = ", ".join(f"{package} {number}".rstrip() for package, number in found.items())
        yield Check(group="extras", name=f"extra {name}", text=text, figures=found)


def _missing_text(missing: Sequence[str], modules: Sequence[str], without: str) -> str:
    which = "" if len(missing) == len(modules) else f" ({', '.join(missing)})"
    return f"is not installed{which}: {without}"
