"""A finished run opened to be exported."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from earsight.config import RunConfig, as_tree, parse
from earsight.evaluation.load import Loaded, load_run
from earsight.methods.base import Spaces
from earsight.training.run_folder import read_config
from earsight.training.targets import Target, target_of
from earsight.training.terms import Terms, read_terms

WEIGHTS = "encoders.safetensors"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is exported.

    Attributes:
        run: the run folder.
        name: the folder's.
        loaded: its encoders, on the CPU, not learning.
        terms: of its weights.
    """

    run: Path
    name: str
    loaded: Loaded
    terms: Terms

    @property
    def config(self) -> RunConfig:
        """The run's settings."""
        return self.loaded.config

    @property
    def spaces(self) -> Spaces:
        """Which embeddings may be compared across modalities."""
        return self.loaded.encoder.method.spaces

    @property
    def target(self) -> Target | None:
        """What the run classifies, None where it makes embeddings."""
        return target_of(self.config)


def open_subject(run: Path, licence: str = "") -> Subject:
    """Open a run that has finished.

    Raises:
        ValueError: it is no run, has not finished, or the licence cannot be used.
    """
    read_config(run)
    if not (run / WEIGHTS).is_file():
        raise ValueError(
            f"{run} has not finished (it has no {WEIGHTS}); go on with it by "
            f"`earsight pretrain --resume -o {run}`"
        )
    terms = read_terms(run, licence)
    loaded = load_run(run, torch.device("cpu"))
    loaded.encoder.model.eval()
    loaded.encoder.method.eval()
    return Subject(run=run, name=run.resolve().name, loaded=loaded, terms=terms)


def public_config(config: RunConfig) -> RunConfig:
    """The settings without what tells of this machine: the places of corpus, cache and start."""
    data = replace(config.data, corpus="", cache_folder="")
    return replace(config, data=data, start="", start_epoch=0)


def public_tree(tree: dict[str, Any]) -> dict[str, Any]:
    """The same of settings as a tree."""
    return as_tree(public_config(parse(tree)))
