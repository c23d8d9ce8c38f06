"""Models on the Hugging Face Hub: a run's export uploaded, and one downloaded.

The hub's mixin is not used: it has a model inherit from it and be rebuilt from the arguments of its
constructor, while a run is encoders, a method with key encoders, and input transforms, rebuilt from
one configuration. What it does besides, uploading and downloading a folder, are two calls.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from earsight.config import read_yaml
from earsight.errors import RunError
from earsight.exporting.write import export_run

if TYPE_CHECKING:
    from types import ModuleType


def save_to_hub(
    run: Path,
    repo_id: str,
    *,
    private: bool = False,
    licence: str = "",
    message: str = "Upload by earsight",
) -> str:
    """Upload a finished run's weights, settings and card; the repository is made if need be.

    Nothing of the corpus is uploaded, and no path of this machine.

    Args:
        run: the run folder.
        repo_id: ``OWNER/NAME``.
        private: whether the repository is to be seen by its owner alone.
        licence: of the weights, such as ``apache-2.0``; empty for unknown.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: the extra is missing, the run has not finished, name or licence cannot be
            used, or the repository exists and is not ``private`` as wanted.
        RunError: the hub cannot be reached, or refuses.
    """
    hub = _library()
    _check_name(repo_id)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        export_run(run, folder, licence=licence, repo=repo_id)
        files = [
            hub.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
            for path in sorted(folder.iterdir())
        ]
        api = hub.HfApi(library_name="earsight")
        with _told(repo_id):
            api.create_repo(repo_id, private=private or None, exist_ok=True)
            public = private and not api.model_info(repo_id).private
        if public:
            raise ValueError(
                f"{repo_id} exists already and everybody can see it; choose another name, make it "
                "private on the hub, or leave --private out"
            )
        with _told(repo_id):
            # In one commit, so that nobody finds weights without their terms.
            commit = api.create_commit(repo_id, files, commit_message=message)
    return str(commit)


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a model, for :func:`earsight.api.load_run`; downloaded once per revision.

    Args:
        repo_id: ``OWNER/NAME``, or a folder on this machine, which is given back.
        revision: a branch, tag or commit; None for the latest.

    Raises:
        ValueError: the extra is missing, the name cannot be used, or the model names plugins that
            have not been imported.
        RunError: the hub cannot be reached, or has no such model.

    Settings may name plugins, modules that are imported when the settings are read: such a model is
    refused unless these have been imported already.
    """
    if Path(repo_id).is_dir():
        if revision is not None:
            raise ValueError(f"revision: has no effect on the folder {repo_id}; leave it out")
        return Path(repo_id)
    hub = _library()
    _check_name(repo_id)
    wanted = ["*.safetensors", "config.yaml", "origin.json", "README.md", "NOTICE"]
    with _told(repo_id):
        found = hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=wanted, library_name="earsight"
        )
    _check_plugins(Path(found), repo_id)
    return Path(found)


def _check_plugins(folder: Path, repo_id: str) -> None:
    """Code is not run because strangers name it.

    Raises:
        ValueError: a plugin has not been imported; says how to allow it.
    """
    named = [plugin for tree in _settings(folder) for plugin in tree.get("plugins") or ()]
    foreign = [str(one) for one in dict.fromkeys(named) if one not in sys.modules]
    if foreign:
        raise ValueError(
            f"{repo_id} names plugins, whose code would run here: {', '.join(foreign)}; if you "
            f"have them and trust them, allow that by `import {foreign[0]}` before this"
        )


def _settings(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Every tree of settings that a model's files hold, none of them acted upon."""
    for path in sorted(folder.glob("*.yaml")):
        yield read_yaml(path)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        yield json.loads(metadata.get("config", "{}"))


def _library() -> "ModuleType":
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("the hub needs the extra: pip install 'earsight[hub]'") from error
    return huggingface_hub


def _check_name(repo_id: str) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise ValueError(f"{repo_id!r} names no model on the hub; write OWNER/NAME")


@contextmanager
def _told(repo_id: str) -> Iterator[None]:
    """What the hub or the network refuse is said in one sentence."""
    from huggingface_hub import errors  # noqa: PLC0415 - an extra

    # The base of its errors is that of its HTTP library, whichever that is.
    refused: tuple[type[Exception], ...] = tuple(
        kind for kind in errors.HfHubHTTPError.__bases__ if issubclass(kind, Exception)
    )
    try:
        yield
    except refused as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(f"{repo_id}: the hub cannot be used ({reason})") from error
