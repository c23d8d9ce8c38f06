"""Install the built wheel beside the checkout and use it from an empty folder."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def main(folder: Path) -> None:
    """Fail where the wheel lacks a file or its commands do not work."""
    (wheel,) = folder.glob("*.whl")
    with tempfile.TemporaryDirectory() as place:
        site = Path(place) / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*pip, str(site), str(wheel)], check=True)
        environment = {**os.environ, "PYTHONPATH": str(site)}

        def run(*arguments: str) -> str:
            command = [sys.executable, "-m", "earsight", *arguments]
            done = subprocess.run(
                command, cwd=place, env=environment, check=True, capture_output=True, text=True
            )
            return done.stdout

        where = "import earsight; print(earsight.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", where],
            cwd=place,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert found.startswith(str(site)), f"the checkout was imported, not the wheel: {found}"
        assert run("--version").startswith("earsight ")
        assert "tiny" in run("presets", "ls")
        run("demo", "--short", "-o", "demo")
        assert (Path(place) / "demo" / "run" / "report.html").stat().st_size > 10_000
        # Whether the page finds its templates and files, which only the server reads.
        page = (
            "from importlib import resources; from earsight.serve import app; "
            "folder = resources.files('earsight.serve'); "
            "assert all((folder / 'static' / name).is_file() for name in app.ASSETS); "
            "assert len(list((folder / 'templates').iterdir())) == 6"
        )
        subprocess.run([sys.executable, "-c", page], cwd=place, env=environment, check=True)
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("LICENSE", "NOTICE", "py.typed"):
        assert any(name.endswith(wanted) for name in names), f"the wheel lacks {wanted}"
    print(f"{wheel.name}: works")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
