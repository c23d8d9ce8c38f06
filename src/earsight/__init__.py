"""Learn video and audio encoders from unlabelled videos, and put them to use."""

from earsight.version import __version__

__all__ = ["__version__"]
