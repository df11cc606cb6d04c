model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures', num_frequencies=64),
    recipe=dict(preset='maskcut'),
    input_hw=(96, 128),
)
