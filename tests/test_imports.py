"""A package imports only from those before it; the command line starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from earsight import api

SOURCE = Path(__file__).parents[1] / "src" / "earsight"
ORDER = [
    "media",
    "corpus",
    "transforms",
    "encoders",
    "objectives",
    "selection",
    "methods",
    "training",
    "evaluation",
    "search",
    "serve",
    "report",
    "exporting",
    "hub",
    "studies",
    "doctor",
    "bench",
    "api",
    "demo",
    "cli",
]
ANYWHERE = {
    "config",
    "random",
    "version",
    "errors",
    "files",
    "tensor_files",
    "terminal",
    "presets",
    "processor",
    "templates",
}
# Scoring and choosing are neighbours: neither may know the other.
APART = [("objectives", "selection")]


def imported(path: Path) -> set[str]:
    """Names of earsight's packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("earsight.")}
    return found & {*ORDER, *ANYWHERE}


def package(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_data_flows_one_way():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        own = package(path)
        if own not in ORDER:
            continue
        allowed = {*ORDER[: ORDER.index(own) + 1], *ANYWHERE}
        wrong += [f"{path.name} imports {name}" for name in imported(path) - allowed]
        for one, two in APART:
            if own in (one, two):
                other = two if own == one else one
                wrong += [f"{path.name} imports {other}"] if other in imported(path) else []
    assert wrong == []


def test_every_module_has_its_place():
    for path in SOURCE.rglob("*.py"):
        assert package(path) in {*ORDER, *ANYWHERE, "__init__", "__main__"}, path


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """What a process says that has imported nothing before."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_starts_without_torch():
    code = (
        "import sys; from earsight import cli\n"
        "try: cli.main(['pretrain', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'av', 'pyarrow', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = fresh(code)
    assert done.returncode == 0, done.stderr
    assert "--preset" in done.stdout


def test_training_waits_for_no_library_that_it_does_not_use(corpus):
    code = (
        "import sys; from pathlib import Path\n"
        "from earsight import api; from earsight.corpus.manifest import read\n"
        "from earsight.cli.measure import Evaluate\n"
        "api.configure('tiny'), api.pretrain, api.scan, api.evaluate\n"
        f"read({str(corpus)!r})\n"
        "assert Evaluate(task='probe', folder=Path())._page == ''\n"
        "heavy = {'sklearn', 'scipy.stats', 'matplotlib', 'fastapi', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = fresh(code)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_api_is_found():
    assert sorted(api.__all__) == sorted(api._MODULES)
    assert all(hasattr(api, name) for name in api.__all__)
    assert not hasattr(api, "no_such_name")


@pytest.mark.parametrize(
    "code",
    [
        "from earsight import presets; from earsight.config import parse\n"
        "parse(presets.load('tiny-cm-acc'))",
        "from pathlib import Path; from earsight import api\n"
        "try: api.compare([Path('{run}')])\n"
        "except ValueError as error: assert 'no run has an evaluation' in str(error), error",
        "from earsight.config import METHODS, VIDEO_ENCODERS\n"
        "assert 'cma' in METHODS.names() and VIDEO_ENCODERS.settings_of('r2plus1d')",
        "from earsight.config import METHODS\n"
        "try: METHODS.register('avid', dict)(lambda: 0)\n"
        "except ValueError as error: assert 'is registered already' in str(error)\n"
        "else: raise SystemExit('two of a name')",
    ],
    ids=["parse", "compare", "names", "register"],
)
def test_settings_are_read_whatever_was_imported_before(finished, code):
    code = code.replace("{run}", str(finished))
    done = fresh(code)
    assert done.returncode == 0, done.stderr
