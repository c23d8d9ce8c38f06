"""Known data sets: the official lists of each, read into one form.

To add one, write a function from its root (and options) to a :class:`Listing`, and name it here.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from earsight.corpus.layouts.audioset import audioset
from earsight.corpus.layouts.dcase import dcase_2014
from earsight.corpus.layouts.esc import esc_10, esc_50
from earsight.corpus.layouts.hmdb import hmdb_51
from earsight.corpus.layouts.kinetics import kinetics, kinetics_sound
from earsight.corpus.layouts.listing import Item, LayoutOptions, Listing
from earsight.corpus.layouts.ucf import ucf_101
from earsight.corpus.layouts.vggsound import vggsound

__all__ = ["LAYOUTS", "Item", "Layout", "LayoutOptions", "Listing", "read_layout"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the lists of a data set are read, and which options (by name) have an effect on it."""

    read: Callable[[Path, LayoutOptions], Listing]
    options: tuple[str, ...] = ()


LAYOUTS = {
    "kinetics-400": Layout(read=kinetics("kinetics-400", most=400)),
    "kinetics-700": Layout(read=kinetics("kinetics-700", most=700)),
    "kinetics-sound": Layout(read=kinetics_sound, options=("classes",)),
    "audioset": Layout(read=audioset, options=("draw", "seed", "ancestors")),
    "ucf-101": Layout(read=ucf_101),
    "hmdb-51": Layout(read=hmdb_51),
    "esc-50": Layout(read=esc_50),
    "esc-10": Layout(read=esc_10),
    "dcase-2014": Layout(read=dcase_2014),
    "vggsound": Layout(read=vggsound),
}


def read_layout(name: str, root: Path, options: LayoutOptions | None = None) -> Listing:
    """What the official lists of a data set name.

    Args:
        name: one of ``LAYOUTS``.
        root: folder of the lists (or of a folder that holds them) and of the media.
        options: those that the layout takes.

    Raises:
        ValueError: there is no such layout or folder, an option has no effect, or a list is missing
            or damaged.
    """
    if name not in LAYOUTS:
        raise ValueError(f"there is no layout {name!r}; there are {', '.join(LAYOUTS)}")
    options = options or LayoutOptions()
    _check_options(name, options)
    if not root.is_dir():
        raise ValueError(f"{root}: is no folder; give the one that holds the data set's lists")
    return LAYOUTS[name].read(root, options)


def _check_options(name: str, options: LayoutOptions) -> None:
    for option in fields(options):
        takes = [known for known, layout in LAYOUTS.items() if option.name in layout.options]
        if getattr(options, option.name) != option.default and name not in takes:
            raise ValueError(
                f"{option.name}: has no effect on {name}, only on {', '.join(takes)}; leave it out"
            )
    if options.seed is not None and options.draw is None:
        raise ValueError("seed: has no effect unless draw says how many segments are drawn")
