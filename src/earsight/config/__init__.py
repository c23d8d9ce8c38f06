"""Settings: keyword-only dataclasses, read strictly, every fault reported at once with its path.

A setting is checked by its type and by its section's ``faults()``. Sections that depend on a
choice (the method, the encoders) are registered under a name, so that a new one brings its own
settings: ``method: {name: avid, negatives: 1024}``.
"""

from earsight.config.data import DataConfig
from earsight.config.evaluation import EvaluationConfig
from earsight.config.inputs import AudioConfig, PicturesConfig, VideoConfig
from earsight.config.learning import HeadConfig, OptimizerConfig, TrainConfig
from earsight.config.read import (
    SCHEMA,
    Tree,
    as_tree,
    import_plugins,
    merge,
    override,
    parse,
    read_yaml,
    write_yaml,
    yaml_text,
)
from earsight.config.registry import (
    AUDIO_ENCODERS,
    CHOICES,
    METHODS,
    VIDEO_ENCODERS,
    ConfigError,
    Registry,
    section,
)
from earsight.config.run import LogConfig, RunConfig

__all__ = [
    "AUDIO_ENCODERS",
    "CHOICES",
    "METHODS",
    "SCHEMA",
    "VIDEO_ENCODERS",
    "AudioConfig",
    "ConfigError",
    "DataConfig",
    "EvaluationConfig",
    "HeadConfig",
    "LogConfig",
    "OptimizerConfig",
    "PicturesConfig",
    "Registry",
    "RunConfig",
    "TrainConfig",
    "Tree",
    "VideoConfig",
    "as_tree",
    "import_plugins",
    "merge",
    "override",
    "parse",
    "read_yaml",
    "section",
    "write_yaml",
    "yaml_text",
]
