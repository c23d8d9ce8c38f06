"""The whole examination; what cannot be imported is a finding, not an end."""

from pathlib import Path

from earsight.doctor.check import Check, Examination, examination
from earsight.doctor.installed import extras, versions

SECONDS = 5.0
"""That the speed test measures."""


def examine(folder: Path | None = None, *, seconds: float = SECONDS) -> Examination:
    """Look at everything that earsight needs or can use here.

    Args:
        folder: whose disk is looked at; None for the current one.
        seconds: that the speed test measures.
    """
    found = list(versions())
    found += extras()
    broken = {check.name for check in found if check.status == "broken"}
    # What stands on a broken library is not looked at: its line says what to do first.
    if "PyAV and FFmpeg" not in broken and "numpy" not in broken:
        found += _codecs()
    if not broken:
        found += _machine(folder or Path.cwd(), seconds)
    return examination(found)


def _codecs() -> list[Check]:
    from earsight.doctor.codecs import codecs  # noqa: PLC0415 - PyAV may be broken

    return list(codecs())


def _machine(folder: Path, seconds: float) -> list[Check]:
    from earsight.doctor.devices import devices, disk  # noqa: PLC0415 - torch may be broken
    from earsight.doctor.speed import speed  # noqa: PLC0415 - likewise

    return [*devices(), disk(folder), *speed(seconds)]
