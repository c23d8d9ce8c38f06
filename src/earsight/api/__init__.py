"""What the commands do: each function wires the packages together; the CLI calls one of them."""

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
