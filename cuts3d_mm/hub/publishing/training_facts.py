"""Say how a released detector was trained, by what its config and checkpoint hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cuts3d_mm.hub.publishing.private_text import without_local_paths

_PSEUDO_LABELS, _ROUNDS = 'PseudoLabelDataset', 'SelfTrainingLoop'


def describe_training(config: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    """Describe a training in sentences, each of which its files hold.

    Args:
        config: of the training.
        meta: of its checkpoint, as MMEngine writes it, or of a release, which holds the
            sentences; what is missing is not described.
    """
    if isinstance(recorded := meta.get('training'), list):
        return [str(fact) for fact in recorded]
    loader = config.get('train_dataloader')
    names = sorted({_short(type_) for type_ in _data_types(loader)})
    facts = [_describe_data(names)] if names else []
    iterations = meta.get('iter')
    if isinstance(iterations, int) and iterations > 0:
        facts.append(f'{iterations:,} iterations.')
    facts += _describe_rounds(config.get('train_cfg'), iterations)
    if config.get('load_from'):
        facts.append('It started from the weights of another detector.')
    elif (start := _first_weights(config.get('model'))) is not None:
        facts.append(f'Its backbone started from `{without_local_paths(start)}`.')
    return facts


def _describe_data(names: Sequence[str]) -> str:
    if list(names) == [_PSEUDO_LABELS]:
        return f'Trained on pseudo-labels (`{_PSEUDO_LABELS}`): masks that a program has found.'
    return f'Trained on annotations that {" and ".join(f"`{name}`" for name in names)} read.'


def _describe_rounds(loop: Any, iterations: Any) -> Iterator[str]:
    if not isinstance(loop, Mapping) or _short(loop.get('type')) != _ROUNDS:
        return
    begins = [one.get('begin') for one in loop.get('rounds') or ()]
    done = [at for at in begins if isinstance(iterations, int) and at < iterations]
    if done:
        at = ', '.join(f'{begin:,}' for begin in done)
        yield (
            f'After iteration {at} it labelled its images itself; predictions with at least the '
            "round's score joined the labels."
        )


def _data_types(value: Any) -> Iterator[Any]:
    """Types of the data sets that hold images, within those that wrap or join others."""
    if not isinstance(value, Mapping):
        return
    parts = [value['dataset']] if 'dataset' in value else value.get('datasets')
    if parts is None:
        yield value.get('type')
        return
    for part in parts:
        yield from _data_types(part)


def _first_weights(model: Any) -> str | None:
    """Name the file that the backbone is initialised from."""
    backbone = model.get('backbone') if isinstance(model, Mapping) else None
    init = backbone.get('init_cfg') if isinstance(backbone, Mapping) else None
    found = init.get('checkpoint') if isinstance(init, Mapping) else None
    return found if isinstance(found, str) else None


def _short(type_: Any) -> str:
    return str(getattr(type_, '__name__', type_)).rpartition('.')[2]
