"""The formats of an export; apart, for the command line starts without torch."""

from typing import Literal

Format = Literal["safetensors", "onnx", "torch"]
