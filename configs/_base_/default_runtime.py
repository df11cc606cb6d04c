default_scope = 'mmdet'
# Weights of hf:// can be named, and no file of weights runs code.
custom_imports = dict(imports=['cuts3d_mm.weights.everywhere'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
custom_hooks = [dict(type='cuts3d_mm.IterationSeedHook'), dict(type='cuts3d_mm.PreciseBNHook')]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # NCCL would give up after 10 minutes, in which the first process scores 40,000 images.
    dist_cfg=dict(backend='nccl', timeout=7200),  # seconds
)
# With tensorboard, or wandb, installed:
#   --cfg-options visualizer.vis_backends.0.type=TensorboardVisBackend
#   --cfg-options visualizer.vis_backends.0.type=WandbVisBackend
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
