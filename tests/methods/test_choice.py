"""Rules of one's own: registered from a file, trained with, compared, looked at."""

import sys
from dataclasses import replace

import pytest
import torch

from earsight import api
from earsight.config import METHODS, ConfigError, import_plugins, section
from earsight.evaluation.negatives_tables import rule_names
from earsight.methods.choice import RULES, Choice, Queries, ohem, random_pool
from earsight.methods.cm_acc import MomentumContrast, register_rule
from earsight.methods.momentum import MomentumConfig, PoolConfig, PosteriorConfig
from earsight.studies.design import parse_design
from earsight.studies.plan import plan_study

PLUGIN = """
from earsight.methods.cm_acc import register_rule

@register_rule("first")
def first(choice):
    return choice.usable.nonzero()[:, 0][: choice.count]
"""


@pytest.fixture
def taken_back():
    """Whatever a test registers is gone after it."""
    before = set(RULES)
    yield
    for name in set(RULES) - before:
        del RULES[name], METHODS._entries[name]


@pytest.fixture
def plugin(tmp_path, monkeypatch, taken_back):
    """A file ``first_rule.py`` that Python finds."""
    path = tmp_path / "first_rule.py"
    path.write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("first_rule", None)


def test_every_rule_is_a_method():
    assert set(RULES) <= set(METHODS.names())
    assert {"random-pool", "ohem", "feature", "cm-acc"} <= set(RULES)


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("kind", [PoolConfig, PosteriorConfig])
def test_a_rule_becomes_a_method_with_its_settings(kind):
    @register_rule("last", kind)
    def last(choice):
        return choice.usable.nonzero()[:, 0].flip(0)[: choice.count]

    assert RULES["last"] is last
    built = METHODS.build(kind(name="last", dictionary=4, pool=8), size=16, dim=3, seed=0)
    assert isinstance(built, MomentumContrast)
    assert built.rule is last


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("name", ["cm-acc", "ohem", "xmoco", "avid"])
def test_a_name_that_is_taken_is_refused(name):
    before = RULES.get(name)
    with pytest.raises(ValueError, match=f"a method named '{name}' is registered already"):
        register_rule(name)(lambda choice: choice.usable)
    assert RULES.get(name) is before


def test_settings_of_its_own_are_refused():
    @section
    class Own(PoolConfig):
        share: float = 0.5

    for kind in (Own, MomentumConfig):
        with pytest.raises(ValueError, match="register a method"):
            register_rule("own", kind)
    assert "own" not in METHODS.names()


def test_a_rule_may_ask_another_about_fewer_candidates():
    choice = Choice(
        settings=PoolConfig(),
        candidates=torch.eye(8),
        usable=torch.arange(8) > 1,
        queries=Queries(torch.eye(8)[:3], torch.eye(8)[:3]),
        seed=0,
        index=5,
        name="video",
    )
    few = replace(choice, usable=choice.usable & (torch.arange(8) < 6))
    chosen = random_pool(few)
    assert len(chosen) == 3
    assert set(chosen.tolist()) <= {2, 3, 4, 5}


def test_no_more_are_chosen_than_a_dictionary_holds():
    choice = Choice(
        settings=PosteriorConfig(name="ohem", dictionary=2),
        candidates=torch.randn(8, 4),
        usable=torch.ones(8, dtype=torch.bool),
        queries=Queries(torch.randn(5, 4), torch.randn(5, 4)),
        seed=0,
        index=5,
        name="video",
    )
    wide = replace(choice, settings=PosteriorConfig(name="ohem", dictionary=5))
    assert torch.equal(ohem(choice), ohem(wide)[:2])


def test_gradients_need_settings_that_say_of_what():
    choice = Choice(
        settings=PoolConfig(name="own"),
        candidates=torch.eye(4),
        usable=torch.ones(4, dtype=torch.bool),
        queries=Queries(torch.eye(4)[:2], torch.eye(4)[:2]),
        seed=0,
        index=0,
        name="video",
    )
    with pytest.raises(ValueError, match=r"'own' asks for gradients.*PosteriorConfig"):
        _ = choice.gradients
    told = replace(choice, settings=PosteriorConfig())
    assert len(told.gradients) == 4


def test_a_plugins_rule_trains_and_is_looked_at(plugin, corpus, small, tmp_path):
    plain = [text for text in small if not text.startswith(("optimizer.", "method."))]
    own = ["plugins=[first_rule]", "method.name=first", "method.dictionary=8", "method.pool=24"]
    settings = [*plain, *own, f"data.corpus={corpus}", "optimizer.milestones=[1]"]
    config = api.configure("tiny", settings=settings)
    api.pretrain(config, tmp_path / "run", quiet=True)
    found = api.negatives(tmp_path / "run")
    assert {one["rule"] for one in found.details["unique"]} == set(RULES)
    assert rule_names(["ohem", "first"]) == {"ohem": "OHEM", "first": "first"}
    assert "first" in (tmp_path / "run" / "evaluation" / "negatives.html").read_text()


def test_stages_of_an_arm_go_by_the_text_of_its_plugin(plugin, corpus):
    own = ["plugins=[first_rule]", "method.name=first"]
    design = parse_design(
        {
            "name": "rules",
            "about": "Which?",
            "preset": "tiny-cm-acc",
            "first_seed": 1,
            "arms": {"random": {"train": ["method.name=random-pool"]}, "first": {"train": own}},
            "stages": {
                "train": {"do": "pretrain"},
                "retrieve": {"do": "evaluate", "of": "train", "task": "retrieve"},
            },
            "report": [
                {"name": "rank", "stage": "retrieve", "row": "retrieval/both/mean_log_rank"}
            ],
        }
    )

    def keys():
        plan = plan_study(design, corpus, "digest", seeds=1)
        return {at: job.key for at, job in plan.jobs.items()}

    before = keys()
    assert keys() == before
    plugin.write_text(PLUGIN.replace("[:, 0]", "[:, 0].flip(0)"))
    after = keys()
    moved = {at[::2] for at in before if before[at] != after[at]}
    assert moved == {("first", "train"), ("first", "retrieve")}


def test_plugins_of_the_current_folder_are_found(tmp_path, monkeypatch):
    (tmp_path / "lying_here.py").write_text("FOUND = True\n")
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    monkeypatch.chdir(tmp_path)
    assert import_plugins(["lying_here"]) == []
    assert sys.modules.pop("lying_here").FOUND
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize("name", ["no_such_module", "", ".no_such_module", "no_such_module.py"])
def test_a_plugin_that_is_not_there_is_named(name):
    (fault,) = import_plugins([name])
    assert fault.startswith(f"plugins: cannot import {name!r}")


def test_settings_name_plugins_that_are_not_there():
    with pytest.raises(ConfigError, match="no_such_module"):
        api.configure("tiny", settings=["plugins=[no_such_module]"])
