"""Write docs/settings.md from the settings' own classes and docstrings."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import earsight.encoders
import earsight.methods  # noqa: F401 - registers the choices
from earsight.config import CHOICES, RunConfig

PAGE = Path(__file__).parent / "settings.md"
INTRODUCTION = """# Settings

<!-- Written by docs/make_settings.py from the classes of the settings. -->

Every setting with its default. On the command line: `section.name=value`; in a YAML file given by
`--config`, a mapping per section. Presets set some of them: `earsight presets show NAME`.
"""


def described(cls: type[Any]) -> dict[str, str]:
    """The attributes' descriptions in the docstrings of a class and of what it builds on."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, attributes = (inspect.cleandoc(one.__doc__ or "")).partition("Attributes:\n")
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
        found |= {name: re.sub(r"\s+", " ", about).replace("``", "`") for name, about in entries}
    return found


def rows(cls: type[Any], path: str) -> list[str]:
    """A table of a section's settings."""
    about = described(cls)
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(cls):
        if field.name == "name" or dataclasses.is_dataclass(field.type) or field.name in CHOICES:
            continue
        given = field.default is not dataclasses.MISSING
        default = f"`{field.default!r}`" if given else "required"
        meaning = about.get(field.name, "")
        lines.append(f"| `{path}{field.name}` | {default} | {meaning} |")
    return lines


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Of the run\n", *rows(RunConfig, ""), ""]
    for field in dataclasses.fields(RunConfig):
        if dataclasses.is_dataclass(field.type):
            head = (inspect.getdoc(field.type) or "").splitlines()[0]
            parts += [f"## {field.name}\n", f"{head}\n", *rows(field.type, f"{field.name}."), ""]
    for section, registry in CHOICES.items():
        for name in registry.names():
            cls = registry.settings_of(name)
            head = (inspect.getdoc(cls) or "").splitlines()[0]
            title = f"## {section}: `name: {name}`\n"
            parts += [title, f"{head}\n", *rows(cls, f"{section}."), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
