"""CutS3D without any download: hand-made features, depth maps from files.

    cuts3d generate cuts3d_color-texture_file-depth.py IMAGES OUT --depth DEPTH_MAPS

The features are hand-made and far from DINO's; README.md in this folder says what they find.
"""

model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures'),
    depth=dict(type='cuts3d_mm.DepthFromFile', root='depth', larger_is='far'),
    recipe=dict(preset='cuts3d'),
)
