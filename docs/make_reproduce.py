"""Write docs/reproduce-at-scale.md from presets, the papers' figures and benchmarks/results."""

from collections.abc import Iterable
from pathlib import Path

from make_scale import COMPILED, amount, duration, step_speed, table
from reproduce_costs import (
    CLIP,
    clip_work,
    cores,
    evaluation_hours,
    film_bytes,
    hours,
    preparing,
    rate,
    unprepared,
)
from reproduce_plans import (
    ABLATIONS,
    DIFFERENCES,
    FOLDS,
    GPUS,
    MEASURED_ON,
    OWN_INPUT,
    PLANS,
    TASKS,
    Plan,
)

from earsight import api
from earsight.evaluation.published import Figure, read_published
from earsight.presets import protocols

PAGE = Path(__file__).with_name("reproduce-at-scale.md")


def block(lines: Iterable[str]) -> str:
    """Commands."""
    return "\n".join(["```", *lines, "```\n"])


def commands(plan: Plan) -> list[str]:
    """From the scan to the run."""
    start = f" --from runs/{plan.start}" if plan.start else ""
    late = ["start_epoch=200"] if plan.start else []
    own = " ".join([*late, *plan.settings, "train.compile=encoders"])
    root = plan.root or plan.layout
    lines = [] if plan.start else [
        f"earsight scan --layout {plan.layout} --root data/{root}{plan.options} "
        f"-o {plan.corpus}.parquet",
        f"earsight prepare {plan.corpus}.parquet -o {plan.shards} --preset {plan.preset}",
    ]  # fmt: skip
    run = f"-m earsight pretrain --preset {plan.preset} --corpus {plan.shards} \\"
    return [
        *lines,
        f"torchrun --standalone --nproc-per-node {GPUS} {run}",
        f"    -o runs/{plan.preset}{start} --restartable {own}",
    ]


def evaluations(plan: Plan) -> list[str]:
    """What the papers measure, and the comparison with them."""
    run = f"runs/{plan.preset}"
    lines = []
    for name, modality, corpus in TASKS[plan.family]:
        task = protocols.load(name).task
        many = f"torchrun --standalone --nproc-per-node {GPUS} -m " if task == "finetune" else ""
        label = "" if task == "svm" else " --label label"
        folds = " --folds all" if corpus in FOLDS else ""
        own = OWN_INPUT if plan.family == "cm-acc" and modality == "video" else ""
        lines += [
            f"{many}earsight evaluate {task} {run} --preset {name} \\",
            f"    --modality {modality}{label} --corpus {corpus}{folds}{own}",
        ]
    return [*lines, f"earsight compare {run}"]


def figures(plan: Plan) -> list[Figure]:
    """The paper's, of this configuration."""
    paper = "cm-acc" if plan.family == "cm-acc" else "avid-cma"
    return [
        one
        for one in read_published()
        if (one.paper, one.pretraining, one.source) == (paper, plan.layout, "own")
        and one.method in plan.methods
        and one.size in plan.sizes
        and one.protocol in ("probe", "finetune", "svm")
        and (not plan.architectures or one.architecture in plan.architectures)
    ]


def expected(plan: Plan) -> str:
    """The paper's figures as a table."""
    rows = [
        [one.data, one.protocol, one.input or "–", one.metric, f"{one.value:g}", one.table]
        for one in figures(plan)
    ]
    return table(["evaluated on", "by", "input", "figure", "per cent", "table"], rows)


def overview() -> list[str]:
    """What each run takes."""
    rows = []
    for plan in PLANS:
        needed, trained = hours(plan), plan.config.train.epochs * plan.epoch
        rows.append(
            [
                plan.title,
                f"{plan.config.train.epochs} × {plan.epoch:,}",
                f"{trained / plan.config.train.batch:,.0f}",
                f"{clip_work(plan) / 1e9:.0f}",
                f"{needed:,.0f}",
                duration(3600 * needed / GPUS),
                f"{cores(plan):.0f}",
            ]
        )
    head = [
        "run",
        "epochs × clips",
        "steps",
        "10⁹ operations a clip",
        "GPU hours",
        f"on {GPUS} GPUs",
        "cores a GPU",
    ]
    step, _, timed = step_speed()
    return [
        "## What it takes\n",
        f"On {step['gpu']}:\n",
        table(head, rows),
        "A run of CMA starts from its AVID run at epoch 200: add that.\n",
        "How these are estimated:\n",
        f"- **GPU hours**: clips trained on × operations of a clip ÷ {rate() / 1e12:.0f}·10¹² "
        "operations a second. The operations (products and convolutions, forward and "
        "backward) are counted in the presets' own encoders; the speed is that of a whole "
        f"[measured](benchmarks.md) step of AVID on {step['clips']} clips, {timed}. Other "
        "encoders reach another share of a GPU's speed, so CM-ACC's hours may be off by a factor "
        "of two. A clip of CM-ACC goes forward through the key encoders too, and its pool is "
        "encoded once an epoch.",
        "- To these are added, of what was measured on a GPU, exact mining for each round of CMA "
        "(grown as N² beyond the sizes measured) and the choice of negatives for each step of "
        "CM-ACC. Changes of colour, spectrograms and communication are not counted.",
        f"- **Cores**: for each GPU, so that decoding keeps up. Measured with prepared films at "
        f"8 × 224², scaled by the pixels of a clip; without preparing, "
        f"{unprepared():.1f} times as many. With fewer, decoding decides the time.",
        f"- **Compiled**, as the commands below have it: {COMPILED[0].lower()}{COMPILED[1:]}\n",
        "Where there are fewer cores, take more machines, or wait longer. "
        "`earsight pretrain … --dry-run` measures a step on your machine, and memory.\n",
        *storage(),
    ]


def storage() -> list[str]:
    """Bytes and core hours of the prepared corpora."""
    rows = [
        [
            corpus,
            f"{clips:,}",
            amount(clips * CLIP * film_bytes()),
            f"{preparing(clips) / 3600:,.0f}",
        ]
        for corpus, clips in dict.fromkeys((plan.shards, plan.prepared) for plan in PLANS)
    ]
    return [
        f"Shards take {amount(film_bytes())} for a second of film, as measured with one film of "
        f"340 × 256, and clips last {CLIP:.0f} s; core hours of preparing are those of films of "
        "426 × 240 ([Prepare a corpus](prepare.md)). Clips are those of the data set's lists, "
        "held-out ones among them; fewer are to be had by now. Downloads come on top: as much "
        "or more.\n",
        table(["shards", "clips", "bytes", "core hours"], rows),
    ]


def evaluating() -> list[str]:
    """The sets to evaluate on, and what evaluations take."""
    rows = []
    for family, preset in (("avid", "avid-kinetics"), ("cm-acc", "cm-acc-kinetics-sound")):
        for task in TASKS[family]:
            needed = evaluation_hours(preset, task)
            shown = "–" if needed is None else f"{needed:.2g}" if needed >= 0.1 else "below 0.1"
            rows.append([preset, task[0], f"{FOLDS.get(task[2], 1)}", shown])
    scans = [
        f"earsight scan --layout {name} --root data/{name} -o {name}.parquet"
        for name in MEASURED_ON
    ]
    return [
        "## The sets to evaluate on\n",
        "Scanned once, for all runs:\n",
        block(scans),
        "GPU hours of training in an evaluation, all folds, estimated in the same way (a probe "
        "goes forward only). Testing, 10 clips a film, and the SVMs, which work on a processor, "
        "are not counted:\n",
        table(["encoders of", "protocol", "folds", "GPU hours"], rows),
        "The probe of an AudioSet run needs the shards of Kinetics-400, too.\n",
    ]


def ablations() -> list[str]:
    """Settings of the papers' comparisons; those that cannot be run are refused here."""
    rows = []
    for figure, arm, preset, settings in ABLATIONS:
        api.configure(preset, settings=settings)
        rows.append([figure, arm, f"`{preset}`", " ".join(f"`{text}`" for text in settings) or "–"])
    return [
        "## The papers' comparisons\n",
        "Small forms of these are what [Results](results.md) tests. At full size they are runs as "
        "above, of these presets and settings; their figures are in `earsight compare`. CM-ACC's "
        "are evaluated as above, those of AVID and CMA by linear layers on every block: `earsight "
        "evaluate probe RUN --preset kinetics-probe --modality video --label label --corpus "
        "kinetics-400-avid`, and `--preset esc-50-probe --modality audio --label label --corpus "
        "esc-50.parquet --folds all`.\n",
        table(["figure", "arm", "preset", "settings"], rows),
        "The analysis of AVID and CMA has 100,000 clips of AudioSet: `earsight scan --layout "
        "audioset --root data/audioset --draw 100000 --seed 0 -o audioset-100k.parquet`. CMA and "
        "the expansions go on from the Cross-AVID run: `--from runs/avid-analysis "
        "start_epoch=200`. UCF-101's training videos are those of a split: `earsight scan "
        "--layout ucf-101 --root data/ucf-101 -o ucf-101.parquet` and `data.fold=1`.\n",
    ]


def differences() -> list[str]:
    """Decisions where a paper is silent, or its code is another."""
    parts = []
    for title, lines in DIFFERENCES.items():
        parts += [f"## {title}\n", "\n".join(f"- {line}" for line in lines) + "\n"]
    return parts


def section(plan: Plan) -> list[str]:
    """One configuration."""
    note = f"It starts from the run of `{plan.start}`, on the same shards.\n" if plan.start else ""
    return [
        f"## {plan.title}\n",
        *filter(None, [note]),
        block(commands(plan)),
        block(evaluations(plan)),
        "The paper's figures:\n",
        expected(plan),
    ]


def page() -> str:
    """The whole page."""
    parts = [
        "# The papers at full size\n",
        "<!-- Written by docs/make_reproduce.py from presets, figures.csv and benchmarks/results. "
        "-->\n",
        "Commands for the papers' own data, what they take, and what to expect. The data sets must "
        "be at hand, lists and films in one folder each ([Known data sets](data-sets.md)): "
        "`data/kinetics-400` and the like here. Large corpora are prepared by many jobs "
        "([Preparation at scale](at-scale-preparation.md)), and GPUs of several machines are "
        "started as [Several machines](nodes.md) says. What limits larger corpora is on the page "
        "[How far each design goes](scale.md).\n",
        *overview(),
        *evaluating(),
    ]
    for plan in PLANS:
        parts += section(plan)
    return "\n".join([*parts, *ablations(), *differences()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
