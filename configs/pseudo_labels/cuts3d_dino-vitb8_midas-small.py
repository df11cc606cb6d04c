"""CutS3D with DINO ViT-B/8 keys and depth by MiDaS-Small.

No package offers that network. Let PyTorch Hub load it from its authors' repository (MIT) and
write one map per image, then give the folder. This runs their code:

    import pathlib, sys
    import numpy as np
    import torch
    from PIL import Image

    images, depths = map(pathlib.Path, sys.argv[1:])
    network = torch.hub.load('intel-isl/MiDaS', 'MiDaS_small').eval()
    prepare = torch.hub.load('intel-isl/MiDaS', 'transforms').small_transform
    for path in sorted(images.rglob('*.jp*g')):  # .jpg, .jpeg
        with torch.no_grad():
            disparity = network(prepare(np.asarray(Image.open(path).convert('RGB'))))[0]
        target = depths / path.relative_to(images).with_suffix('.npy')
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, disparity.numpy())

    python write_midas.py IMAGES DEPTH
    cuts3d generate cuts3d_dino-vitb8_midas-small.py IMAGES OUT --depth DEPTH

It predicts disparity; 0 is its farthest value, not a gap.
"""

_base_ = 'cuts3d_dino-vitb8_kick-back-relax.py'

model = dict(depth=dict(zero_is_invalid=False))
