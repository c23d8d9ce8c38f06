"""What is tried at full size now and then runs, tried on what is small."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("try_full_size.py")


def test_a_step_of_small_presets():
    # Of each kind: one that goes on from another, one of pairs of pictures, one of labels.
    names = ["study-omniglot", "tiny-cma", "tiny-supervised"]
    command = [sys.executable, str(SCRIPT), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == names
    assert all("loss " in line for line in done.stdout.splitlines())
