"""On what terms weights and media may be used, as far as that is recorded beside them."""

import re
from collections.abc import Iterator
from pathlib import Path

from earsight.corpus.manifest import place_of, read
from earsight.report.words import Fact
from earsight.training.terms import UNKNOWN, read_terms

_FILES = ("LICENSE*", "LICENCE*", "COPYING*")
_SECTION = re.compile(r"^#+[^\n]*licen[cs]e[^\n]*\n(.*?)(?=^#|\Z)", re.I | re.M | re.S)
_LONGEST = 600


def terms_of(run: Path, corpus: Path) -> Iterator[Fact]:
    """Names and texts: of the weights, and of each folder that the corpus was scanned from.

    Args:
        run: the run folder.
        corpus: its manifest, which may be gone.

    Raises:
        ValueError: where the weights come from cannot be read.
    """
    terms = read_terms(run)
    if terms.name != UNKNOWN:
        yield "Weights", terms.name
    for notice in terms.notices:
        yield "Notice", notice
    yield from _media(corpus)


def _media(corpus: Path) -> Iterator[Fact]:
    """What the folders of a corpus say of their terms."""
    if not Path(place_of(corpus)).is_file():
        return
    try:
        roots = read(corpus).roots
        for name, root in roots.items():
            found = _recorded(Path(root))
            if found:
                about = Path(root).name if len(roots) == 1 else name
                yield f"Media of {about}", found
    except (OSError, ValueError):
        # The manifest is gone or another's; that the corpus cannot be read is said elsewhere.
        return


def _recorded(root: Path) -> str:
    """The first lines of a licence file, or the section on licences of a README; or nothing."""
    for pattern in _FILES:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                return _short(path.read_text(encoding="utf-8", errors="replace"))
    readme = root / "README.md"
    if readme.is_file():
        section = _SECTION.search(readme.read_text(encoding="utf-8", errors="replace"))
        if section:
            return _short(section[1])
    return ""


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} …"
