"""CutS3D without any download: hand-made features, depth maps from files.

    cuts3d generate cuts3d_color-texture_file-depth.py IMAGES OUT --depth DEPTH_MAPS

The features are not DINO's: they fire on many small patches of odd colour, which is why the
smallest useful instance is larger here than in the paper's configs.
"""

model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures'),
    depth=dict(type='cuts3d_mm.DepthFromFile', root='depth', larger_is='far'),
    recipe=dict(preset='cuts3d', min_area_ratio=0.02),
)
