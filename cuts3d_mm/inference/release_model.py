"""Build the detector of a release: import no module that its config names, limit its size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope, registry
from torch import Tensor, broadcast_shapes
from torch.utils._python_dispatch import TorchDispatchMode

from cuts3d_mm.registry import MODELS

_SPARE_NUMBERS = 1 << 26  # of anchors, indices and the like, which are no weights
_NUMBERS_PER_CALL = 1 << 10  # so that the number of tensors has a limit, too
# What a class of MMDetection raises when its arguments do not fit each other.
_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def build_release_model(config: ConfigDict, weights: Mapping[str, Tensor]) -> Any:
    """Build a detector whose config `trusted_config` has checked.

    Args:
        config: of the detector.
        weights: that it is for. A detector that needs far more memory than they do is refused
            before the memory is taken.

    Raises:
        ValueError: its parts do not fit together, or need a package that is missing.
    """
    init_default_scope('mmdet')
    most = 2 * sum(value.numel() for value in weights.values()) + _SPARE_NUMBERS
    try:
        with _registered_classes_only(), _Budget(most):
            return MODELS.build(config)
    except _MISFITS as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
        raise ValueError(
            f'model of the release must be one that can be built; {reason}'
        ) from error


@contextmanager
def _registered_classes_only() -> Iterator[None]:
    """Keep MMEngine from importing a name that a registry does not have."""
    original = registry.get_object_from_string

    def refuse(name: str) -> None:
        raise ImportError(f'{name} is no registered class')

    registry.get_object_from_string = refuse
    try:
        yield
    finally:
        registry.get_object_from_string = original


class _Budget(TorchDispatchMode):
    """Counts the numbers of new tensors and refuses to make more than a limit."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.made += _NUMBERS_PER_CALL + _new_numbers(args)
        if self.made > self.most:
            raise MemoryError(f'it needs more than {self.most} numbers, far more than its weights')
        return func(*args, **(kwargs or {}))


def _new_numbers(args: tuple[Any, ...]) -> int:
    """How many numbers an operation makes at most: of a size, or of an outer product."""
    sizes = [math.prod(size) for size in args if _is_size(size)]
    shapes = [value.shape for value in args if isinstance(value, Tensor)]
    if len(shapes) > 1:
        with suppress(RuntimeError):  # shapes that are not broadcast
            whole = math.prod(broadcast_shapes(*shapes))
            sizes.append(whole if whole > max(map(math.prod, shapes)) else 0)
    return max(sizes, default=0)


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(side, int) for side in value)
