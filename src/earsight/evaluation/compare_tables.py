"""A comparison of runs as plain-text tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from earsight.evaluation.compare_protocol import UNSAID, splits_text
from earsight.evaluation.comparison import Beside, Cell, Comparison, Key, Line
from earsight.evaluation.published import Figure
from earsight.evaluation.rows import draw_table, format_value, is_share

OTHER = " ≠"
"""Behind what a paper did otherwise than a run above it, or does not say."""

UNSTATED = "the paper does not say by which protocol"
"""Of results that are quoted beside others without their protocol."""

_COLUMNS = ("pre-trained on", "clips", "input", "splits", "protocol", "classifier")
"""Aspects of a protocol that are named with each figure; the others hold for a whole table."""

_WORDS = ("figure of", "pre-trained on", "encoder", "from")
_NUMBERS = ("block", "value", "clips", "input", "splits")


@dataclass(frozen=True, kw_only=True)
class _Marks:
    """Numbers of differences, in the order in which they are met."""

    texts: dict[str, int] = field(default_factory=dict)

    def of(self, differences: Sequence[str]) -> str:
        numbers = [self.texts.setdefault(text, len(self.texts) + 1) for text in differences]
        return f" [{','.join(map(str, numbers))}]" if numbers else ""

    def __str__(self) -> str:
        return "\n".join(f"[{number}] {text}" for text, number in self.texts.items())


def format_comparison(comparison: Comparison) -> str:
    """Settings that differ, figures of the runs, and published figures below them."""
    parts = [_settings_table(comparison), *_figures(comparison)]
    parts += _published_tables(comparison)
    parts += [f"note: {note}" for note in comparison.notes]
    return "\n\n".join(part for part in parts if part)


def _settings_table(comparison: Comparison) -> str:
    if len(comparison.runs) < 2:
        return ""
    if not comparison.settings:
        return "All runs were trained with the same settings."
    lines = [
        (one.path, *(UNSAID if value is None else str(value) for value in one.values))
        for one in comparison.settings
    ]
    return draw_table(("setting", *comparison.runs), (), lines)


def _figures(comparison: Comparison) -> Iterator[str]:
    marks = _Marks()
    lines = [_figure_line(line, comparison.runs, marks) for line in comparison.lines]
    words = ("task", "of", "label", "block", "metric", "on", "variant")
    # Columns that say nothing of any figure are left out.
    kept = [at for at in range(len(words)) if any(line[at] != UNSAID for line in lines)]
    heads = tuple(words[at] for at in kept)
    cells = [(*(line[at] for at in kept), *line[len(words) :]) for line in lines]
    yield draw_table(heads, (*comparison.runs, "chance"), cells)
    yield str(marks)


def _figure_line(line: Line, runs: Sequence[str], marks: _Marks) -> tuple[str, ...]:
    key = line.key
    first = next(iter(line.cells.values()))
    words = (key.task, key.modality, key.label, key.block, key.metric, key.data, key.variant)
    cells = (
        cell_text(key.metric, line.cells[run]) + marks.of(line.cells[run].differences)
        if run in line.cells
        else UNSAID
        for run in runs
    )
    return (*(word or UNSAID for word in words), *cells, format_value(key.metric, first.chance))


def cell_text(metric: str, cell: Cell) -> str:
    """A figure for people: ``91.2 ± 0.4 % (90.9 to 91.5)``."""
    text = format_value(metric, cell.value)
    scale, digits = (100, ".1f") if is_share(metric) else (1, ".3g")
    if cell.deviation is not None:
        spread = f"± {scale * cell.deviation:{digits}}"
        text = f"{text.removesuffix(' %')} {spread}" + (" %" if is_share(metric) else "")
    if cell.low is not None and cell.high is not None:
        text += f" ({scale * cell.low:{digits}} to {scale * cell.high:{digits}})"
    return text


def _published_tables(comparison: Comparison) -> Iterator[str]:
    groups: dict[Key, list[Line]] = {}
    for line in comparison.lines:
        if line.published:
            groups.setdefault(replace(line.key, block=None), []).append(line)
    for key, lines in groups.items():
        title = f"{key.task}, {key.modality}, {key.metric} on {key.data}, beside published figures"
        variant = f" ({key.variant})" if key.variant else ""
        marks = _Marks()
        drawn = [text for line in lines for text in _lines(comparison, line, marks)]
        kept = [at for at in _columns(drawn) if at < len(_WORDS)]
        words = tuple(_WORDS[at] for at in kept)
        rest = [at for at in _columns(drawn) if at >= len(_WORDS)]
        numbers = tuple(_NUMBERS[at - len(_WORDS)] for at in rest)
        cells = [tuple(text[at] for at in (*kept, *rest)) for text in drawn]
        below = filter(None, (str(marks), *_common(comparison, lines)))
        yield "\n".join([title + variant, draw_table(words, numbers, cells), *below])
    if groups:
        yield (
            f"{OTHER.strip()} differs from a run above it, or is not said; quoted: another paper's "
            "result, as printed there"
        )


def _columns(lines: Sequence[Sequence[str]]) -> list[int]:
    """Columns in which something is said."""
    return [at for at in range(len(lines[0])) if any(line[at] != UNSAID for line in lines)]


def _lines(comparison: Comparison, line: Line, marks: _Marks) -> Iterator[tuple[str, ...]]:
    """Lines of the runs, then of the published figures."""
    block = line.key.block or UNSAID
    for run, cell in line.cells.items():
        one = comparison.measured[run][cell.evaluation]
        assert one.protocol is not None
        clips = 1 if line.key.metric == "Clip@1" else one.protocol.clips
        yield (
            run,
            one.pretraining,
            one.encoders.get(line.key.modality, UNSAID),
            "this run",
            block,
            cell_text(line.key.metric, cell),
            str(clips or UNSAID),
            one.input(line.key.modality) or UNSAID,
            splits_text(one.protocol.folds),
        )
    for beside in line.published:
        yield _published_line(beside, block, marks)


def _published_line(beside: Beside, block: str, marks: _Marks) -> tuple[str, ...]:
    figure = beside.figure
    differ = {aspect for found in beside.differences.values() for aspect in found}

    def marked(aspect: str, text: str) -> str:
        return text + (OTHER if aspect in differ else "")

    size = f", {figure.size}" if figure.size else ""
    unstated = [UNSTATED] if figure.protocol == "unstated" else []
    said = [*unstated, *filter(None, [figure.note]), *_classifiers(beside)]
    return (
        figure.method + marks.of(said),
        marked("pre-trained on", f"{figure.pretraining}{size}"),
        figure.architecture or UNSAID,
        figure.where + (", quoted" if figure.source == "quoted" else ""),
        block,
        value_text(figure),
        marked("clips", str(figure.clips or UNSAID)),
        marked("input", figure.input or UNSAID),
        marked("splits", splits_text(figure.splits) if figure.splits else UNSAID),
    )


def _classifiers(beside: Beside) -> list[str]:
    """In what the classifier differs from the runs', said once where it is the same for all."""
    found = {run: aspects.get("classifier", "") for run, aspects in beside.differences.items()}
    if len(set(found.values())) < 2:
        return [text for text in set(found.values()) if text]
    return [f"{run}: {text}" for run, text in found.items() if text]


def value_text(figure: Figure) -> str:
    """A published figure with its printed digits: ``89.1 %``, ``29.01 ± 0.14 %``."""
    digits = 1 if round(figure.value, 1) == figure.value else 2
    if figure.deviation is None:
        return f"{figure.value:.{digits}f} %"
    return f"{figure.value:.2f} ± {figure.deviation:.2f} %"


def _common(comparison: Comparison, lines: Sequence[Line]) -> Iterator[str]:
    """Differences that hold for all figures of a table, by run."""
    for run in comparison.runs:
        found = dict.fromkeys(
            text
            for line in lines
            for beside in line.published
            for aspect, text in _of_run(beside, run).items()
            if aspect not in _COLUMNS
        )
        if found:
            yield f"{run} against all of these: {'; '.join(found)}"


def _of_run(beside: Beside, run: str) -> Mapping[str, str]:
    return beside.differences.get(run, {})
