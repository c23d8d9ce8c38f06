"""Write docs/benchmarks.md from the JSON files in benchmarks/results."""

import json
from pathlib import Path
from typing import Any

from earsight.studies.tables import markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER / "benchmarks.md"
RESULTS = FOLDER.parent / "benchmarks" / "results"
PLACES = {"": "", "gpu": " on a GPU", "avx2": " with AVX2 alone"}
INTRODUCTION = """# Benchmarks

<!-- Written by docs/make_benchmarks.py from benchmarks/results. -->

Each file in `benchmarks/` runs on its own, writes JSON, and exits with 1 where a target is missed.
Times are of shared machines: look at the ratios. In a checkout, `earsight bench` runs all of them,
one after the other, and ends with one table; `earsight bench --quick` shows that they work.
"""


def section(name: str, report: dict[str, Any]) -> list[str]:
    """A benchmark's targets and the machine they were measured on.

    Figures of a GPU lie in ``NAME.gpu.json``, beside those of a processor; those of one with
    vectors of half the width in ``NAME.avx2.json``.
    """
    machine = report["machine"]
    script, _, where = name.partition(".")
    gpu = f"{report['gpu']}; " if "gpu" in report else ""
    packages = ", ".join(f"{n} {v}" for n, v in machine["packages"].items() if v)
    lines = [
        f"## `benchmarks/{script}.py`{PLACES[where]}\n",
        f"{gpu}{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, "
        f"{packages}.\n",
        "| figure | measured | target | met |",
        "|---|---|---|---|",
    ]
    for target in report["targets"]:
        least, most, unit = target["least"], target["most"], target["unit"]
        wanted = f"at least {least:g}{unit}" if least is not None else f"at most {most:g}{unit}"
        met = "yes" if target["met"] else "**no**"
        lines.append(f"| {target['name']} | {target['measured']:.3g}{unit} | {wanted} | {met} |")
    note = [f"{report['note']}\n"] if "note" in report else []
    return [*lines, "", *note, *table(report.get("table", []))]


def table(rows: list[list[str]]) -> list[str]:
    """Figures without a target: a head, then a line each; nothing where there are none."""
    if not rows:
        return []
    return [markdown(rows), ""]


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for path in sorted(RESULTS.glob("*.json")):
        parts += section(path.stem, json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
