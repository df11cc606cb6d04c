"""CutS3D with MoCo-v2 ResNet-50 features (800 epochs) and ZoeDepth; needs timm, `cuts3d_mm[timm]`.

The file of MoCo's authors is a checkpoint of a training: names as in torchvision behind
`module.encoder_q.`, next to it a head, which is left out. Its licence is CC BY-NC 4.0, not for
commercial use. DINO's ResNet-50 has no such limit.
"""

_base_ = 'cuts3d_dino-r50_zoedepth.py'

model = dict(
    features=dict(
        checkpoint='https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/'
        'moco_v2_800ep_pretrain.pth.tar',
    ),
)
