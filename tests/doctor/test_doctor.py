"""The examination: what is there, what is missing and what that costs, what is bad first."""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from earsight import cli, processor
from earsight.doctor import codecs, devices, examine, installed, speed
from earsight.doctor.check import Check, examination
from earsight.doctor.codecs import CODECS, try_codec


def by_name(checks):
    return {check.name: check for check in checks}


def test_what_is_bad_comes_first():
    made = [
        Check(group="versions", name="a", text="1.0"),
        Check(group="extras", name="b", status="lacking", text="is missing", remedy="get it"),
        Check(group="codecs", name="c", status="broken", text="fails", remedy="mend it"),
        Check(group="versions", name="d", text="2.0"),
    ]
    found = examination(made)
    assert [check.name for check in found.checks] == ["c", "b", "a", "d"]
    assert not found.works
    assert str(found).splitlines() == [
        "broken   c  fails; mend it",
        "lacking  b  is missing; get it",
        "ok       a  1.0",
        "ok       d  2.0",
        "",
        "1 broken, 1 lacking, 2 ok",
    ]
    tree = json.loads(json.dumps(found.as_dict()))
    assert tree["works"] is False
    assert tree["checks"][0]["remedy"] == "mend it"
    assert examination(made[:2]).works


def test_versions_of_this_installation():
    found = by_name(installed.versions())
    assert {check.status for check in found.values()} == {"ok"}
    assert "libavcodec" in found["PyAV and FFmpeg"].text
    assert "numpy" in found["libraries"].text


def test_a_library_that_is_missing_is_broken(monkeypatch):
    monkeypatch.setitem(installed.LIBRARIES, "no_such_module", "no-such-package")
    found = by_name(installed.versions())
    check = found["no-such-package"]
    assert (check.status, check.remedy) == ("broken", installed._REINSTALL)
    assert "no_such_module" in check.text
    assert found["libraries"].status == "ok"


def test_a_python_that_is_too_old():
    check = installed._python((3, 9), "3.9.1")
    assert check.status == "broken"
    assert "3.11" in check.remedy


@pytest.mark.parametrize(("text", "numbers"), [("2.13.0+cpu", (2, 13)), ("18.1.0", (18, 1))])
def test_version_numbers(text, numbers):
    assert installed._numbers(text) == numbers


def test_every_extra_has_its_cost():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    named = set(project["project"]["optional-dependencies"]) - {"docs", "dev"}
    assert named == set(installed.EXTRAS), "say in doctor/installed.py what its absence costs"


def test_an_extra_that_is_missing_in_part():
    extra = installed.Extra(packages=("json", "x"), modules=("json", "no_such"), without="no x")
    (check,) = installed.extras({"thing": extra})
    assert check.status == "lacking"
    assert check.text == "is not installed (no_such): no x"
    assert check.remedy == "pip install 'earsight[thing]'"


def test_codecs_that_the_demo_needs_decode():
    found = by_name(codecs.codecs([codec for codec in CODECS if codec.needed]))
    assert set(found) == {"H.264", "AAC", "PCM"}
    assert {check.status for check in found.values()} == {"ok"}
    assert all(check.figures["tried"] for check in found.values())


def test_codecs_without_decoder_or_encoder(monkeypatch):
    known = CODECS[0]
    assert try_codec(replace(known, decoder="nothing")) == ("there is no decoder", False)
    assert try_codec(replace(known, encoder="nothing")) == ("", False)
    (needed,) = codecs.codecs([replace(known, decoder="nothing")])
    assert needed.status == "broken"
    assert "PyAV" in needed.remedy
    (other,) = codecs.codecs([replace(known, decoder="nothing", needed=False)])
    assert other.status == "lacking"
    monkeypatch.setattr(codecs, "_decode", lambda codec, content: 0)
    assert try_codec(known) == ("decodes to nothing", True)


def test_encoders_do_not_write_to_the_terminal(capfd):
    wanted = [codec for codec in CODECS if codec.encoder in ("libx265", "libsvtav1")]
    assert {check.status for check in codecs.codecs(wanted)} == {"ok"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no policies")
def test_encoders_leave_the_priority_of_the_process():
    before = os.sched_getscheduler(0)
    assert {check.status for check in codecs.codecs()} == {"ok"}
    assert os.sched_getscheduler(0) == before


def test_devices_and_disk(tmp_path, monkeypatch):
    found = by_name(devices.devices())
    assert "cores" in found["processor"].text
    assert found["memory"].figures["bytes"] > found["memory"].figures["free"] > 0
    assert devices.disk(tmp_path).figures["free"] > 0
    monkeypatch.setattr(devices, "_LITTLE_DISK", 2**62)
    little = devices.disk(tmp_path)
    assert little.status == "lacking"
    assert little.remedy
    monkeypatch.setattr(processor, "COMPILERS", ())
    monkeypatch.delenv("CXX", raising=False)
    assert by_name(devices.devices())["compiler"].status == "lacking"


def test_memory_is_what_the_container_may_have(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    monkeypatch.setattr(devices, "_CGROUP", limit)
    assert devices.memory() == (2**20, 2**20)


def test_pace_counts_what_comes_after_the_first():
    seen = []

    def work(number):
        seen.append(number)
        return 3

    found = speed.pace(work, 0.0)
    assert seen == [0, 1]
    assert found.clips == 3
    assert found.clips_per_second == pytest.approx(3 / found.seconds)


def test_speed_is_measured():
    found = by_name(speed.speed(0.01))
    for name in ("decoding", "encoding", "training"):
        figures = found[name].figures
        assert figures["clips"] >= speed.CLIPS
        assert figures["clips_per_second"] == pytest.approx(figures["clips"] / figures["seconds"])
        assert f"{figures['clips_per_second']:.3g} clips/s" in found[name].text


def test_a_speed_test_that_fails_is_broken(monkeypatch):
    def fail(*_, **__):
        raise ValueError("no room")

    monkeypatch.setattr(speed, "render_demo", fail)
    check = by_name(speed.speed(0.01))["speed test"]
    assert check.status == "broken"
    assert "no room" in check.text


def test_what_stands_on_something_broken_is_not_looked_at(monkeypatch, capsys):
    broken = Check(group="versions", name="torch", status="broken", text="no", remedy="get it")
    monkeypatch.setattr(installed, "_torch", lambda: broken)
    found = examine.examine(seconds=0.01)
    assert found.checks[0] == broken
    groups = {check.group for check in found.checks}
    assert groups == {"versions", "extras", "codecs"}
    monkeypatch.setattr(examine, "examine", lambda: found)
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "--json"])
    assert left.value.code == 1
    assert json.loads(capsys.readouterr().out)["works"] is False
