"""What is reported in ``studies`` was found by the studies as they stand."""

from dataclasses import asdict
from pathlib import Path

import pytest

from earsight.studies.design import read_design
from earsight.studies.plan import plan_study
from earsight.studies.stages import read_outcome
from earsight.studies.summary import read_summary, summarise

STUDIES = Path(__file__).parents[2] / "studies"
REPORTS = sorted(STUDIES.glob("*.json"))


def test_there_are_reports():
    assert REPORTS


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_report_is_what_its_stages_tell(path):
    reported = read_summary(path)
    design = read_design(reported.name)
    plan = plan_study(design, Path("corpus"), reported.corpus, seeds=len(reported.seeds))
    outcomes = {job.key: read_outcome(STUDIES, job) for job in plan.unique()}
    found = summarise(plan, outcomes, reported.corpus)
    assert_alike(asdict(found), asdict(reported))


def assert_alike(found, reported):
    """Equal, but for the last digits of numbers: processors differ in them."""
    if isinstance(found, dict):
        assert found.keys() == reported.keys()
        for name, value in found.items():
            assert_alike(value, reported[name])
    elif isinstance(found, tuple):
        assert len(found) == len(reported)
        for one, other in zip(found, reported, strict=True):
            assert_alike(one, other)
    elif isinstance(found, float):
        assert found == pytest.approx(reported, rel=1e-6, abs=1e-12)
    else:
        assert found == reported
