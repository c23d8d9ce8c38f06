"""Encoders: clips and spectrograms to features, and features to embeddings.

Importing this package registers its encoders.
"""

from earsight.encoders.conv2d_audio import Conv2DAudio, Conv2DAudioConfig
from earsight.encoders.conv2d_picture import Conv2DPicture, Conv2DPictureConfig
from earsight.encoders.heads import MLPHead
from earsight.encoders.pair import Pair, build_pair
from earsight.encoders.r2plus1d import R2Plus1D, R2Plus1DConfig
from earsight.encoders.r2plus1d_standard import R2Plus1DStandard, R2Plus1DStandardConfig
from earsight.encoders.resnet1d_audio import ResNet1DAudio, ResNet1DAudioConfig
from earsight.encoders.resnet3d import ResNet3D, ResNet3DConfig

__all__ = [
    "Conv2DAudio",
    "Conv2DAudioConfig",
    "Conv2DPicture",
    "Conv2DPictureConfig",
    "MLPHead",
    "Pair",
    "R2Plus1D",
    "R2Plus1DConfig",
    "R2Plus1DStandard",
    "R2Plus1DStandardConfig",
    "ResNet1DAudio",
    "ResNet1DAudioConfig",
    "ResNet3D",
    "ResNet3DConfig",
    "build_pair",
]
