"""What runs on a GPU, on tensors that only say that they are on one (`helpers.fake_gpu`).

A `.to`, `.cpu()` or dtype that is removed by hand makes a test fail, unless torch promotes the
type by itself.
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.drawn import photo, write_images
from helpers.fake_gpu import GpuTensor, fake_gpus, start_forked
from helpers.tiny_detectors import NARROW, batch_of, tiny_config, write_checkpoint
from helpers.tiny_networks import marigold, zoe
from helpers.training import train_command, write_training_set
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import cuts3d_mm
from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_runner
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.huggingface import HFDepth, MarigoldDepth
from cuts3d_mm.labellers.detector import DetectorLabeller, labeller_config
from cuts3d_mm.labellers.features.vit import TimmFeatures, ViTKeyFeatures
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.training import read_log
from cuts3d_mm.pipeline import labelling, local
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.progress import Stopwatch
from cuts3d_mm.pipeline.work import BuiltLabeller, ConfiguredLabeller, Extraction, WorkOrder
from cuts3d_mm.registry import MODELS

# OpenMMLab's packages are used with torch 2.1, where all of this is skipped.
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6),
    reason='the stand-in for a GPU uses parts of torch 2.6 and newer',
)
PLAIN = 'cuts3d_mm.PerParameterClipOptimWrapper'
AMP = 'cuts3d_mm.AmpPerParameterClipOptimWrapper'
ARCH = {'embed_dims': 24, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 48}
TWO_SHARDS = 9  # images; each device takes whole shards
BACKBONE = {'arch': ARCH, 'patch_size': 8, 'img_size': 32}


@pytest.fixture
def gpu(monkeypatch):
    """Two GPUs, and child processes that have them, too."""
    import mmcv.ops  # noqa: F401  whose compiled functions are wrapped

    monkeypatch.setattr(local, 'start_child', start_forked)
    with fake_gpus(monkeypatch, 2) as copies:
        yield copies


def test_mixing_devices_is_noticed(gpu):
    on_gpu = torch.ones(3, device='cuda')
    with pytest.raises(RuntimeError, match='same device'):
        on_gpu + torch.ones(3)
    with pytest.raises(RuntimeError, match='same device'):
        on_gpu + torch.ones(3, device='cuda:1')
    with pytest.raises(TypeError, match='numpy'):
        on_gpu.numpy()
    with pytest.raises(TypeError, match='leave its process'):
        pickle.dumps(on_gpu)


def vit(**options):
    torch.manual_seed(0)
    return ViTKeyFeatures(BACKBONE, **options)


def timm_vit(**options):
    torch.manual_seed(0)
    return TimmFeatures('tiny_rotary_vit', block=-1, checkpoint=None, **options)


@pytest.mark.parametrize('make', [vit, timm_vit])
@pytest.mark.parametrize('half', [False, True])
def test_features_are_those_of_the_cpu_and_stay_on_the_gpu(gpu, rng, make, half):
    images = [photo(rng, (64, 96)) for _ in range(2)]
    on_cpu = make(half=half)(images)
    extractor = make(half=half).to('cuda:1')
    kinds = set()
    extractor.network.patch_embed.register_forward_pre_hook(
        lambda module, inputs: kinds.add((inputs[0].dtype, inputs[0].device))
    )
    for found, wanted in zip(extractor(images), on_cpu, strict=True):
        assert isinstance(found, GpuTensor) and found.dtype == torch.float32
        # The kernels of attention differ.
        assert np.allclose(found.cpu().numpy(), wanted, atol=0.05 if half else 1e-5)
    assert kinds == {(torch.bfloat16 if half else torch.float32, torch.device('cuda:1'))}


@pytest.fixture(scope='module')
def zoe_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('zoe')
    torch.manual_seed(0)
    for part in zoe():
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize('half', [False, True])
def test_depth_is_that_of_the_cpu(gpu, rng, zoe_folder, half):
    images = [NamedImage('a', photo(rng, (60, 88)))]
    (wanted,) = HFDepth(str(zoe_folder), half=half)(images)
    extractor, kinds = HFDepth(str(zoe_folder), half=half).to('cuda'), set()
    extractor.network.register_forward_pre_hook(
        lambda module, inputs, options: kinds.add(next(iter(options.values())).dtype),
        with_kwargs=True,
    )
    (found,) = extractor(images)
    assert np.allclose(found, wanted, rtol=1e-2 if half else 1e-5) and found.dtype == np.float32
    assert kinds == {torch.bfloat16 if half else torch.float32}


@pytest.mark.slow
def test_marigold_runs_on_a_gpu(monkeypatch, rng, tmp_path):
    marigold(tmp_path).save_pretrained(tmp_path / 'model', safe_serialization=True)
    options = {'num_inference_steps': 1, 'processing_resolution': 32}
    extractor = MarigoldDepth(str(tmp_path / 'model'), **options)
    with fake_gpus(monkeypatch):
        (depth,) = extractor.to('cuda')([NamedImage('a', photo(rng, (40, 64)))])
    assert isinstance(depth, np.ndarray) and np.isfinite(depth).all()


def generator_config(zoe_folder):
    return {
        'type': 'cuts3d_mm.PseudoLabelGenerator',
        'features': {'type': 'cuts3d_mm.ViTKeyFeatures', 'backbone': BACKBONE},
        'depth': {'type': 'cuts3d_mm.HFDepth', 'model': str(zoe_folder)},
        'recipe': {'max_eigenvalue': None},  # features of random weights cut nothing clearly
        'input_hw': (96, 128),
    }


def build_generator(zoe_folder):
    torch.manual_seed(0)
    return build_labeller(generator_config(zoe_folder))


@pytest.mark.parametrize('is_cut_there', [False, True])
def test_a_generator_cuts_what_it_cuts_on_the_cpu(gpu, rng, zoe_folder, is_cut_there):
    image = photo(rng, (60, 88))
    wanted = build_generator(zoe_folder).predict(image)
    generator = build_generator(zoe_folder).to('cuda:1')
    if is_cut_there:
        generator.cut_on('cuda:1')
    found = generator.predict(image)
    assert found and [one.mask.tobytes() for one in found] == [w.mask.tobytes() for w in wanted]


def test_a_loaded_generator_has_half_features_and_full_depth_on_a_gpu(gpu, zoe_folder):
    config = generator_config(zoe_folder)
    kinds = {}
    for device in ('auto', 'cpu'):
        generator = cuts3d_mm.load_generator(config, device)
        kinds[device] = generator.features.dtype, generator.depth.dtype
    assert kinds == {
        'auto': (torch.bfloat16, torch.float32),
        'cpu': (torch.float32, torch.float32),
    }


def test_a_batch_that_does_not_fit_is_halved_on_a_gpu(gpu, rng, tmp_path, zoe_folder):
    names = write_images(tmp_path, 5, rng)
    generator, sizes = build_generator(zoe_folder).to('cuda'), []

    def limited(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')

    generator.features.network.patch_embed.register_forward_pre_hook(limited)
    extraction = Extraction(generator, tmp_path, 5, Stopwatch())
    batch = [image for _, _, image in extraction.run([(0, names)])]
    assert all(image.was_halved for image in batch) and sizes == [5, 2, 3, 1, 2]
    assert [image.name for image in batch] == names and not any(one.failure for one in batch)
    pickle.dumps(batch)  # to another process: nothing of it is on the GPU


def test_the_process_of_a_device_puts_nothing_on_the_first_gpu(gpu, tmp_path):
    labeller = BuiltLabeller(SimpleNamespace(predict_batch=lambda images: []), {})
    said = []
    connection = SimpleNamespace(send=said.append, recv=lambda: None)
    local.serve(connection, WorkOrder(labeller, tmp_path, tmp_path, 1, 'cuda:1'), 1)
    assert said == ['ready', 'done'] and torch.cuda.current_device() == 1


@pytest.mark.slow
@pytest.mark.parametrize('cut_on', ['cpu', 'device'])
def test_generate_on_two_gpus_writes_the_labels_of_one_gpu(
    gpu, cuts3d, rng, tmp_path, zoe_folder, cut_on
):
    write_images(tmp_path / 'images', TWO_SHARDS, rng)
    torch.manual_seed(0)
    weights = ViTKeyFeatures(BACKBONE).network.state_dict()
    torch.save(weights, tmp_path / 'vit.pth')
    model = generator_config(zoe_folder)
    model['features']['checkpoint'] = str(tmp_path / 'vit.pth')
    Config({'model': model}).dump(tmp_path / 'config.py')
    records = {}
    for devices, workers in (('0', 1), ('0,1', 2)):
        out = tmp_path / devices
        options = ('--devices', devices, '--workers', workers, '--batch-size', 2)
        options += ('--cut-on', cut_on)
        arguments = (tmp_path / 'config.py', tmp_path / 'images', out, *options)
        code, _, err = cuts3d('generate', *arguments, '--precision', 'fp32')
        assert code == 0, err
        records[devices] = list(read_store(out))
    assert records['0'] == records['0,1'] and any(one.instances for one in records['0'])


@pytest.mark.parametrize('source', ['none', 'score', 'map'])
def test_a_detector_labels_on_a_gpu(gpu, rng, source):
    config = tiny_config(NARROW)
    pipeline = config.test_dataloader.dataset.pipeline
    labeller = DetectorLabeller(config.model.to_dict(), pipeline, confidence_source=source)
    image = NamedImage('a', rng.integers(0, 256, (60, 80, 3), np.uint8))
    found = labeller.to(choose_device('auto')).extract([image])
    pickle.dumps(found)  # to another process: nothing of it is on the GPU


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config and weights."""
    path = tmp_path_factory.mktemp('trained') / 'iter_1.pth'
    return SimpleNamespace(config=write_checkpoint(path), weights=str(path))


def test_a_loaded_detector_finds_on_a_gpu_what_it_finds_on_the_cpu(gpu, rng, trained):
    image = photo(rng, (60, 88))
    found, wanted = (
        cuts3d_mm.load_detector(trained.config, trained.weights, device, 0).predict(image)
        for device in ('auto', 'cpu')
    )
    assert wanted and [one.score for one in found] == [one.score for one in wanted]
    assert all((a.mask == b.mask).all() for a, b in zip(found, wanted, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [1, 2])
def test_detect_runs_on_a_gpu(gpu, cuts3d, rng, tmp_path, trained, batch_size):
    write_images(tmp_path / 'in', 3, rng)
    detector = ('--model', trained.config, '--weights', trained.weights, '--score-thr', 0)
    records = []
    for device in ('cuda', 'cpu'):
        out = tmp_path / device
        options = ('--device', device, '--batch-size', batch_size, '--out', out)
        code, _, err = cuts3d('detect', tmp_path / 'in', *detector, *options)
        assert code == 0, err
        records.append(list(read_store(out / 'labels')))
    assert records[0] == records[1] and any(one.instances for one in records[0])


@pytest.mark.slow
def test_predict_labels_on_two_gpus_as_on_the_cpu(gpu, cuts3d, rng, tmp_path, trained):
    write_images(tmp_path / 'in', TWO_SHARDS, rng)
    records = []
    for devices, workers in (('0,1', 1), ('cpu', 0)):
        options = ('--devices', devices, '--workers', workers)
        arguments = (trained.config, trained.weights, tmp_path / 'in', tmp_path / devices)
        code, _, err = cuts3d('predict', *arguments, *options, '--confidence-source', 'map')
        assert code == 0, err
        records.append(list(read_store(tmp_path / devices)))
    assert records[0] == records[1] and any(one.instances for one in records[0])


@pytest.mark.slow
def test_the_prepared_session_checks_the_device(gpu, cuts3d, monkeypatch, rng, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / 'benchmarks'))
    import gpu_session

    def run(command, *arguments):
        if dict(pairwise(arguments)).get('--device', 'cpu') != 'cpu':
            used.append(command)
        workers = ('--workers', 0) if command in ('generate', 'predict') else ()
        code, _, err = cuts3d(command, *arguments, *workers)
        assert code == 0, err

    used = []
    write_images(tmp_path / 'photos/images', 3, rng)
    images = gpu_session.photos_of(tmp_path / 'photos', tmp_path / 'copies', 3)
    monkeypatch.setattr(gpu_session, 'STEPS', 4)  # in place of 20
    lines = gpu_session.check(run, tmp_path / 'check', images, arch=ARCH, input_hw=(96, 128))
    names = [line.partition(':')[0] for line in lines]
    ways = ('fp32, cut on the cpu', 'bf16, cut on the cpu', 'fp32, cut on the device')
    assert names == [*(f'labels, {way}' for way in ways), 'training', 'predict', 'detect']
    assert used == ['generate'] * 3 + ['predict', 'detect']


@pytest.mark.slow
def test_learn_labels_held_out_images_on_all_gpus(gpu, monkeypatch, rng, tmp_path, trained):
    used = []
    original = labelling.LocalExecutor
    monkeypatch.setattr(
        labelling, 'LocalExecutor', lambda *args: used.append(args[1]) or original(*args)
    )
    images = ImageList(tmp_path / 'in', tuple(write_images(tmp_path / 'in', 2, rng)))
    model = labeller_config(load_config(trained.config, []), trained.weights, max_per_image=5)
    counts = label(ConfiguredLabeller(model), images, tmp_path / 'out', 1, 'detecting')
    assert counts.images == 2 and counts.instances and not counts.failures
    assert used == [('cuda:0', 'cuda:1')]


@pytest.mark.parametrize('source', ['map', 'score'])
@pytest.mark.parametrize('kind', [PLAIN, AMP])
def test_a_training_step_runs_on_a_gpu(gpu, kind, source):
    config = tiny_config(NARROW)
    config.optim_wrapper.type = kind
    config.model.roi_head.mask_head.confidence_source = source
    for head in config.model.roi_head.bbox_head:
        head.confidence_source = 'score' if source == 'score' else 'none'
    model = MODELS.build(config.model).to('cuda').train()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    inputs, samples = batch_of((3, 2), np.random.default_rng(0))
    images = [(40 * image + 120).clamp(0, 255).to(torch.uint8) for image in inputs]
    kinds = set()
    model.neck.register_forward_hook(lambda module, given, found: kinds.add(found[0].dtype))
    losses = model.train_step({'inputs': images, 'data_samples': samples}, wrapper)
    assert kinds == {torch.float16 if kind == AMP else torch.float32}
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize('kind', [PLAIN, AMP])
def test_rounds_of_self_training_run_on_a_gpu(gpu, tmp_path, kind):
    name = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training.py'
    options = [f'optim_wrapper.type={kind}', f'train_cfg.optim_wrapper.type={kind}']
    options += ['train_cfg.rounds.0.score_thr=0.02', 'train_cfg.max_per_image=3']
    command = train_command(write_training_set(tmp_path), tmp_path, 4, *options, config=name)
    config = load_config(name, command[command.index('--cfg-options') + 1 :])
    config.train_cfg.rounds = [{**config.train_cfg.rounds[0], 'begin': 2}]
    config.work_dir = str(tmp_path / 'run')
    runner = build_runner(config)
    runner.train()
    assert {weight.device.type for weight in runner.model.state_dict().values()} == {'cuda'}
    assert hasattr(runner.optim_wrapper, 'loss_scaler') == (kind == AMP)
    losses = [line['loss'] for line in read_log(tmp_path / 'run') if 'loss' in line]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert list(read_store(tmp_path / 'run/round_1/labels'))
