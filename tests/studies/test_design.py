"""Study files: those of the package are sound; what is wrong with one's own is said at once."""

from dataclasses import replace

import pytest

from earsight.config import ConfigError
from earsight.studies.design import names, parse_design, questions, read_design, reports
from earsight.studies.plan import plan_study

SOUND = {
    "name": "own",
    "about": "Does it?",
    "preset": "tiny",
    "labels": ["shape", "material"],
    "first_seed": 1,
    "arms": {"one": {}, "other": {"train": ["train.epochs=1"]}},
    "stages": {
        "train": {"do": "pretrain"},
        "probe": {"do": "evaluate", "of": "train", "task": "probe"},
    },
    "report": [
        {"name": "{label}", "stage": "probe", "row": "probe/video/{label}/accuracy"},
        {"name": "always", "stage": "probe", "row": "probe/audio/shape/accuracy"},
    ],
    "claims": [{"says": "more on {label}", "report": "{label}", "more": ["one", "other"]}],
}


@pytest.mark.parametrize("name", names())
def test_studies_of_the_package_are_sound(name, tmp_path):
    design = read_design(name)
    assert design.name == name
    plan = plan_study(design, tmp_path / "corpus.parquet", "digest", seeds=1)
    assert {arm for arm, _, _ in plan.jobs} == set(design.arms)


@pytest.mark.parametrize("name", names())
def test_what_a_study_looks_into_is_claimed_by_another(name):
    for other, beginnings in read_design(name).explains.items():
        assert other != name
        said = [question.says for question in questions(read_design(other))]
        for beginning in beginnings:
            assert any(says.startswith(beginning) for says in said), beginning


def test_labels_stand_in_names_and_rows():
    design = parse_design(SOUND)
    assert [r.name for r in reports(design)] == ["shape", "material", "always"]
    assert reports(design)[1].row == "probe/video/material/accuracy"
    assert [q.report for q in questions(design)] == ["shape", "material"]


@pytest.mark.parametrize("part", ["arms", "stages"])
def test_a_study_needs_arms_and_stages(part):
    empty = SOUND | {"report": [], "claims": [], part: {}}
    with pytest.raises(ConfigError, match=f"{part}: name at least one"):
        parse_design(empty)


def test_every_fault_is_named_at_once():
    broken = SOUND | {
        "seeds": 0,
        "arms": {"one": {"trian": []}},
        "stages": {
            "train": {"do": "pretrain", "of": "probe"},
            "probe": {"do": "evaluate", "of": "nothing", "options": {"share": 1}},
        },
        "report": [{"name": "x", "stage": "train", "row": "y"}],
        "claims": [
            {"says": "so", "report": "z", "more": ["one", "other"], "within": 0.1},
            {"says": "it", "report": "x", "more": ["one", "one"]},
            {"says": "at", "report": "x", "chance": "one", "than": "x"},
        ],
    }
    with pytest.raises(ConfigError) as error:
        parse_design(broken)
    text = str(error.value)
    for fault in (
        "seeds: must be at least 1",
        "arms.one.trian: is no stage",
        "stages.train.of: a stage that pretrains builds on none",
        "stages.probe.task: belongs to stages that evaluate",
        "stages.probe.options: have no effect",
        "stages.probe.of: no stage 'nothing'",
        "report 'x': 'train' is no stage that evaluates",
        "claim 'so': reports 'z'",
        "claim 'so': 'other' is no arm",
        "claim 'so': within:",
        "claim 'it': 'one' is compared with itself",
        "claim 'at': than: has no effect unless more is given",
    ):
        assert fault in text, fault


TUNED = {"task": "finetune", "options": {"modality": "video", "label": "shape"}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"settings": ["evaluation.clisp=1"]}, "evaluation.clisp: no such setting"),
        ({"settings": ["train.batch=1"]}, "train.batch=1: decides what was learned"),
        (TUNED | {"settings": ["train.bath=1"]}, "train.bath: no such setting"),
        ({"task": "finetune"}, "options: finetune needs label and modality"),
        (TUNED | {"settings": ["data.share=1"]}, "data.share=1: is decided by modality"),
    ],
)
def test_an_evaluation_is_checked_before_anything_is_trained(tmp_path, change, fault):
    stages = SOUND["stages"] | {"probe": SOUND["stages"]["probe"] | change}
    design = parse_design(SOUND | {"stages": stages})
    with pytest.raises(ConfigError, match=f"^stages.probe: {fault}"):
        plan_study(design, tmp_path / "corpus.parquet", "digest", seeds=1)


SOME = SOUND | {
    "arms": {"one": {}, "other": {}, "third": {"more": ["train.epochs=1"]}},
    "stages": SOUND["stages"]
    | {
        "more": {"do": "continue", "of": "train", "arms": ["other", "third"]},
        "late": {"do": "evaluate", "of": "more", "task": "probe", "arms": ["other", "third"]},
    },
    "report": [
        *SOUND["report"],
        {"name": "late", "stage": "late", "row": "probe/audio/x/accuracy"},
    ],
    "claims": [
        {"says": "more late", "report": "late", "more": ["third", "other"]},
        {"says": "more than one", "report": "late", "more": ["third", "one"], "than": "always"},
    ],
}


def test_stages_may_belong_to_some_arms(tmp_path):
    plan = plan_study(parse_design(SOME), tmp_path / "corpus.parquet", "digest", seeds=2)
    late = {(arm, seed) for arm, seed, stage in plan.jobs if stage == "late"}
    assert late == {(arm, seed) for arm in ("other", "third") for seed in (1, 2)}
    assert {arm for arm, _, stage in plan.jobs if stage == "probe"} == {"one", "other", "third"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"arms": SOME["arms"] | {"one": {"more": []}}}, "arms.one.more: has no effect"),
        (
            {"stages": SOME["stages"] | {"late": SOME["stages"]["late"] | {"arms": ["one"]}}},
            "stages.late.arms: 'one' does not do 'more', which it builds on",
        ),
        (
            {"stages": SOME["stages"] | {"more": SOME["stages"]["more"] | {"arms": ["ather"]}}},
            "stages.more.arms: 'ather' is no arm",
        ),
        (
            {"claims": [{"says": "so", "report": "late", "more": ["third", "one"]}]},
            "claim 'so': 'one' has no 'late'",
        ),
        (
            {"report": [SOME["report"][2] | {"untrained": ["one"]}], "claims": []},
            "report 'late': 'one' is no arm",
        ),
        (
            {
                "report": [SOME["report"][1] | {"gain": True}],
                "claims": [{"says": "so", "report": "always", "chance": "one"}],
            },
            "claim 'so': chance is that of a figure as it is",
        ),
    ],
)
def test_figures_of_arms_that_do_not_have_them_are_refused(change, fault):
    with pytest.raises(ConfigError, match=fault):
        parse_design(SOME | change)


def test_unknown_studies_and_entries_are_named():
    with pytest.raises(ConfigError, match="did you mean 'variants'"):
        read_design("variant")
    with pytest.raises(ConfigError, match="arm"):
        parse_design(SOUND | {"arm": {}})


def test_arms_that_a_claim_compares_must_not_be_made_alike(tmp_path):
    design = read_design("negatives")
    with pytest.raises(ConfigError, match="are made alike") as caught:
        plan_study(
            design, tmp_path / "c.parquet", "digest", seeds=1, settings=["method.negatives=64"]
        )
    assert any("1024" in fault or "1,024" in fault for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [("seed=7", "first_seed"), ("data.corpus=other.parquet", "--corpus"), ("start=run", "of")],
)
def test_what_a_study_sets_itself_is_refused(tmp_path, setting, remedy):
    design = read_design("variants")
    with pytest.raises(ConfigError, match=remedy):
        plan_study(design, tmp_path / "c.parquet", "digest", seeds=1, settings=[setting])


def test_labels_reach_the_settings_of_runs(tmp_path):
    design = replace(read_design("labels"), labels=("speaker",))
    plan = plan_study(design, tmp_path / "c.parquet", "digest", seeds=1)
    assert plan.jobs["supervised audio", 1001, "train"].config.method.label == "speaker"
    with pytest.raises(ConfigError, match="learns one label"):
        plan_study(
            replace(design, labels=("digit", "speaker")), tmp_path / "c.parquet", "d", seeds=1
        )


def test_a_plan_keeps_the_settings_that_decide_what_is_found(tmp_path):
    design = read_design("variants")
    given = ["data.workers=0", "train.epochs=46", "evaluation.clips=2", "threads=1"]
    plan = plan_study(design, tmp_path / "c.parquet", "digest", seeds=1, settings=given)
    assert plan.settings == ("train.epochs=46", "evaluation.clips=2")
