"""Check weights against the network that they are meant for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor


def check_weights_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names and shapes against the state dict of the network they are meant for.

    Raises:
        ValueError: with every kind of difference, and the first names of each.
    """
    shared = sorted(found.keys() & expected.keys())
    problems = {
        'missing': sorted(expected.keys() - found.keys()),
        'unknown': sorted(found.keys() - expected.keys()),
        'of another shape': [
            f'{name} {tuple(found[name].shape)}, needed {tuple(expected[name].shape)}'
            for name in shared
            if found[name].shape != expected[name].shape
        ],
    }
    told = [f'{kind}: {some_of(names)}' for kind, names in problems.items() if names]
    if told:
        raise ValueError(f'weights must fit the network; {"; ".join(told)}')


def some_of(names: Iterable[str]) -> str:
    """Name the first few, and count the rest."""
    listed = list(names)
    more = f' and {len(listed) - 5} more' if len(listed) > 5 else ''
    return (', '.join(listed[:5]) or 'none') + more
