"""By which classifier a published figure was measured, as far as its paper says."""

from collections.abc import Iterator, Sequence

from earsight.evaluation.published import Figure
from earsight.evaluation.texts import classifier_text
from earsight.presets import protocols

_PRESETS = {
    ("kinetics-400", "probe", "16x112"): "kinetics-probe",
    ("kinetics-400", "probe", "8x224"): "kinetics-probe-224",
    ("esc-50", "probe", "100x129"): "esc-50-probe",
    ("ucf-101", "finetune", "8x224"): "ucf-101-8",
    ("ucf-101", "finetune", "32x224"): "ucf-101-32",
    ("hmdb-51", "finetune", "8x224"): "hmdb-51-8",
    ("hmdb-51", "finetune", "32x224"): "hmdb-51-32",
    ("esc-50", "svm", "200x257"): "esc-50-svm",
    ("dcase-2014", "svm", "200x257"): "dcase-2014-svm",
}
"""Data, protocol and input of avid-cma's own figures to the preset of their protocol."""

_UNSAID = {
    "probe": "linear layers, trained in a way that is not said",
    "finetune": "the whole network, by a schedule that is not said",
    "svm": "linear SVMs, fitted in a way that is not said",
    "memory": "a linear classifier, fitted in a way that is not said",
}


def classifier_difference(
    figure: Figure, classifier: str | None, preset: str | None, changed: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """What differs between a published figure's classifier and a run's, as an aspect and a text.

    A paper that does not say by which protocol it measured is no matter of this.

    Args:
        figure: the published one.
        classifier: the run's, in words; None where it is not recorded.
        preset: whose settings the run's evaluation took; empty for none.
        changed: settings of clips that are not the preset's.
    """
    if figure.protocol == "unstated":
        return
    own = figure.paper == "avid-cma" and figure.source == "own"
    name = _PRESETS.get((figure.data, figure.protocol, figure.input)) if own else None
    here = classifier or "a classifier that is not recorded"
    if name is None:
        yield "classifier", f"by {_UNSAID[figure.protocol]}; here by {here}"
        return
    known = protocols.load(name)
    trained = known.task != "svm"
    there = classifier_text(known.task, known.settings, trained=trained)
    if there != classifier:
        yield "classifier", f"by {there}; here by {here}"
    elif preset != name:
        other = f"those of {preset}" if preset else "the run's own"
        yield "classifier", f"clips by the settings of {name}; here by {other}"
    elif changed:
        yield "classifier", f"clips by the settings of {name}; here {', '.join(changed)}"
