"""What is reported in ``studies`` was found by the studies as they stand."""

from pathlib import Path

import pytest

from earsight.studies.design import questions, read_design
from earsight.studies.run import plan_study
from earsight.studies.summary import read_summary

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_report_is_that_of_its_study(path):
    summary = read_summary(path)
    design = read_design(summary.name)
    plan = plan_study(design, Path("corpus"), summary.corpus, seeds=len(summary.seeds))
    assert summary.about == design.about
    assert summary.arms == tuple(design.arms)
    assert [finding.says for finding in summary.findings] == [q.says for q in questions(design)]
    keys = {"/".join(map(str, at)): job.key for at, job in plan.jobs.items()}
    assert summary.stages == keys
    assert all((STUDIES / "stages" / f"{key}.json").exists() for key in keys.values())
