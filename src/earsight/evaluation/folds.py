"""Official folds that an evaluation takes in turn."""

from collections.abc import Sequence
from typing import Literal

from earsight.config import RunConfig
from earsight.corpus.manifest import read, resolved
from earsight.corpus.split import folds_of


def check_folds(folds: Sequence[int] | Literal["all"], settings: Sequence[str]) -> None:
    """Refuse a fold among the settings where folds are taken in turn.

    Raises:
        ValueError: both are given.
    """
    if folds and any(text.partition("=")[0].strip() == "data.fold" for text in settings):
        raise ValueError(
            "data.fold: has no effect beside folds, which takes each of them in turn; leave one of "
            "the two out"
        )


def chosen_folds(config: RunConfig, folds: Sequence[int] | Literal["all"]) -> tuple[int, ...]:
    """The folds to take in turn; none for the split of the manifest.

    Raises:
        ValueError: the corpus has no folds, or not these.
    """
    known = folds_of(read(config.data.corpus)) if folds else ()
    if not folds:
        return ()
    if not known:
        raise ValueError(
            f"folds: {config.data.corpus} has no folds; scan a data set that has, by --layout, or "
            "with a label column `fold`"
        )
    wanted = known if folds == "all" else tuple(dict.fromkeys(int(fold) for fold in folds))
    if strange := [fold for fold in wanted if fold not in known]:
        raise ValueError(
            f"folds: {config.data.corpus} has no fold {strange[0]}; it has "
            f"{', '.join(map(str, known))}"
        )
    return wanted


def inherited_fold(
    before: RunConfig, config: RunConfig, folds: Sequence[int] | Literal["all"]
) -> list[str]:
    """What to tell where another corpus is divided by the fold that the run was trained with.

    Args:
        before: settings of the run.
        config: settings of the evaluation.
        folds: those to take in turn.
    """
    own, corpus = config.data.fold, config.data.corpus
    alike = resolved(corpus) == resolved(before.data.corpus)
    if folds or not own or own != before.data.fold or alike:
        return []
    return [
        f"fold {own} of {corpus} is held out, for the run was trained with data.fold={own} of "
        f"{before.data.corpus}; folds chooses others"
    ]
