model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures'),
    recipe=dict(preset='maskcut'),
    input_hw=(96, 128),
)
