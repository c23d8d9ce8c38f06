"""Write docs/results.md and its figures from the studies' JSON files in ``studies``."""

import json
from pathlib import Path
from typing import Any

from earsight import presets
from earsight.studies.design import read_design
from earsight.studies.plot import plot
from earsight.studies.summary import Summary, read_summary
from earsight.studies.tables import figure_table, finding_table, markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER / "results.md"
FIGURES = FOLDER / "figures"
STUDIES = FOLDER.parent / "studies"
INTRODUCTION = """# Results

<!-- Written by docs/make_results.py from the files in studies/. -->

What the methods do on a small machine, each claim tested over several seeds. Shares are in per
cent: mean ± deviation over seeds, and the mean's 95 % interval. A claim *holds* where its test is
significant at 5 % after Holm's correction over all claims of its study, *does not* where the
opposite is, and is *undecided* otherwise; *detectable* is the smallest true effect that so many
seeds would find four times in five. [How to run a study](studies.md).
"""
NOTHING = "No study has been run yet.\n"


def section(summary: Summary) -> list[str]:
    """A study: what it asks, its figures, its claims, and what it took."""
    return [
        f"## {summary.name}\n",
        f"{summary.about.strip()}\n",
        f"```\nearsight study {summary.name} --corpus {corpus_of(summary.name)} "
        f"--seeds {len(summary.seeds)}\n```\n",
        markdown(figure_table(summary)) + "\n",
        f"![{summary.name}](figures/{summary.name}.svg)\n",
        markdown(finding_table(summary)) + "\n",
        *(f"- {finding.says}: {finding.test}." for finding in summary.findings),
        "",
        took(summary) + "\n",
    ]


def corpus_of(study: str) -> str:
    """What its command calls the corpus: pairs of pictures are none that is scanned."""
    return "omniglot" if "pictures" in presets.load(read_design(study).preset) else "corpus.parquet"


def took(summary: Summary) -> str:
    """Hardware and hours of a study's stages."""
    keys = sorted(set(summary.stages.values()))
    paths = [STUDIES / "stages" / f"{key}.json" for key in keys]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    hours = sum(stage["seconds"] for stage in found) / 3600
    machines = sorted({described(stage["machine"]) for stage in found})
    seeds = ", ".join(map(str, summary.seeds))
    return (
        f"Seeds {seeds}; corpus `{summary.corpus}`; {len(found)} stages, {hours:.1f} hours on "
        f"{'; '.join(machines)}."
    )


def described(machine: dict[str, Any]) -> str:
    """A machine in a few words."""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpu}"


def summaries() -> list[Summary]:
    """Every study that has been done, by name."""
    return [read_summary(path) for path in sorted(STUDIES.glob("*.json"))]


def page() -> str:
    """The whole page."""
    found = summaries()
    parts = [INTRODUCTION, *([] if found else [NOTHING])]
    for summary in found:
        parts += section(summary)
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIGURES.mkdir(exist_ok=True)
    for one in summaries():
        (FIGURES / f"{one.name}.svg").write_text(plot(one), encoding="utf-8")
