"""From run folders to their report."""

from collections.abc import Sequence
from pathlib import Path

from earsight.evaluation.load import Progress
from earsight.report.look import look_at
from earsight.report.write import WrittenReport, write_reports
from earsight.training.run_folder import read_config

NAME = "report.html"
"""Of the report within a run folder."""


def make_report(
    runs: Sequence[Path],
    output: Path | None = None,
    *,
    media: bool = True,
    corpus: Path | None = None,
    labels: Sequence[str] = (),
    progress: Progress | None = None,
) -> WrittenReport:
    """Write one offline HTML file of one or several runs.

    Everything is read from the run folders, but the map and the gallery: for these held-out clips
    are embedded, if no evaluation has kept their embeddings. What is missing is said in the page
    and in the result, and is never fatal: a run under way has a report, too.

    Args:
        runs: run folders.
        output: the page; of a single run ``RUN/report.html`` by default. A former report is
            replaced whole.
        media: False to leave clips out.
        corpus: another corpus to take held-out clips from.
        labels: columns to colour the map by; empty for the first two that fit, of several
            runs the first.
        progress: told of decoded batches.

    Raises:
        ValueError: a folder is no run or stands twice, several runs have no output, the output is
            no place for a page, or the corpus has no such label.
    """
    if not runs:
        raise ValueError("name at least one run folder")
    for run in runs:
        read_config(run)
    resolved = [run.resolve() for run in runs]
    if twice := [run for run, path in zip(runs, resolved, strict=True) if resolved.count(path) > 1]:
        raise ValueError(f"{twice[0]} stands twice; name each run once")
    page = _page(runs, output)
    # Of several runs, one label is enough to compare by.
    most = 1 if len(runs) > 1 else 2
    looks = [
        look_at(run, corpus=corpus, labels=labels, most=most, progress=progress) for run in runs
    ]
    return write_reports(looks, page, media=media)


def _page(runs: Sequence[Path], output: Path | None) -> Path:
    if output is None:
        if len(runs) > 1:
            raise ValueError("a report of several runs belongs to none of them; give -o FILE.html")
        return runs[0] / NAME
    if output.is_dir():
        raise ValueError(f"{output} is a folder; give the name of a file, {output / NAME}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{output}: a report is a page; give a name that ends with .html")
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent}: there is no such folder; make it first")
    return output
