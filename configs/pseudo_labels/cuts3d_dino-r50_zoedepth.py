"""CutS3D with DINO ResNet-50 features and ZoeDepth; needs timm, `cuts3d_mm[timm]`.

The weights are those of DINO's authors (Apache-2.0), named as in torchvision, without a head.
480 px give a grid of 60 x 60. Which stage is best was not measured: 3 is the other candidate.
"""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    features=dict(
        _delete_=True,
        type='cuts3d_mm.TimmFeatures',
        model='resnet50',
        stage=4,
        checkpoint='https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/'
        'dino_resnet50_pretrain.pth',
    ),
)
