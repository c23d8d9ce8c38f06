"""Studies: every stage once, shared, resumed at any point, with the same outcome."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import forked
from earsight import api
from earsight.config import ConfigError
from earsight.evaluation.rows import Row
from earsight.studies import run as run_module
from earsight.studies.design import parse_design, read_design
from earsight.studies.plan import plan_study
from earsight.studies.progress import BudgetOverError
from earsight.studies.run import do_study, is_made, needed
from earsight.studies.stages import outcome_path, read_outcome
from earsight.studies.summary import read_summary, summarise, write_summary
from earsight.studies.tables import figure_table, finding_table, format_summary, markdown
from earsight.training.alone import BusyError

DESIGN = {
    "name": "own",
    "about": "Do more epochs help?",
    "preset": "tiny",
    "settings": ["train.epochs=60"],
    "labels": ["shape"],
    "first_seed": 7,
    "seeds": 3,
    "arms": {"few": {}, "many": {"train": ["train.epochs=3"]}},
    "stages": {
        "train": {"do": "pretrain"},
        "more": {"do": "continue", "of": "train"},
        "probe": {"do": "evaluate", "of": "more", "task": "probe"},
        "retrieve": {"do": "evaluate", "of": "train", "task": "retrieve"},
    },
    "report": [
        {"name": "{label}", "stage": "probe", "row": "probe/video/{label}/accuracy"},
        {"name": "rank", "stage": "retrieve", "row": "retrieval/both/mean_log_rank"},
        {"name": "spread", "stage": "retrieve", "row": "retrieval/both/mean_log_rank_deviation"},
    ],
    "claims": [
        {"says": "more help", "report": "{label}", "more": ["many", "few"]},
        {"says": "alike", "report": "{label}", "same": ["many", "few"], "within": 0.5},
        {"says": "chance", "report": "rank", "chance": "few"},
        {"says": "further", "report": "rank", "more": ["many", "few"], "beyond": "{label}"},
        {"says": "other", "report": "{label}", "more": ["many", "many"], "than": "spread"},
    ],
}


class Pretend:
    """Leaves what stages leave, with figures that depend on the settings alone."""

    def __init__(self):
        self.done = []

    def pretrain(self, config, run, *, watch):
        self.done.append((config.train.epochs, config.seed, config.start))
        for step in range(3):
            watch(step + 1, 3)
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text("")
        (run / "encoders.safetensors").write_text(f"{config.train.epochs} {config.seed}")

    def evaluate(self, run, task, *, corpus, settings, options):
        epochs, seed = map(int, (run / "encoders.safetensors").read_text().split())
        self.done.append((task, epochs, seed))
        value = 0.1 * epochs + 0.01 * (seed % 5)

        def row(modality, metric, value, chance=None, label=None, baseline=None):
            return Row(
                task=task, modality=modality, label=label, metric=metric, value=value,
                chance=chance, baseline=baseline, n=10,
            )  # fmt: skip

        if task == "probe":
            return [
                row("video", "accuracy", value, 0.1, "shape", baseline=0.05),
                row("video", "accuracy", value + 1, 0.3, "texture", baseline=0.15),
            ]
        return [
            row("both", "mean_log_rank", 2.0 + 0.02 * (seed % 2), 2.0),
            row("both", "mean_log_rank_deviation", 0.05),
        ]

    def machine(self):
        return {"processor": "pretended"}

    def versions(self):
        return {"torch": "0"}


@pytest.fixture
def plan(tmp_path):
    design = parse_design(DESIGN)
    return plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)


def test_stages_are_done_once_and_in_order(plan, tmp_path):
    engine = Pretend()
    outcomes = do_study(plan, tmp_path, engine)
    assert len(engine.done) == len(plan.unique()) == 2 * 3 * 4
    assert engine.done[0][1] == engine.done[1][1] == 7
    assert all(job.key in outcomes for job in plan.unique() if job.stage.do == "evaluate")
    starts = [entry[2] for entry in engine.done if isinstance(entry[0], int)]
    assert sum(bool(start) for start in starts) == 6
    again = Pretend()
    assert do_study(plan, tmp_path, again) == outcomes
    assert again.done == []


def test_equal_stages_of_other_studies_are_shared(plan, tmp_path):
    do_study(plan, tmp_path, Pretend())
    arms = {"same": {}, "new": {"train": ["train.epochs=5"]}}
    other = parse_design(DESIGN | {"name": "other", "arms": arms, "claims": []})
    engine = Pretend()
    do_study(plan_study(other, tmp_path / "c.parquet", "digest", seeds=1), tmp_path, engine)
    assert {entry[0] for entry in engine.done if isinstance(entry[0], int)} == {5, 60}
    another_corpus = plan_study(other, tmp_path / "c.parquet", "other digest", seeds=1)
    assert len(needed(another_corpus.unique(), tmp_path)) == len(another_corpus.unique())


def test_runs_are_not_made_again_where_all_evaluations_are_known(plan, tmp_path):
    do_study(plan, tmp_path, Pretend())
    shutil.rmtree(tmp_path / "runs")
    engine = Pretend()
    do_study(plan, tmp_path, engine)
    assert engine.done == []
    missing = next(job for job in plan.unique() if job.stage.task == "retrieve")
    outcome_path(tmp_path, missing).unlink()
    first = outcome_path(tmp_path, missing.after).read_text()
    do_study(plan, tmp_path, engine)
    assert [entry[0] for entry in engine.done] == [60, "retrieve"]
    assert is_made(tmp_path, missing.after)
    assert outcome_path(tmp_path, missing.after).read_text() == first


def test_a_run_that_another_study_makes_is_waited_for(plan, tmp_path, monkeypatch):
    class Busy(Pretend):
        refused = 0

        def pretrain(self, config, run, *, watch):
            self.refused += 1
            if self.refused <= 2:
                raise BusyError("another process is training it")
            super().pretrain(config, run, watch=watch)

    monkeypatch.setattr(run_module, "_WAIT", 0.0)
    engine = Busy()
    assert do_study(plan, tmp_path, engine)
    assert engine.refused == 2 + sum(isinstance(entry[0], int) for entry in engine.done)


def test_a_changed_default_is_noticed(plan, tmp_path):
    do_study(plan, tmp_path, Pretend())
    job = plan.unique()[-1]
    path = outcome_path(tmp_path, job)
    tree = json.loads(path.read_text())
    tree["settings"]["audio.n_fft"] = 1
    path.write_text(json.dumps(tree))
    assert read_outcome(tmp_path, job) is None
    tree["settings"] |= {"audio.n_fft": 256, "some.setting": "of a version to come"}
    path.write_text(json.dumps(tree))
    assert read_outcome(tmp_path, job) is not None
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_outcome(tmp_path, job)


def test_a_run_of_a_changed_default_is_not_evaluated_again(plan, tmp_path):
    do_study(plan, tmp_path, Pretend())
    probe = next(job for job in plan.unique() if job.stage.task == "probe")
    for job in (probe, probe.after):
        path = outcome_path(tmp_path, job)
        path.write_text(path.read_text().replace('"audio.n_fft": 256', '"audio.n_fft": 1'))
    assert [job.key for job in needed([probe], tmp_path)] == [probe.after.key, probe.key]
    outcome_path(tmp_path, probe.after).unlink()
    assert needed([probe], tmp_path) == [probe]


def test_arms_change_evaluations_too(tmp_path):
    tuned = {
        "do": "evaluate",
        "of": "train",
        "task": "finetune",
        "options": {"modality": "video", "label": "{label}", "share": 0.1},
    }
    own = {
        "arms": {"pretrained": {}, "scratch": {"tuned": ["scratch=true", "evaluation.clips=2"]}},
        "stages": {"train": {"do": "pretrain"}, "tuned": tuned},
        "report": [{"name": "x", "stage": "tuned", "row": "y"}],
        "claims": [],
    }
    made = plan_study(parse_design(DESIGN | own), tmp_path / "c.parquet", "d", seeds=1)
    first, second = (made.jobs[arm, 7, "tuned"] for arm in ("pretrained", "scratch"))
    assert first.stage.options == {"modality": "video", "label": "shape", "share": 0.1}
    assert second.stage.options == {**first.stage.options, "scratch": True}
    assert second.stage.settings == ("evaluation.clips=2",)
    assert first.after.key == second.after.key
    assert first.key != second.key
    two = parse_design(DESIGN | own | {"labels": ["shape", "material"]})
    with pytest.raises(ConfigError, match="learns one label"):
        plan_study(two, tmp_path / "c.parquet", "d", seeds=1)


def test_free_settings_decide_nothing(tmp_path):
    design = parse_design(DESIGN)

    def keys(*settings):
        made = plan_study(design, tmp_path / "c.parquet", "d", seeds=1, settings=settings)
        return [job.key for job in made.unique()]

    assert keys() == keys("data.workers=0", "threads=2", "data.cache=memory")
    assert keys() != keys("optimizer.lr=1e-5")


def test_what_a_run_tells_its_evaluations_is_part_of_their_keys(tmp_path):
    design = parse_design(DESIGN)

    def keys(*settings):
        made = plan_study(design, tmp_path / "c.parquet", "d", seeds=1, settings=settings)
        return {at: job.key for at, job in made.jobs.items()}

    # Evaluations during the training decide nothing.
    assert keys() == keys("evaluation.every=2", "evaluation.tasks=[geometry]")
    plain, three = keys(), keys("evaluation.clips=3")
    assert all(plain[at] != three[at] for at in plain)
    assert three == keys("evaluation.clips=1", "evaluation.clips=3")
    assert three != keys("evaluation.clips=3", "evaluation.clips=1")


def test_the_setting_that_overrides_is_the_one_in_the_key(tmp_path):
    def keys(stage, arm):
        probe = {"do": "evaluate", "of": "train", "task": "knn", "settings": [stage]}
        stages = {"train": {"do": "pretrain"}, "probe": probe}
        own = {"arms": {"one": {"probe": [arm]}}, "stages": stages, "claims": []}
        design = parse_design(
            DESIGN | own | {"report": [{"name": "x", "stage": "probe", "row": "y"}]}
        )
        return plan_study(design, tmp_path / "c", "d", seeds=1).jobs["one", 7, "probe"].key

    fewer = keys("evaluation.clips=3", "evaluation.clips=1")
    assert fewer != keys("evaluation.clips=1", "evaluation.clips=3")
    assert fewer == keys("evaluation.clips=5", "evaluation.clips=1")


def test_a_budget_ends_it_and_it_goes_on(plan, tmp_path):
    with pytest.raises(BudgetOverError, match=r"24 of 24 stages left; the same command goes on"):
        do_study(plan, tmp_path, Pretend(), until=time.monotonic() - 1)
    shown = []
    do_study(plan, tmp_path, Pretend(), show=lambda done, of, what: shown.append((done, of, what)))
    first = f"seed 7, train ({plan.unique()[0].key})"
    assert shown[:2] == [(0.0, 24, first), (1 / 3, 24, first)]
    assert len({what for _, _, what in shown}) == 24
    assert [done for done, _, _ in shown] == sorted(done for done, _, _ in shown)


def test_a_summary_has_figures_and_verdicts(plan, tmp_path):
    outcomes = do_study(plan, tmp_path, Pretend())
    summary = summarise(plan, outcomes, "digest")
    few, many = (f for f in summary.figures if f.report == "shape")
    # Both end with the 60 epochs of their continuation.
    assert few.values == many.values == pytest.approx((6.02, 6.03, 6.04))
    assert few.chance == pytest.approx(0.1)
    more, alike, chance, further, other = summary.findings
    assert more.verdict == "undecided"
    assert alike.verdict == "holds"
    # 7, 8, 9: away by 0.02, 0 and 0.02; the interval is ±1.96·0.05/√3.
    assert chance.verdict == "holds"
    assert chance.difference.mean == pytest.approx(0.04 / 3)
    assert "within ±0.0566 of chance" in chance.test
    # Four times in five beyond the interval.
    assert chance.detectable == pytest.approx((1.959964 + 0.841621) * 0.05 / 3**0.5)
    assert alike.test == "two one-sided paired t-tests within ±50 points"
    assert further.test.endswith("of the difference and of that in “shape”")
    assert other.test == "one-sided paired t-test with “spread”"
    # Both gains are 0 in every seed.
    assert further.difference.mean == 0
    assert further.verdict == "undecided"
    by_place = {(f.report, f.arm): f for f in summary.figures}
    many, spread = by_place["shape", "many"], by_place["spread", "many"]
    assert other.difference.mean == pytest.approx(many.estimate.mean - spread.estimate.mean)
    path = write_summary(tmp_path, summary)
    assert read_summary(path) == summary
    text = format_summary(summary)
    assert "few" in text
    assert "holds" in text
    assert markdown(figure_table(summary)).count("\n") == 4
    assert len(finding_table(summary)) == 6
    guessing = [replace(f, chance=0.5) if f.arm == "few" else f for f in summary.figures]
    table = figure_table(replace(summary, figures=tuple(guessing)))
    shape = next(at for at, line in enumerate(table) if line[0] == "shape")
    assert table[shape][-1] == "below"
    assert table[shape + 1][:3] == ("shape, by guessing", "50.0", "10.0")


def test_the_figure_of_the_random_initialisation_and_the_gain_over_it(plan, tmp_path):
    row = "probe/video/{label}/accuracy"
    report = [
        {"name": "{label}", "stage": "probe", "row": row, "untrained": ["few"]},
        {"name": "{label}, gain", "stage": "probe", "row": row, "gain": True},
        {"name": "{label}, before", "stage": "probe", "row": row, "untrained": ["*"]},
    ]
    design = parse_design(DESIGN | {"report": report, "claims": []})
    other = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    summary = summarise(other, do_study(other, tmp_path, Pretend()), "digest")
    few, many, gain, _, *before = (figure.values for figure in summary.figures)
    assert before == [few, few]
    assert few == pytest.approx((0.05, 0.05, 0.05))
    assert many == pytest.approx((6.02, 6.03, 6.04))
    assert gain == pytest.approx((5.97, 5.98, 5.99))


def test_a_figure_may_be_the_mean_of_all_labels(plan, tmp_path):
    row = "probe/video/*/accuracy"
    report = [
        {"name": "mean", "stage": "probe", "row": row},
        {"name": "untrained", "stage": "probe", "row": row, "untrained": ["few"]},
    ]
    design = parse_design(DESIGN | {"report": report, "claims": []})
    other = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    summary = summarise(other, do_study(other, tmp_path, Pretend()), "digest")
    mean, _, before, _ = summary.figures
    # Of 6.02 and 7.02, and so on; chances of 0.1 and 0.3; 0.05 and 0.15 at the start.
    assert mean.values == pytest.approx((6.52, 6.53, 6.54))
    assert mean.chance == pytest.approx(0.2)
    assert before.values == pytest.approx((0.1, 0.1, 0.1))


def test_a_claim_may_allow_for_falling_short(plan, tmp_path):
    claim = {"says": "as good", "report": "{label}", "more": ["few", "many"], "margin": -0.5}
    design = parse_design(DESIGN | {"claims": [claim]})
    other = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    finding, *_ = summarise(other, do_study(other, tmp_path, Pretend()), "digest").findings
    assert finding.test == "one-sided paired t-test, against being less by 50 points or more"
    assert finding.difference.mean == 0
    assert finding.verdict == "holds"


class Above(Pretend):
    """Ranks that stray from chance by as much as is said."""

    def __init__(self, distance, chance=2.0):
        super().__init__()
        self.distance, self.chance = distance, chance

    def evaluate(self, run, task, *, corpus, settings, options):
        rows = super().evaluate(run, task, corpus=corpus, settings=settings, options=options)
        return [
            replace(row, value=2.0 + self.distance, chance=self.chance)
            if row.metric == "mean_log_rank"
            else row
            for row in rows
        ]


class Ranked(Pretend):
    """More epochs bring lower ranks, and more in a probe."""

    def evaluate(self, run, task, *, corpus, settings, options):
        epochs, seed = map(int, (run / "encoders.safetensors").read_text().split())
        rows = super().evaluate(run, task, corpus=corpus, settings=settings, options=options)
        return [
            replace(row, value=2.0 - 0.2 * (epochs == 60) + 0.01 * seed * (epochs == 60))
            if row.metric == "mean_log_rank"
            else row
            for row in rows
        ]


def test_of_ranks_less_is_better(tmp_path):
    claims = [
        {"says": "better", "report": "rank", "more": ["few", "many"]},
        {"says": "worse", "report": "rank", "more": ["many", "few"]},
        {"says": "by 0.05", "report": "rank", "more": ["few", "many"], "margin": 0.05},
        {"says": "more than in probes", "report": "rank", "more": ["few", "many"], "beyond": "x"},
    ]
    probe = {"name": "x", "stage": "retrieve", "row": "retrieval/both/mean_log_rank_deviation"}
    own = {"claims": claims, "report": [*DESIGN["report"], probe]}
    ranks = plan_study(parse_design(DESIGN | own), tmp_path / "c", "digest", seeds=3)
    found = summarise(ranks, do_study(ranks, tmp_path, Ranked()), "digest").findings
    # Seeds 7, 8, 9: few (60 epochs) have ranks lower by 0.13, 0.12 and 0.11.
    assert [f.difference.mean for f in found] == pytest.approx([0.12, -0.12, 0.12, 0.12])
    assert [f.verdict for f in found] == ["holds", "does not", "holds", "holds"]


@pytest.mark.parametrize("away", [-0.06, -0.05, 0.05, 0.06])
def test_chance_is_left_on_either_side(tmp_path, away):
    design = parse_design(DESIGN | {"claims": [DESIGN["claims"][2]]})
    ranks = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    (chance,) = summarise(ranks, do_study(ranks, tmp_path, Above(away)), "digest").findings
    assert chance.difference.mean == pytest.approx(away)
    assert chance.verdict == ("holds" if abs(away) < 1.96 * 0.05 / 3**0.5 else "does not")


def test_a_figure_without_chance_is_not_held_against_it(plan, tmp_path):
    outcomes = do_study(plan, tmp_path, Above(0.0, chance=None))
    with pytest.raises(ValueError, match="report 'rank': guessing means nothing"):
        summarise(plan, outcomes, "digest")


def test_figures_belong_to_the_arms_that_have_them(tmp_path):
    stages = DESIGN["stages"]
    some = {name: stages[name] | {"arms": ["many"]} for name in ("more", "probe")}
    changed = {"stages": stages | some, "claims": [DESIGN["claims"][2]]}
    few = plan_study(parse_design(DESIGN | changed), tmp_path / "c", "digest", seeds=2)
    summary = summarise(few, do_study(few, tmp_path, Pretend()), "digest")
    assert {(f.report, f.arm) for f in summary.figures} == {
        ("shape", "many"),
        *((name, arm) for name in ("rank", "spread") for arm in ("few", "many")),
    }
    _, shape, *_ = figure_table(summary)
    assert shape[:2] == ("shape", "–")
    assert shape[2].startswith("602.5 ")
    assert shape[3] == "10.0"


@pytest.mark.parametrize("row", ["probe/audio/*/accuracy", "probe/*/accuracy"])
def test_a_mean_of_nothing_is_named(plan, tmp_path, row):
    report = {"name": "mean", "stage": "probe", "row": row}
    design = parse_design(DESIGN | {"report": [report], "claims": []})
    other = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    with pytest.raises(ValueError, match=r"the evaluation has no 'probe/"):
        summarise(other, do_study(other, tmp_path, Pretend()), "digest")


def test_a_figure_that_is_missing_is_named(plan, tmp_path):
    report = {"name": "shape", "stage": "probe", "row": "probe/audio/x"}
    design = parse_design(DESIGN | {"report": [report], "claims": []})
    other = plan_study(design, tmp_path / "c.parquet", "digest", seeds=3)
    with pytest.raises(ValueError, match=r"has no 'probe/audio/x'; it has probe/video/shape"):
        summarise(other, do_study(other, tmp_path, Pretend()), "digest")


TINY = """
about: Two arms, as small as can be.
preset: tiny
settings: [{settings}]
labels: [shape]
first_seed: 3
seeds: 2
arms:
  one: {{}}
  two: {{train: [method.negatives=4]}}
stages:
  train: {{do: pretrain}}
  probe: {{do: evaluate, of: train, task: probe}}
report:
  - {{name: "{{label}}", stage: probe, row: "probe/video/{{label}}/accuracy"}}
claims:
  - {{says: "one beats two", report: "{{label}}", more: [one, two]}}
"""


@pytest.fixture
def own(tmp_path, small):
    path = tmp_path / "own.yaml"
    settings = (*small, "train.epochs=3", "train.checkpoint_every=1", "evaluation.tasks=[geometry]")
    path.write_text(TINY.format(settings=", ".join(f'"{s}"' for s in settings)))
    return path


def command(own, corpus, home, *more):
    own_command = [sys.executable, "-m", "earsight", "study", str(own), "--corpus", str(corpus)]
    return [*own_command, "-o", str(home), "--json", *more]


def left_by_stages(home):
    return {path for kind in ("pt", "json", "safetensors") for path in home.rglob(f"*.{kind}")}


def wait_for_more_than(found, process, home):
    """Until a stage has left something, or all is done."""
    while process.poll() is None and left_by_stages(home) <= found:
        time.sleep(0.02)


def under_way(home):
    """How many runs have begun and not ended."""
    runs = [path.parent for path in home.glob("runs/*/config.yaml")]
    return sum(not (run / "encoders.safetensors").exists() for run in runs)


def test_a_study_killed_at_random_points_ends_alike(own, corpus, tmp_path):
    api.study(str(own), corpus, home=tmp_path / "whole")
    draw = random.Random(5)
    home, kills, hits = tmp_path / "killed", 0, 0
    while kills < 7:
        again = command(own, corpus, home, "--jobs", "21"[kills % 2])
        found = left_by_stages(home)
        # The first comes early, while libraries are imported.
        process = forked.Forked(again[1:]) if kills else subprocess.Popen(again)
        if kills:
            wait_for_more_than(found, process, home)
        try:
            process.wait(timeout=draw.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if kills % 3 else signal.SIGKILL)
        process.wait()
        hits += under_way(home) > 0
        kills += 1
    assert forked.run(again[1:]).returncode == 0
    assert kills >= 3
    assert hits, "a stage under way was hit"
    whole, killed = (tmp_path / name / "own.json" for name in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()


def children(pid):
    """Processes that a process has started, and those that they have."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    own_children = [int(child) for task in tasks for child in task.read_text().split()]
    return own_children + [grandchild for child in own_children for grandchild in children(child)]


def wait_for_two_runs(process, home):
    while sum('"train"' in path.read_text() for path in home.glob("runs/*/metrics.jsonl")) < 2:
        assert process.poll() is None
        time.sleep(0.1)


def test_jobs_side_by_side_stop_together(own, corpus, tmp_path):
    slow = ("--jobs", "2", "train.epochs=4000")
    again = command(own, corpus, tmp_path, *slow)
    with subprocess.Popen(again, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_for_two_runs(process, tmp_path)
        started = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.decode().strip() == "earsight: stopped by SIGTERM; the same command goes on"
    assert len(started) >= 2
    for _ in range(50):
        if not (left := [pid for pid in started if Path(f"/proc/{pid}").exists()]):
            break
        time.sleep(0.1)
    assert not left
    assert len(list(tmp_path.glob("runs/*/checkpoints/*.pt"))) >= 2


def test_a_job_that_fails_among_others_says_why(own, corpus, tmp_path):
    text = own.read_text().replace("method.negatives=4", "train.batch=5000")
    own.write_text(text)
    with pytest.raises(ValueError, match=r"seed 3, train \(\w+\): the corpus has 32 usable"):
        api.study(str(own), corpus, home=tmp_path, jobs=2)


def test_a_job_whose_process_is_killed_says_so(own, corpus, tmp_path):
    again = command(own, corpus, tmp_path, "--jobs", "2", "train.epochs=4000")
    with subprocess.Popen(again, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_for_two_runs(process, tmp_path)
        server = next(
            pid
            for pid in children(process.pid)
            if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(children(server)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"its process ended with code -9" in said
    assert b"--jobs 1" in said


def test_labels_that_the_corpus_lacks_are_named(corpus, tmp_path):
    with pytest.raises(ValueError, match="has no label digit; it has shape, material"):
        api.study("variants", corpus, home=tmp_path)
    assert read_design("variants").labels == ("digit",)


def test_an_evaluation_that_measured_otherwise_is_done_again(plan, tmp_path):
    do_study(plan, tmp_path, Pretend())
    job = plan.jobs["few", 7, "probe"]
    assert read_outcome(tmp_path, job) is not None
    clips = job.measures["evaluation.clips"]
    other = replace(job, measures={**job.measures, "evaluation.clips": clips + 1})
    assert read_outcome(tmp_path, other) is None
    unknown = replace(job, measures={})
    assert read_outcome(tmp_path, unknown) is not None


def test_a_study_without_labels_refuses_them(corpus, tmp_path):
    with pytest.raises(ValueError, match="omit --labels"):
        api.study("diversity", corpus, home=tmp_path, labels=["shape"])
