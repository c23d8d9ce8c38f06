"""Benchmarks run one after the other, and what becomes of each is told."""

import json

import pytest

from earsight import cli
from earsight.bench import bench, find

SCRIPT = """
import argparse, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
parser.add_argument("--json")
given = parser.parse_args()
target = {{"name": "speed", "measured": {measured}, "unit": "×", "least": 2.0, "most": None}}
target["met"] = target["measured"] >= 2.0
with open(given.json, "w") as file:
    json.dump({{"targets": [target], "quick": given.quick}}, file)
if __name__ == "__main__":
    sys.exit(0 if target["met"] else 1)
"""
BROKEN = 'import sys\nprint("begun")\nif __name__ == "__main__": sys.exit("the data is missing")\n'


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "benchmarks"
    place.mkdir()
    (place / "fast.py").write_text(SCRIPT.format(measured=3.5))
    (place / "slow.py").write_text(SCRIPT.format(measured=1.5))
    (place / "broken.py").write_text(BROKEN)
    (place / "common.py").write_text("X = 1\n")
    return place


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *map(str, arguments)])
    printed = capsys.readouterr()
    return ended.value.code, printed


def test_all_are_run_and_told_of(folder, tmp_path, capsys):
    code, printed = call(capsys, "--folder", folder, "-o", tmp_path / "all.json")
    assert code == 1
    rows = [line.split("  ") for line in printed.out.splitlines()]
    told = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows if row[1:]}
    assert told["fast"] == ["speed", "3.5×", "at least 2×", "yes"]
    assert told["slow"] == ["speed", "1.5×", "at least 2×", "NO"]
    assert told["broken"] == ["not measured", "the data is missing"]
    tree = json.loads((tmp_path / "all.json").read_text())
    assert [one["name"] for one in tree["outcomes"]] == ["broken", "fast", "slow"]
    assert tree["outcomes"][1]["report"] == {
        "targets": [
            {
                "name": "speed",
                "measured": 3.5,
                "unit": "×",
                "least": 2.0,
                "most": None,
                "met": True,
            }
        ],
        "quick": False,
    }


def test_what_a_machine_lacks_is_told(folder, capsys):
    (folder / "gpu.py").write_text(
        "import json, sys\n"
        'if __name__ == "__main__":\n'
        '    report = {"targets": [], "left_out": "there is no GPU"}\n'
        '    json.dump(report, open(sys.argv[sys.argv.index("--json") + 1], "w"))\n'
    )
    code, printed = call(capsys, "gpu", "--folder", folder)
    assert code == 0
    assert "gpu        left out  there is no GPU" in printed.out


def test_quick_figures_miss_nothing(folder, capsys):
    code, printed = call(capsys, "slow", "--folder", folder, "--quick", "--json")
    assert code == 0
    tree = json.loads(printed.out)
    assert tree["size"] == "quick"
    assert tree["outcomes"][0]["report"]["quick"] is True


def test_time_ends(folder):
    (folder / "endless.py").write_text('import time\nif __name__ == "__main__": time.sleep(60)\n')
    done = bench(["endless", "fast"], folder=folder, minutes=0.02)
    assert [one.reason for one in done.outcomes] == ["ended: the time was over", "no time was left"]
    assert done.failed == ["endless", "fast"]


def test_what_is_not_there_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="no benchmark fats; there are broken, fast, slow"):
        bench(["fats"], folder=folder)
    with pytest.raises(ValueError, match="clone it"):
        find(tmp_path / "nowhere")


def test_a_machine_too_small_for_the_full_sizes(folder, monkeypatch):
    monkeypatch.setattr("earsight.bench.MEMORY", 2**60)
    done = bench(["fast"], folder=folder)
    assert done.size == "quick"
    assert "GiB of memory" in str(done)
