"""Methods: what is learned from a batch, and the state that it needs.

Importing this package registers its methods.
"""

from earsight.methods.avid import Avid, AvidConfig
from earsight.methods.base import Method, Needs, Step
from earsight.methods.supervised import Supervised, SupervisedConfig

__all__ = [
    "Avid",
    "AvidConfig",
    "Method",
    "Needs",
    "Step",
    "Supervised",
    "SupervisedConfig",
]
