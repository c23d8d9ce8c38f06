"""The model card: what a model is, what it learned from, how good it is and how it is used."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

from earsight.evaluation.results import Evaluation
from earsight.evaluation.rows import SPREAD, Row, format_value, is_block
from earsight.exporting.metadata import input_settings
from earsight.exporting.subject import WEIGHTS, Subject
from earsight.report.history import read_history
from earsight.report.run import read_run
from earsight.report.words import say
from earsight.templates import strict_templates
from earsight.training.terms import UNKNOWN
from earsight.version import __version__

_LEAST_USEFUL = ("geometry",)


def write_card(
    subject: Subject,
    folder: Path,
    differences: Mapping[str, float],
    *,
    raw: bool = False,
    repo: str = "",
) -> None:
    """Write ``README.md`` beside the files that it describes.

    Args:
        subject: the run.
        folder: with the exported files.
        differences: of each graph's file, its difference from torch.
        raw: whether graphs take pixels and samples.
        repo: ``OWNER/NAME`` on the hub, if it is to go there.
    """
    text = card(subject, [path.name for path in folder.iterdir()], differences, raw=raw, repo=repo)
    (folder / "README.md").write_text(text, encoding="utf-8")


def card(
    subject: Subject,
    files: list[str],
    differences: Mapping[str, float],
    *,
    raw: bool = False,
    repo: str = "",
) -> str:
    """The card's text; see :func:`write_card`."""
    facts = read_run(subject.run)
    modalities = sorted(subject.loaded.encoder.model.encoders, reverse=True)
    evaluations = [(e, shown) for e in facts.evaluations if (shown := _shown(e))]
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            front=_front(subject),
            subject=subject,
            history=read_history(subject.run, subject.config),
            facts=facts.facts,
            evaluations=evaluations,
            inputs={name: _inputs(subject, name) for name in modalities},
            pairs=sorted(subject.spaces),
            target=subject.target,
            files=sorted(files),
            graphs=sorted(differences),
            worst=max(differences.values(), default=0.0),
            weights=WEIGHTS in files,
            raw=raw,
            repo=repo,
            unknown=subject.terms.licence == UNKNOWN,
            version=__version__,
        )
    )


def _front(subject: Subject) -> str:
    """The YAML at the card's head."""
    method = subject.config.method.name
    terms = subject.terms
    tree: dict[str, Any] = {"license": terms.licence}
    if terms.licence == "other":
        tree["license_name"] = terms.name
    learned = "self-supervised" if subject.target is None else "supervised"
    tree |= {
        "library_name": "earsight",
        "pipeline_tag": "feature-extraction",
        "tags": sorted({"earsight", learned, method, *subject.loaded.encoder.model.encoders}),
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _inputs(subject: Subject, modality: str) -> dict[str, Any]:
    """Input settings fit for a table: statistics of every band are left to the files."""
    settings = input_settings(subject.loaded.inputs, modality)
    return {
        name: f"{len(x)} values, in the files" if name in ("mean", "std") else x
        for name, x in settings.items()
    }


def _shown(evaluation: Evaluation) -> list[Row]:
    """The rows of an evaluation that a card shows."""
    return [
        row
        for row in evaluation.rows
        if not is_block(row) and row.task not in _LEAST_USEFUL and not row.metric.endswith(SPREAD)
    ]


def plain(value: object) -> str:
    """Text that says only what it says, also within a table of Markdown."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", text)


def _environment() -> Environment:
    environment = strict_templates(
        "earsight.exporting", autoescape=False, keep_trailing_newline=True
    )
    environment.filters.update(plain=plain, say=say, stem=lambda path: Path(path).stem)
    environment.globals.update(format_value=format_value)
    return environment
