"""Every number of the method, with its unit, its default and where it comes from.

Sources: [P] the CutS3D paper (arXiv 2411.16319), [M] MaskCut as released and run by CutLER
(arXiv 2301.11320), [V3] later versions of the paper, [O] our measurement, printed in
`configs/pseudo_labels/README.md`. A value without a source in the paper is marked [O].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from math import inf
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

# Numbers with the interval that they must lie in.
Count = Annotated[int, '[1, inf)']
Natural = Annotated[int, '[0, inf)']
Positive = Annotated[float, '(0, inf)']
NotNegative = Annotated[float, '[0, inf)']
Share = Annotated[float, '[0, 1]']
PositiveShare = Annotated[float, '(0, 1]']
ShareBelow1 = Annotated[float, '[0, 1)']
Inner = Annotated[float, '(0, 1)']
Similarity = Literal['cosine', 'gaussian']
Sign = Literal['strongest', 'lapack']
DepthFunction = Literal['metric', 'log', 'inverse']
Claimed = Literal['removed', 'epsilon']
Refinement = Literal['permutohedral', 'pydensecrf', 'none']
MaskResize = Literal['linear', 'bicubic']
Neighborhood = Literal['grid', 'knn']
_OWN = 'MODULE.FUNCTION'  # among the choices: a function of any module
Capacity = Literal['step', 'affinity', 'distance', 'MODULE.FUNCTION']
Spacing = Literal['linear', 'geometric']
Terminals = Literal['single', 'regional']
Outside = Literal['drop', 'far']


@dataclass(frozen=True)
class EvidenceParams:
    """Which of the cuts at several thresholds is taken; if none, the 2D component stays.

    It is the cut whose new border has the largest contrast: the median depth step along it, over
    the 90th percentile of the steps inside the cut plus a floor.
    """

    min_contrast: NotNegative = 1.0  # contrast that a border must exceed [O]
    step_floor: PositiveShare = 0.01  # added to the steps inside, in [0, 1] of the depth range [O]
    min_patches: Count = 36  # patches that a cut must keep [O]
    # The same for a cut between the ends of the eigenvector inside an earlier cut [O].
    again_contrast: NotNegative = 2.0
    core_radius: Natural = 2  # patches beyond a depth step that belong to no core [O]
    max_rounds: Count = 8  # cuts one inside the other; 1: the first that depth supports [O]


@dataclass(frozen=True)
class LocalCutParams:
    """LocalCut: a minimum cut on the point cloud of the semantic mask (Sec. 3.2)."""

    neighborhood: Neighborhood = 'grid'  # the 8 patches around each [O], or k-NN in 3D [P]
    # Longest edge kept, the cloud spans [0, 1]: 3D distance [V3], or depth step on the grid [O].
    tau_knn: Positive = 0.25
    num_neighbors: Count = 10  # k of 'knn'; the paper leaves it open [O]
    capacity: Capacity = 'step'  # rule of `LOCAL_CUTS`, or a function of your own [O]
    depth_step: Positive = 0.03  # of 'step': length at which an edge costs 1/e [O]
    eigenvector_step: Positive = 0.2  # the same of its eigenvector step, largest entry 1 [O]
    terminals: Terminals = 'regional'  # one source and sink node [P], or a region of each [O]
    # Share of the cloud in a regional terminal [O].
    terminal_fraction: Annotated[float, '(0, 0.5]'] = 0.01
    outside: Outside = 'drop'  # points off the semantic mask: left out [P] or far [V3]
    min_share: Share = 0.1  # share of the 2D component that a cut must keep, else it stays [O]
    evidence: EvidenceParams | None = EvidenceParams()  # None: the cut at tau_knn is taken [P]


_PAPER_LOCAL_CUT = LocalCutParams(
    neighborhood='knn',
    tau_knn=0.115,
    num_neighbors=10,
    capacity='affinity',
    terminals='single',
    outside='drop',
    min_share=0.3,
    evidence=None,
)


@dataclass(frozen=True)
class ImportanceParams:
    """Spatial Importance sharpening (Eq. 1-3)."""

    beta: ShareBelow1 = 0.2  # lower bound of the importance, in [0, 1) [O]; the paper: 0.45
    sigma_patches: Positive = 3.0  # Gaussian blur, patches; the paper leaves it open [O]


@dataclass(frozen=True)
class NcutParams:
    """Affinity graph and its second eigenvector."""

    tau_ncut: Inner = 0.15  # cosine above which two patches are linked, in (0, 1) [M]
    epsilon: Inner = 1e-5  # weight of a missing link [M]
    tolerance: Inner = 1e-6  # residual norm; looser ones return wrong outliers [O]
    max_steps: Count = 120  # Lanczos steps before the slower solvers take over [O]
    start_seed: Natural = 0  # seed of the start vector, so that runs agree bit by bit
    # Of the eigenvector: its strongest entry is positive [O], or as a dense LAPACK solve leaves
    # it, which no theory decides [M]; minutes per image at 3600 patches, for comparisons.
    sign: Sign = 'strongest'
    # Patches of earlier instances: taken out of the graph, so that it is cut among those that
    # are left [O], or kept with missing links; then they win the next cut as a whole [M].
    claimed: Claimed = 'removed'


@dataclass(frozen=True)
class CrfParams:
    """Fully connected CRF on the resized image [M]."""

    num_iterations: Natural = 10
    spatial_weight: NotNegative = 7.0
    spatial_sigma_px: Positive = 3.0
    bilateral_weight: NotNegative = 10.0
    bilateral_sigma_px: Positive = 50.0
    bilateral_sigma_rgb: Positive = 5.0  # 8-bit colour steps
    unary_logit: Positive = 1.0  # log odds of the hard mask: softmax of {0, 1} [M]


@dataclass(frozen=True)
class RefineParams:
    """From a patch mask to a mask of the image's own size."""

    method: Refinement = 'permutohedral'
    crf: CrfParams = CrfParams()
    min_iou: Share = 0.5  # a mask that refinement changes more is dropped [M]
    resize: MaskResize = 'linear'  # to image size; MaskCut: bicubic


@dataclass(frozen=True)
class ConfidenceParams:
    """Spatial Confidence: agreement of several LocalCuts (Eq. 4)."""

    num_cuts: Count = 10  # T, thresholds from tau_min to tau_knn [O]
    tau_min_ratio: PositiveShare = 0.016  # tau_min / tau_knn; the paper leaves it open [O]
    spacing: Spacing = 'geometric'  # of the thresholds [O]; the paper: linear


@dataclass(frozen=True)
class BackgroundParams:
    """Which cuts are floor, wall or sky: planes that the borders of the image cut off."""

    max_residual: Share = 0.02  # distance from a plane, in units of the disparity range [O]
    # Share of the patches that must lie that near to the plane [O].
    plane_share: PositiveShare = 0.9
    # Disparity range inside a cut, as a share of the whole, below which it faces the camera: it
    # is then background only where it lies behind 95 % of the other patches [O].
    min_slant: Share = 0.05
    min_border_share: Share = 0.1  # share of one image border that the cut must hold [O]
    min_area_ratio: Share = 0.05  # share of the patch grid that the cut must exceed [O]


@dataclass(frozen=True)
class ScoreParams:
    """Logistic model of the chance that a mask is right at IoU 0.5, see `score_mask` [O].

    `benchmarks/fit_score.py` fits the coefficients.
    """

    bias: float = -14.57
    confidence: float = 1.10  # per mean confidence, in [0, 1]
    log_contrast: float = 2.42  # per log(1 + contrast) of the depth at the border
    log_step: float = -0.95  # per logarithm of the depth step at the border
    in_front: float = 0.79  # per depth of the surroundings behind the mask, in [-1, 1]
    refined_iou: float = 10.49  # per IoU before and after the refinement, in [0, 1]
    border_share: float = -5.95  # per share of the outline on the borders of the image
    eigenvalue: float = -5.76  # per lambda2 of the normalized cut
    step_floor: PositiveShare = 0.01  # depth added to the relief in the contrast, in [0, 1]
    max_contrast: Positive = 20.0  # larger contrasts count as this one
    least_step: PositiveShare = 0.003  # depth added to the step, in [0, 1]
    # Larger steps to the surroundings count as this one, in [0, 1].
    clear_step: PositiveShare = 0.05


@dataclass(frozen=True)
class CutParams:
    """The whole recipe. `CutParams.maskcut()` is the 2D baseline of the same recipe."""

    max_instances: Count | None = 10  # per image, N; MaskCut: 3; None: until nothing is left
    # lambda2 of a cut that ends the image, in [0, 1] [O].
    max_eigenvalue: PositiveShare | None = 0.7
    count_rejected: bool = False  # whether a rejected cut counts towards N; MaskCut: True [O]
    min_area_ratio: ShareBelow1 = 0.01  # a cut must cover more of the patch grid than this [M]
    # First cut (from 0) that min_area_ratio applies to; MaskCut: 1 [O].
    min_area_from_cut: Natural = 0
    max_overlap_iou: Share = 0.5  # IoU with the previous mask above which a cut is dropped [M]
    remove_rejected: bool = True  # take a rejected cut's patches out too; MaskCut: False
    stop_at_rest_iou: Share | None = 0.9  # IoU with "all the rest" that ends the image [O]
    # Depths farther than this many spans of the middle 96 % outside of it are clipped; None: [P].
    depth_outlier_spans: NotNegative | None = 0.5
    # Depth that cutting sees: as it is, its logarithm or its inverse, scaled to [0, 1] [O].
    depth_function: DepthFunction = 'metric'
    importance: ImportanceParams | None = ImportanceParams()  # None: no sharpening
    background: BackgroundParams | None = BackgroundParams()  # cuts to reject; None: none [M]
    ncut: NcutParams = NcutParams()
    local_cut: LocalCutParams | None = LocalCutParams()  # None: 2D component only
    confidence: ConfidenceParams | None = ConfidenceParams()  # None: confidence 1
    refine: RefineParams = RefineParams()
    score: ScoreParams | None = ScoreParams()  # None: mean confidence of the patches

    def __post_init__(self) -> None:
        for name, span in RANGES.items():
            _require_in(span, value_at(self, name), name)
        if not (self.remove_rejected or self.count_rejected):
            raise ValueError(
                'count_rejected must be True where remove_rejected is False: a rejected cut '
                'that stays in the graph would be found again in every iteration'
            )

    @property
    def uses_depth(self) -> bool:
        """Whether the recipe needs the depth of images."""
        return self.importance is not None or self.local_cut is not None

    @classmethod
    def maskcut(cls, **changes: Any) -> CutParams:
        """MaskCut with all of its quirks except the sign; each keyword switches one of them.

        The quirks: no smallest area for the first cut; a cut is compared with the one just
        before it only; a rejected cut counts and stays in the graph, so that the next
        iteration finds it again and may accept it; the mask is resized bicubically.

        The sign of the eigenvector decides which side of a cut is foreground where the stronger
        side holds three corners of the image, about a third of the cuts. MaskCut takes the one
        that LAPACK happens to return. Here the strongest entry is positive, which is the same on
        every machine and finds more (mean best IoU .058 against .046);
        `ncut=NcutParams(sign='lapack')` is MaskCut's.
        """
        return replace(_MASKCUT, **changes)

    @classmethod
    def paper(cls, **changes: Any) -> CutParams:
        """The early version of the paper; MaskCut's rules where it is silent.

        The capacity of an edge falls with its length, as in the min-cut segmentation that the
        paper cites for LocalCut (Golovinskiy and Funkhouser, 2009). Source and sink are one
        point each; points off the semantic mask are left out. A cut that leaves less than 30 %
        of the 2D component is not taken: the component stays [O].
        """
        return replace(_PAPER, **changes)

    @classmethod
    def paper_v3(cls, **changes: Any) -> CutParams:
        """The paper's later version: points off the semantic mask stay, at the far plane."""
        return replace(_PAPER_V3, **changes)

    @classmethod
    def paper_letter(cls, **changes: Any) -> CutParams:
        """The letter of the paper: the weight of an edge is its length, and cutting it costs that.

        Near points are then the cheapest to separate, so that most cuts take the source patch
        alone. It serves comparisons.
        """
        return replace(_PAPER_LETTER, **changes)


def _ranges_of(cls: Any, where: str = '') -> dict[str, str]:
    found: dict[str, str] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        for option in _options_of(hint):
            if is_dataclass(option):
                found |= _ranges_of(option, f'{where}{name}.')
            elif get_origin(option) is Annotated:
                found[where + name] = option.__metadata__[0]
    return found


def _options_of(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


# Interval of every number by its path; the coefficients of a score may have any value.
RANGES = _ranges_of(CutParams)


def value_at(params: Any, name: str) -> Any:
    """Value of a field by its path; None where a part is switched off."""
    for field in name.split('.'):
        params = None if params is None else getattr(params, field)
    return params


def _require_in(span: str, value: float | None, name: str) -> None:
    low, high = (float(end) for end in span[1:-1].split(','))
    if value is None or low < value < high:
        return
    if (value == low and span[0] == '[') or (value == high and span[-1] == ']'):
        return
    least = f'at least {low:g}' if span[0] == '[' else f'above {low:g}'
    must = f'be {least} and finite' if high == inf else f'lie in {span}'
    raise ValueError(f'{name} must {must}, got {value:g}')


# A preset names all that a changed default could touch: published rows keep their recipe.
_MASKCUT = CutParams(
    max_instances=3,
    max_eigenvalue=None,
    count_rejected=True,
    min_area_ratio=0.01,
    min_area_from_cut=1,
    max_overlap_iou=0.5,
    remove_rejected=False,
    stop_at_rest_iou=None,
    depth_outlier_spans=None,
    importance=None,
    background=None,
    ncut=NcutParams(tau_ncut=0.15, sign='strongest', claimed='epsilon'),
    local_cut=None,
    confidence=None,
    score=None,
    refine=RefineParams(method='permutohedral', min_iou=0.5, resize='bicubic'),
)
_PAPER = replace(
    _MASKCUT,
    stop_at_rest_iou=0.9,
    depth_outlier_spans=None,
    importance=ImportanceParams(beta=0.45, sigma_patches=3.0),
    local_cut=_PAPER_LOCAL_CUT,
    confidence=ConfidenceParams(num_cuts=6, tau_min_ratio=0.5, spacing='linear'),
)
_PAPER_V3 = replace(_PAPER, local_cut=replace(_PAPER_LOCAL_CUT, outside='far'))
_PAPER_LETTER = replace(
    _PAPER, local_cut=replace(_PAPER_LOCAL_CUT, capacity='distance', min_share=0.0)
)


# What recipes of stores that were labelled before a parameter existed have done.
_BEFORE: dict[str, Any] = {
    'max_eigenvalue': None,
    'score': None,
    'depth_function': 'metric',
    'background': None,
    'ncut': {'claimed': 'epsilon', 'sign': 'strongest'},
    'local_cut': {'min_share': 0.0},
}
# Parameters of earlier versions, with the value that is now the only way.
_REMOVED = {
    'depth_resize': 'nearest',
    'importance.pair_rule': 'product',
    'confidence.terminal_fraction': None,
}
PRESETS: dict[str, Callable[..., CutParams]] = {
    'cuts3d': CutParams,
    'paper': CutParams.paper,
    'paper_v3': CutParams.paper_v3,
    'paper_letter': CutParams.paper_letter,
    'maskcut': CutParams.maskcut,
}


def complete_stored(recipe: dict[str, Any]) -> dict[str, Any]:
    """Add what the recipe of an earlier version did without saying it.

    Args:
        recipe: recipe of a config, or a whole one that a store keeps; only the latter, which
            names no preset but the rules of each of them, changes.
    """
    if 'preset' in recipe or not {'count_rejected', 'ncut', 'refine'} <= recipe.keys():
        return recipe
    completed = {**_BEFORE, **recipe}
    for part, before in _BEFORE.items():
        if isinstance(before, dict) and isinstance(completed[part], dict):
            completed[part] = {**before, **completed[part]}
    if recipe.get('local_cut', None) is None:
        completed['local_cut'] = None
    return completed


def params_from_dict(cls: type, values: dict[str, Any], where: str = '', base: Any = None) -> Any:
    """Build a params dataclass from nested plain dicts, as a config file holds them.

    Args:
        values: field name -> value; a nested params field takes a dict or None.
        base: what the fields that `values` leaves out are taken from; None: the defaults.

    Raises:
        ValueError: a key that `cls` does not have or a value outside its choices; the
            message names the key and what is possible.
    """
    hints, changes = get_type_hints(cls), {}
    for key, value in values.items():
        name = f'{where}{key}'
        removed = name.removeprefix('recipe.')
        if removed in _REMOVED and value == _REMOVED[removed]:
            continue
        if key not in hints:
            raise ValueError(f'{name} is not a parameter; known: {", ".join(hints)}')
        inner = None if base is None else getattr(base, key)
        changes[key] = _convert(hints[key], value, name, inner)
    return cls(**changes) if base is None else replace(base, **changes)


def _convert(hint: Any, value: Any, name: str, base: Any) -> Any:
    options = _options_of(hint)
    plain, choices = options[0], get_args(options[0])
    if value is None and type(None) in options:
        return None
    if is_dataclass(plain):
        if not isinstance(value, dict):
            raise ValueError(f'{name} must be a dict, got {value!r}')
        return params_from_dict(plain, value, f'{name}.', base)  # type: ignore[arg-type]
    if choices:
        is_own = _OWN in choices and isinstance(value, str) and '.' in value
        if value not in choices and not is_own:
            raise ValueError(f'{name} must be one of {choices}, got {value!r}')
        return value
    taken = (int, float) if plain is float else plain
    if not isinstance(value, taken) or isinstance(value, bool) is not (plain is bool):
        raise ValueError(f'{name} must be of type {plain.__name__}, got {value!r}')
    return plain(value)
