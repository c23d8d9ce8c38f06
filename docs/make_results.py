"""Write docs/results.md and its figures from the studies' JSON files in ``studies``.

The page begins with all claims by their verdicts; then comes a section for each study.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earsight import presets
from earsight.evaluation.rows import is_share
from earsight.studies.design import Design, names, read_design
from earsight.studies.plot import plot
from earsight.studies.summary import Summary, read_summary
from earsight.studies.tables import figure_table, finding_table, markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER / "results.md"
FIGURES = FOLDER / "figures"
GALLERIES = FIGURES / "galleries.json"
STUDIES = FOLDER.parent / "studies"
INTRODUCTION = """# Results

<!-- Written by docs/make_results.py from the files in studies/. -->

What the methods do on a small machine, each claim tested over several seeds. Shares are in per
cent: mean ± deviation over seeds, and the mean's 95 % interval. Of a claim that one is better, the
difference is above 0 where it is.

- A claim *holds* where its one-sided test is significant at 5 % after Holm's correction over all
  claims of its study, *does not* where the opposite is, corrected alike, and is *undecided*
  otherwise. Each direction has its 5 %: a study errs in one or the other with at most 10 %.
  Intervals and p are those of a claim by itself, before correction: an interval may leave out 0
  where the claim is undecided. They are Student's, so one of few seeds may reach beyond 0 or 100 %.
- *Detectable* is the smallest true effect that so many seeds would find four times in five, at the
  deviation seen and the strictest level that the correction may ask for; of a claim that two are
  alike, the smallest margin that they would show if nothing differed.
- A claim to be at chance is itself the null hypothesis: it *holds* where the mean lies within the
  interval of guessing, and *does not* outside, without correction.
- Seeds alone are repeated: corpus, split and test clips are the same. Studies share runs, and some
  ask again what others asked; nothing is corrected across them.
- *p, opposite* is the p of the opposite finding, by which a claim *does not*.
- *Looked into in*: studies that test a reason for what was found. They may measure otherwise
  (probes, where a claim is of fine-tuned networks), and claim what speaks for the reason or against
  it: their sections say how.
- *(post hoc)*: a claim that was added when figures of its study had been seen. All others stood in
  the study's file before it was done.
- Training is short. At 45 epochs Cross-AVID still learns fast ([saturation](#saturation)), so
  methods that are compared there differ in how fast they learn, too.
- *Chance* of an accuracy is the share of the most frequent class of the test clips.
- In plots: grey, every seed; blue, their mean and its interval; red, chance.

[How to run a study](studies.md).
"""
CORPORA = """## Again, on your machine

Studies of clips are done on [av-digits](av-digits.md), those of pairs of pictures on
[Omniglot](omniglot.md):

```
earsight corpus av-digits --recordings free-spoken-digit-dataset -o av-digits
earsight scan av-digits --labels av-digits/labels.csv --group-by image -o corpus.parquet
earsight corpus omniglot --images images.zip -o omniglot
```

Each section names the digest of its corpus, and a command prints that of yours. **The clips of the
figures here were rendered before `earsight corpus av-digits` was there**: of the same recordings
and images, with the same parts in common, but other draws, and digits of the test clips that are
not quite balanced. On clips of your own making figures differ somewhat, and all stages are done
anew. `images.zip` holds eight of Omniglot's background alphabets: Balinese, Early_Aramaic, Greek,
Japanese_(katakana), Korean, Latin, Sanskrit and Tagalog.

The command of each study stands in its section. Stages that are kept in `studies/stages` are not
done again, and what is found replaces `studies/NAME.json`; give another folder (`-o`) to do all
anew. Settings were chosen on splits of the
training clips, with other seeds, and are the same for all methods of a kind.
"""
LOOK = """## To look at

Clips of the [demonstration](index.md), which are rendered: a frame from the middle, and below it
the sound (time to the right, frequency upwards). `python docs/make_galleries.py` makes both anew.
"""
NOTHING = "No study has been run yet.\n"
VERDICTS = {
    "holds": "What holds",
    "does not": "What does not: the opposite was found",
    "undecided": "What is undecided: so many seeds show neither",
}


def overview(found: Sequence[Summary], designs: Sequence[Design]) -> list[str]:
    """All claims by verdict, and where the reason of a study's findings was looked for."""
    parts = []
    for verdict, title in VERDICTS.items():
        lines = [line for summary in found for line in claims(summary, verdict, found, designs)]
        if lines:
            head = ("claim", "difference", "study", "looked into in")
            parts += [f"## {title}\n", markdown([head, *lines]) + "\n"]
    return parts


def claims(
    summary: Summary, verdict: str, found: Sequence[Summary], designs: Sequence[Design]
) -> list[tuple[str, ...]]:
    """A line for each claim of a study that was judged so."""
    return [
        (says, difference, link(summary.name), looked_into(summary.name, says, found, designs))
        for says, difference, *_, judged in finding_table(summary)[1:]
        if judged == verdict
    ]


def looked_into(study: str, says: str, found: Sequence[Summary], designs: Sequence[Design]) -> str:
    """Studies that test a reason for a claim's verdict."""
    by = [
        link(one.name)
        for one, design in zip(found, designs, strict=True)
        if design.looks_into(study, says)
    ]
    return ", ".join(by) or "–"


def link(study: str) -> str:
    """To its section."""
    return f"[{study}](#{study})"


def tests(summary: Summary) -> list[str]:
    """How claims were judged, each way once."""
    by_test: dict[str, list[str]] = {}
    for finding in summary.findings:
        by_test.setdefault(finding.test, []).append(finding.says)
    if len(by_test) == 1:
        return [f"Test: {test}." for test in by_test]
    return [f"- {'; '.join(says)}: {test}." for test, says in by_test.items()]


def section(summary: Summary, designs: Sequence[Design]) -> list[str]:
    """A study: what it asks, its figures, its claims, and what it took."""
    shown = {design.name: design for design in designs}
    looked = [
        f"Looks for the reason of claims of {link(other)}."
        for other in shown[summary.name].explains
        if other in shown
    ]
    looked += [
        f"The reason of some claims is looked for in {link(name)}."
        for name, design in shown.items()
        if summary.name in design.explains
    ]
    return [
        f"## {summary.name}\n",
        f"{summary.about.strip()}\n",
        *(f"{line}\n" for line in looked),
        f"```\nearsight study {summary.name} --corpus {corpus_of(summary.name)} "
        f"--seeds {len(summary.seeds)}\n```\n",
        markdown(figure_table(summary)) + "\n",
        f"![{summary.name}](figures/{summary.name}.svg)\n",
        markdown(finding_table(summary)) + "\n",
        *tests(summary),
        "",
        took(summary) + "\n",
    ]


def galleries() -> list[str]:
    """What two runs make of rendered clips, in pictures."""
    if not GALLERIES.exists():
        return []
    parts = [LOOK]
    for one in json.loads(GALLERIES.read_text(encoding="utf-8")):
        settings = "".join(f" `{setting}`" for setting in one["settings"])
        parts += [
            f"### {one['title']}\n",
            f"![{one['title']}](figures/{one['image']})\n",
            f"{one['caption']}\n",
            f"Preset `demo`{settings}; seed {one['seed']}, {one['clips']} clips; "
            f"{one['seconds'] / 60:.0f} minutes on {described(one['machine'])}.\n",
        ]
    return parts


def corpus_of(study: str) -> str:
    """What its command calls the corpus: pairs of pictures are none that is scanned."""
    return "omniglot" if "pictures" in presets.load(read_design(study).preset) else "corpus.parquet"


def took(summary: Summary) -> str:
    """Seeds, corpus, hardware and hours of a study."""
    seeds = ", ".join(map(str, summary.seeds))
    return f"Seeds {seeds}; corpus `{summary.corpus}`; {work(summary)}."


def work(*found: Summary) -> str:
    """Hardware and hours of the stages of studies, each stage once."""
    stages = outcomes(found)
    hours = sum(stage["seconds"] for stage in stages) / 3600
    machines = sorted({described(stage["machine"]) for stage in stages})
    return f"{len(stages)} stages, {hours:.1f} hours on {' and '.join(machines)}"


def outcomes(found: Sequence[Summary]) -> list[dict[str, Any]]:
    """The stages of studies, each once."""
    keys = sorted({key for summary in found for key in summary.stages.values()})
    paths = [STUDIES / "stages" / f"{key}.json" for key in keys]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def one_run(found: Sequence[Summary]) -> str:
    """How long a run takes."""
    runs = [stage["seconds"] for stage in outcomes(found) if not stage["rows"]]
    return (
        "A run has one core, and as a rule another beside it: half of them took less than "
        f"{statistics.median(runs) / 60:.0f} minutes, the longest {max(runs) / 60:.0f}. Of a run "
        "that was stopped, its last part counts."
    )


def to_come(found: Sequence[Summary]) -> list[str]:
    """Studies that nobody has done."""
    left = [f"`{name}`" for name in names() if name not in {summary.name for summary in found}]
    return [f"Designed, and not done yet: {', '.join(left)}.\n"] if left else []


def described(machine: dict[str, Any]) -> str:
    """A machine in a few words."""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return f"{machine['processor']}, {cores}{gpu}"


def summaries() -> list[Summary]:
    """Every study of the package that has been done, by name; the headline first."""
    known = sorted(names(), key=lambda name: (name != "headline", name))
    paths = [STUDIES / f"{name}.json" for name in known]
    return [read_summary(path) for path in paths if path.exists()]


def power(found: Sequence[Summary]) -> str:
    """How many claims are undecided, and what they could have shown."""
    left = [(f, one) for one in found for f in one.findings if f.verdict == "undecided"]
    smallest = [
        finding.detectable
        for finding, one in left
        if finding.detectable is not None and is_share(metric_of(one, finding.report))
    ]
    if not smallest:
        return ""
    few = sum(len(one.seeds) == 3 for _, one in left)
    median = 100 * statistics.median(smallest)
    return (
        f"{len(left)} claims are undecided, {few} of them with three seeds. Of those about shares, "
        f"half had to be above {median:.0f} points to be found four times in five: they say that "
        "more seeds are needed, not that there is no effect.\n"
    )


def metric_of(summary: Summary, report: str) -> str:
    """Of a figure, such as ``accuracy``."""
    return next(figure.metric for figure in summary.figures if figure.report == report)


def page() -> str:
    """The whole page."""
    found = summaries()
    if not found:
        return "\n".join([INTRODUCTION, NOTHING])
    seeds = sorted({len(summary.seeds) for summary in found})
    claimed = sum(len(summary.findings) for summary in found)
    designs = [read_design(summary.name) for summary in found]
    parts = [
        INTRODUCTION,
        f"{len(found)} studies, {claimed} claims, {seeds[0]} to {seeds[-1]} seeds each; "
        f"{work(*found)}. {one_run(found)}\n",
        power(found),
        *to_come(found),
        *overview(found, designs),
        *galleries(),
        CORPORA,
    ]
    for summary in found:
        parts += section(summary, designs)
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIGURES.mkdir(exist_ok=True)
    for one in summaries():
        (FIGURES / f"{one.name}.svg").write_text(plot(one), encoding="utf-8")
