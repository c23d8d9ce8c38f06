"""Methods: what is learned from a batch, and the state that it needs.

Importing this package registers its methods.
"""

from earsight.methods.avid import Avid, AvidConfig
from earsight.methods.base import Method, Needs, Step
from earsight.methods.cm_acc import MomentumContrast
from earsight.methods.cma import Cma, CmaConfig
from earsight.methods.momentum import MomentumConfig, PoolConfig, PosteriorConfig
from earsight.methods.supervised import Supervised, SupervisedConfig

__all__ = [
    "Avid",
    "AvidConfig",
    "Cma",
    "CmaConfig",
    "Method",
    "MomentumConfig",
    "MomentumContrast",
    "Needs",
    "PoolConfig",
    "PosteriorConfig",
    "Step",
    "Supervised",
    "SupervisedConfig",
]
