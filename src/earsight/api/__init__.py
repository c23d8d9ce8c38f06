"""What the commands do: each function wires the packages together; the CLI calls one of them.

Each is imported when first asked for, so that a command waits for no more than it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earsight.api.corpora import av_digits, corpus, omniglot, prepare, scan, seconds_of
    from earsight.api.find import embed, load, search, serve
    from earsight.api.learn import configure, dry_run, import_avid, pretrain, profile, run_config
    from earsight.api.measure import AGREEMENT_PAGE, NEGATIVES_PAGE, agreement, negatives
    from earsight.api.parts import merge
    from earsight.api.studies import study
    from earsight.evaluation.compare import compare
    from earsight.evaluation.finetune_run import finetune
    from earsight.evaluation.load import Loaded, embed_held_out, load_run
    from earsight.evaluation.memory_run import evaluate_memory as memory
    from earsight.evaluation.online import summary
    from earsight.evaluation.run import evaluate
    from earsight.exporting.write import export_run as export
    from earsight.report.make import make_report as report
    from earsight.training.run import training_clips

_PLACES = {
    "api.corpora": ("av_digits", "corpus", "omniglot", "prepare", "scan", "seconds_of"),
    "api.find": ("embed", "load", "search", "serve"),
    "api.learn": ("configure", "dry_run", "import_avid", "pretrain", "profile", "run_config"),
    "api.measure": ("AGREEMENT_PAGE", "NEGATIVES_PAGE", "agreement", "negatives"),
    "api.parts": ("merge",),
    "api.studies": ("study",),
    "evaluation.compare": ("compare",),
    "evaluation.finetune_run": ("finetune",),
    "evaluation.load": ("Loaded", "embed_held_out", "load_run"),
    "evaluation.memory_run": ("memory",),
    "evaluation.online": ("summary",),
    "evaluation.run": ("evaluate",),
    "exporting.write": ("export",),
    "report.make": ("report",),
    "training.run": ("training_clips",),
}
_MODULES = {name: f"earsight.{place}" for place, names in _PLACES.items() for name in names}
_THERE = {"export": "export_run", "memory": "evaluate_memory", "report": "make_report"}
"""Names that are others where they stand."""

__all__ = [
    "AGREEMENT_PAGE",
    "NEGATIVES_PAGE",
    "Loaded",
    "agreement",
    "av_digits",
    "compare",
    "configure",
    "corpus",
    "dry_run",
    "embed",
    "embed_held_out",
    "evaluate",
    "export",
    "finetune",
    "import_avid",
    "load",
    "load_run",
    "memory",
    "merge",
    "negatives",
    "omniglot",
    "prepare",
    "pretrain",
    "profile",
    "report",
    "run_config",
    "scan",
    "search",
    "seconds_of",
    "serve",
    "study",
    "summary",
    "training_clips",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_MODULES[name]), _THERE.get(name, name))
    globals()[name] = found
    return found
