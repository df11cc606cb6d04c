"""Let tensors in main memory pass for tensors on GPUs, so that code for GPUs runs without one.

A `GpuTensor` says that it is on cuda:N and holds its values in `held`. Whatever mixes devices, or
reads values without `.cpu()`, raises as on a GPU. The FakeTensorMode of torch holds no values,
which detectors need (non-maximum suppression, nonzero).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import pickle
import sys
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.device import utils as mmengine_device
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
copies: Counter[str] = Counter()  # what a GPU would wait for: copies between devices, waits
# For C++ the tensors are of a device whose guard does nothing and that autocast counts as CUDA.
_STAND_IN, _XLA, _META = 'xla', 9, 14
_INDEXED = aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default


class GpuTensor(torch.Tensor):
    """A tensor that says that it is on a GPU; its values are in main memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, real, device):
        with _no_dispatch():
            meta = torch.empty_strided(real.size(), real.stride(), dtype=real.dtype, device='meta')
        options = {'dispatch_device': True, 'device_for_backend_keys': device}
        self = torch.Tensor._make_subclass(cls, meta, False, **options)
        self.held, self.on = real, device
        return self

    @property
    def device(self):
        return self.on

    def __tensor_flatten__(self):  # lets `Module.to` replace parameters instead of their data
        return ['held'], self.on

    @staticmethod
    def __tensor_unflatten__(inner, device, size, stride):
        return GpuTensor(inner['held'], device)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What Python or C++ would do before an operator is dispatched."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {
            key: _numbered(value) if key == 'device' else value
            for key, value in (kwargs or {}).items()
        }
        name = getattr(func, '__name__', '')
        if args and isinstance(args[0], GpuTensor):
            if name in ('numpy', '__array__'):
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name == 'tolist':
                return args[0].cpu().tolist()
            if name == 'new_tensor':
                return torch.tensor(args[1], dtype=args[0].dtype).to(args[0].device)
            if name == '__reduce_ex__':
                raise TypeError('a tensor on a GPU must not leave its process')
        return func(*(map(_numbered, args) if name == 'to' else args), **kwargs)


def _run(func, args, kwargs):
    """Run an operator on the values; all tensors must be on one device, or be CPU scalars."""
    if func is torch.ops.prim.device.default:
        return torch.device(_STAND_IN, args[0].device.index)
    tensors = [value for value in tree_flatten((args, kwargs))[0] if _is_tensor(value)]
    devices = {value.device for value in tensors if isinstance(value, GpuTensor)}
    asked = kwargs.get('device')
    target = _gpu(asked)
    if func is aten._to_copy.default:
        here = args[0].device if isinstance(args[0], GpuTensor) else None
        there = here if asked is None else target
        copies['copies'] += here != there
        result = func(_real(args[0]), **{k: v for k, v in kwargs.items() if k != 'device'})
        return result if there is None else GpuTensor(result, there)
    if func is aten.copy_.default:
        copies['copies'] += args[0].device != args[1].device
        func(*map(_real, args[:2]), *args[2:])
        return args[0]
    waits = aten._local_scalar_dense.default, aten.nonzero.default
    copies['waits'] += bool(devices) and func in waits
    on_cpu = [value for value in tensors if not isinstance(value, GpuTensor) and value.dim()]
    is_index = func in _INDEXED and isinstance(args[0], GpuTensor)  # may be on the CPU
    if len(devices) > 1 or (devices and on_cpu and not is_index):
        raise RuntimeError(
            f'Expected all tensors to be on the same device: {func}, {devices}, '
            f'and on the CPU {[tuple(value.shape) for value in on_cpu]}'
        )
    device = next(iter(devices), target) if asked is None or target is not None else None
    options = {**kwargs, **({'device': 'cpu'} if target is not None else {})}
    options.pop('pin_memory', None)  # pinned memory takes a driver
    result = func(*tree_map(_real, args), **tree_map(_real, options))
    changed = _written_to(func, args, kwargs)
    if changed and devices:
        returns = func._schema.returns
        return None if not returns else changed[0] if len(returns) == 1 else tuple(changed)
    return result if device is None else tree_map(lambda value: _on(value, device), result)


def _written_to(func, args, kwargs):
    """Arguments that an operator changes in place."""
    return [
        args[place] if place < len(args) and not one.kwarg_only else kwargs.get(one.name)
        for place, one in enumerate(func._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]


def _is_tensor(value):
    return isinstance(value, torch.Tensor)


def _on(value, device):
    is_plain = _is_tensor(value) and not isinstance(value, GpuTensor)
    return GpuTensor(value, device) if is_plain else value


def _real(value):
    return value.held if isinstance(value, GpuTensor) else value


def _gpu(device):
    if device is None or torch.device(device).type not in ('cuda', 'meta', 'xla'):
        return None
    return torch.device('cuda', torch.device(device).index or 0)


def _numbered(value):
    is_unnumbered = isinstance(value, (str, torch.device)) and str(value) == 'cuda'
    return torch.device('cuda', 0) if is_unnumbered else value


@contextmanager
def _no_dispatch():
    guard = torch._C._DisableTorchDispatch()
    try:
        yield
    finally:
        del guard


class _CompiledOps:
    """The compiled functions of mmcv, which must get tensors of one device."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        function = getattr(self._module, name)

        def call(*args, **kwargs):
            values = [*args, *kwargs.values()]
            devices = {value.device for value in values if _is_tensor(value)}
            assert len(devices) <= 1, f'{name} must get tensors of one device, got {devices}'
            with _no_dispatch():
                options = {key: _real(value) for key, value in kwargs.items()}
                result = function(*map(_real, args), **options)
            device = next(iter(devices), torch.device('cpu'))
            is_gpu = device.type == 'cuda'
            return tree_map(lambda value: _on(value, device), result) if is_gpu else result

        return call


@contextmanager
def fake_gpus(monkeypatch, count=1):
    """Let torch see `count` GPUs in this process; gives the counts of copies and waits."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / 'lib' / 'libc10.so'))
    guards = (ctypes.c_void_p * 22).in_dll(library, '_ZN3c104impl26device_guard_impl_registryE')
    known = {'is_available': True, 'is_initialized': True, 'device_count': count}
    current = [0]
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: current[0])
    monkeypatch.setattr(
        torch.cuda, 'set_device', lambda device: current.__setitem__(0, torch.device(device).index)
    )
    for name, value in known.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    for name in ('_lazy_init', 'manual_seed_all', 'synchronize', 'reset_peak_memory_stats'):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda *_, **__: 0)
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: device)
    monkeypatch.setattr(torch.cuda, 'stream', nullcontext)
    run_thread = threading.Thread.run

    def run_with_gpus(thread):  # modes of torch are those of one thread
        with _Functions(), _Dispatch():
            run_thread(thread)

    monkeypatch.setattr(threading.Thread, 'run', run_with_gpus)
    monkeypatch.setattr(torch.cuda, 'Event', lambda: SimpleNamespace(record=int, synchronize=int))
    properties = SimpleNamespace(name='stand-in', total_memory=2**33, major=8, minor=0)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda *_, **__: properties)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda *_: properties.name)
    monkeypatch.setattr(mmengine_device, 'DEVICE', 'cuda')  # found out when it is imported
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self, *_: self)
    for name, module in list(sys.modules.items()):
        if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
            monkeypatch.setattr(module, 'ext_module', _CompiledOps(module.ext_module))
    copies.clear()
    before, guards[_XLA] = guards[_XLA], guards[_META]
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with torch.autograd.set_multithreading_enabled(False), _Functions(), _Dispatch():
            yield copies
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        guards[_XLA] = before


def start_forked(target, *payload):
    """`processes.start_child`, but a child that has the GPUs of this process."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    arguments = (theirs, pickle.dumps((target, payload)))
    process = context.Process(target=_begin, args=arguments)
    process.start()
    theirs.close()
    return process, ours


def _begin(connection, pickled):
    target, payload = pickle.loads(pickled)
    target(connection, *payload)
