"""Every number of the method, with its unit, its default and where it comes from.

Sources: [P] the CutS3D paper (arXiv 2411.16319), [M] MaskCut as released and run by CutLER
(arXiv 2301.11320), [V3] later versions of the paper, [O] our measurement, printed in
`configs/pseudo_labels/README.md`. A value without a source in the paper is marked [O].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

PairRule = Literal['product', 'mean', 'max']
Capacity = Literal['affinity', 'margin', 'distance']
Terminals = Literal['single', 'regional']
Outside = Literal['drop', 'far']
Refinement = Literal['permutohedral', 'pydensecrf', 'none']
MaskResize = Literal['linear', 'bicubic']
DepthResize = Literal['nearest', 'area']


@dataclass(frozen=True)
class ImportanceParams:
    """Spatial Importance sharpening (Eq. 1-3)."""

    beta: float = 0.45  # lower bound of the importance, in [0, 1) [P 3.3]
    sigma_patches: float = 3.0  # Gaussian blur, patches; the paper leaves it open [O]
    pair_rule: PairRule = 'product'  # how two patch values become one exponent [O]


@dataclass(frozen=True)
class NcutParams:
    """Affinity graph and its second eigenvector."""

    tau_ncut: float = 0.15  # cosine above which two patches are linked, in (0, 1) [M]
    epsilon: float = 1e-5  # weight of a missing link [M]
    tolerance: float = 1e-6  # residual norm; looser ones return wrong outliers [O]
    max_steps: int = 120  # Lanczos steps before the slower solvers take over [O]
    start_seed: int = 0  # seed of the start vector, so that runs agree bit by bit


@dataclass(frozen=True)
class LocalCutParams:
    """LocalCut: a minimum cut on the point cloud of the semantic mask (Sec. 3.2)."""

    tau_knn: float = 0.115  # longest edge kept, cloud units (the cloud spans [0, 1]) [V3]
    num_neighbors: int = 10  # k of the k-NN graph; the paper leaves it open [O]
    capacity: Capacity = 'affinity'  # edge length -> capacity [O]
    terminals: Terminals = 'regional'  # one source and sink node [P], or a region of each [O]
    terminal_fraction: float = 0.01  # share of the cloud in a regional terminal [O]
    outside: Outside = 'drop'  # points off the semantic mask: left out [P] or far [V3]


@dataclass(frozen=True)
class ConfidenceParams:
    """Spatial Confidence: agreement of several LocalCuts (Eq. 4)."""

    num_cuts: int = 6  # T, thresholds from tau_min to tau_knn [O]
    tau_min_ratio: float = 0.5  # tau_min / tau_knn; the paper leaves it open [O]
    floor: float = 0.5  # smallest confidence inside a mask, SC_min [P 3.4]


@dataclass(frozen=True)
class CrfParams:
    """Fully connected CRF on the resized image [M]."""

    num_iterations: int = 10
    spatial_weight: float = 7.0
    spatial_sigma_px: float = 3.0
    bilateral_weight: float = 10.0
    bilateral_sigma_px: float = 50.0
    bilateral_sigma_rgb: float = 5.0  # 8-bit colour steps
    unary_logit: float = 1.0  # log odds of the hard mask: softmax of {0, 1} [M]


@dataclass(frozen=True)
class RefineParams:
    """From a patch mask to a mask of the image's own size."""

    method: Refinement = 'permutohedral'
    crf: CrfParams = CrfParams()
    min_iou: float = 0.5  # a mask that refinement changes more is dropped [M]
    resize: MaskResize = 'linear'  # to image size; MaskCut: bicubic


@dataclass(frozen=True)
class CutParams:
    """The whole recipe. `CutParams.maskcut()` is the 2D baseline of the same recipe."""

    max_instances: int | None = 3  # per image, N [M]; None: until nothing is left
    count_rejected: bool = False  # whether a rejected cut counts towards N; MaskCut: True [O]
    min_area_ratio: float = 0.01  # a cut must cover more of the patch grid than this [M]
    min_area_from_cut: int = 0  # first cut (from 0) that min_area_ratio applies to; MaskCut: 1 [O]
    max_overlap_iou: float = 0.5  # IoU with the previous mask above which a cut is dropped [M]
    remove_rejected: bool = True  # take a rejected cut's patches out too; MaskCut: False
    stop_at_rest_iou: float | None = 0.9  # IoU with "all the rest" that ends the image [O]
    depth_clip_percent: float = 0.0  # of pixels, clipped at either end of the depth [O]
    depth_resize: DepthResize = 'nearest'  # depth map -> patch grid [O]
    importance: ImportanceParams | None = ImportanceParams()  # None: no sharpening
    ncut: NcutParams = NcutParams()
    local_cut: LocalCutParams | None = LocalCutParams()  # None: 2D component only
    confidence: ConfidenceParams | None = ConfidenceParams()  # None: confidence 1
    refine: RefineParams = RefineParams()

    def __post_init__(self) -> None:
        if not (self.remove_rejected or self.count_rejected):
            raise ValueError(
                'count_rejected must be True where remove_rejected is False: a rejected cut '
                'that stays in the graph would be found again for ever'
            )

    @classmethod
    def maskcut(cls, **changes: Any) -> CutParams:
        """MaskCut with all its quirks; each keyword switches one of them.

        The quirks: no smallest area for the first cut; a cut is compared with the one just
        before it only; a rejected cut counts and stays in the graph, so that the next
        iteration finds it again and may accept it; the mask is resized bicubically.
        """
        preset: dict[str, Any] = dict(
            importance=None,
            local_cut=None,
            confidence=None,
            min_area_from_cut=1,
            count_rejected=True,
            remove_rejected=False,
            stop_at_rest_iou=None,
            refine=RefineParams(resize='bicubic'),
        )
        return cls(**(preset | changes))


def params_from_dict(cls: type, values: dict[str, Any], where: str = '', base: Any = None) -> Any:
    """Build a params dataclass from nested plain dicts, as a config file holds them.

    Args:
        cls: one of the dataclasses above.
        values: field name -> value; a nested params field takes a dict or None.
        where: dotted prefix for messages.
        base: what the fields that `values` leaves out are taken from; None: the defaults.

    Raises:
        ValueError: a key that `cls` does not have or a value outside its choices; the
            message names the key and what is possible.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f'{where}{key} is not a parameter; known: {", ".join(known)}')
        inner = None if base is None else getattr(base, key)
        changes[key] = _convert(hints[key], value, f'{where}{key}', inner)
    return cls(**changes) if base is None else replace(base, **changes)


def _convert(hint: Any, value: Any, name: str, base: Any) -> Any:
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    nested: Any = next((option for option in options if is_dataclass(option)), None)
    if nested is not None and isinstance(value, dict):
        return params_from_dict(nested, value, f'{name}.', base)
    if value is None and type(None) in options:
        return None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f'{name} must be one of {get_args(hint)}, got {value!r}')
        return value
    plain = next(option for option in options if option is not type(None))
    if nested is not None or not _is_number_for(plain, value):
        kind = 'a dict' if nested is not None else f'of type {plain.__name__}'
        raise ValueError(f'{name} must be {kind}, got {value!r}')
    return plain(value)


def _is_number_for(plain: type, value: Any) -> bool:
    if isinstance(value, bool) or plain is bool:
        return isinstance(value, bool) and plain is bool
    return isinstance(value, (int, float) if plain is float else int)
