"""Read depth from files."""

from __future__ import annotations

import logging
import math
import re
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cuts3d_mm.algorithm.depth import depth_from_disparity
from cuts3d_mm.arrays import Float, Mask
from cuts3d_mm.images.reading import ImageFailure, NamedImage, open_image
from cuts3d_mm.labellers.registry import DEPTH, depth_folder

DEPTH_SUFFIXES = ('.png', '.npy', '.npz', '.pfm', '.tif', '.tiff')
_NAME = '{}'  # stands for the name of an image in a pattern, such as depth/{}_depth.npy
_FIRST = 100  # images whose maps are looked for before a run
_CONFIG_2D = 'maskcut_color-texture'
# 8192 x 8192: more than any image needs whose depth is brought to a patch grid. With 8 bytes a
# pixel and the copy in float32, one map takes 0.8 GB at most.
MAX_DEPTH_PIXELS = 2**26
_LARGEST_VALUE = 2**16 - 1  # of a PNG of 16 bits
_DEPTH_WORD = re.compile('depth|disp', re.IGNORECASE)
_MAX_PFM_HEADER = 128  # bytes
_PFM_HEADER = re.compile(
    rb'(P[fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?\d{1,20}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,3})?)\s'
)
_MODES = {'1', 'L', 'I;16', 'I;16B', 'I', 'F'}  # one channel
LargerIs = Literal['far', 'near']
# Ratio of the sides: more than rounding to a patch makes of a square, less than any common format.
_NEARLY_SQUARE = 1.1


@DEPTH.register_module()
class DepthFromFile:
    """Read the depth of `a/b.jpg` from `root/a/b.png`, `.npy`, `.npz`, `.pfm` or `.tif`.

    PNG may have 8 or 16 bits, TIFF also floats; colours must be three equal channels. An NPZ must
    hold one array, or one whose name says depth or disparity. NaN, inf, 0 and what `sentinels`
    finds, such as -1, 65535 and 1e10, are invalid and filled from the nearest valid pixel. A map
    may have `MAX_DEPTH_PIXELS` pixels. A PNG of `cuts3d depth` says that all of its pixels hold
    depth; the options are not for it.

    Args:
        root (str): Folder of the depth maps; or a pattern with `{}` for the name of the image,
            such as `depth/{}_depth.npy`, which gives `depth/a/b_depth.npy`.
        larger_is (str): 'far' for depth, 'near' for disparity or inverse depth, which becomes
            depth as `depth_from_disparity` says; below 0 it is invalid. Defaults to 'far'.
        zero_is_invalid (bool): Whether 0 means "no depth". Defaults to True.
        invalid (Sequence[float]): Other values that mean "no depth". Defaults to ().
    """

    FOLDER_ARGUMENT = 'root'  # the argument that --depth sets
    reads_files = True

    def __init__(
        self,
        root: str,
        larger_is: LargerIs = 'far',
        zero_is_invalid: bool = True,
        invalid: Sequence[float] = (),
    ) -> None:
        check_larger_is(larger_is)
        self.root, self._folder = Path(root), depth_folder(root)
        self._pattern = root if _NAME in root else ''
        self.larger_is = larger_is
        self.zero_is_invalid = zero_is_invalid
        self.invalid = tuple(map(float, invalid))

    def to(self, device: str) -> object:
        """Do nothing: there is no network."""
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Read the depth map of each image, (H', W') of any size, finite.

        Raises:
            ImageFailure: a map is missing, unreadable, has no valid pixel or is upright where
                the image is wide, or the other way round.
        """
        return [self.read(self._find(image.name), image.pixels.shape[:2]) for image in images]

    def read(self, path: Path, image_hw: tuple[int, ...] | None = None) -> Float:
        """Read one depth map, wherever it is; with the size of its image it must lie as that does.

        Raises:
            ImageFailure: it is unreadable, has no valid pixel or lies the other way.
        """
        depth, is_ours = read_depth(path), bool(read_marks(path))
        if not is_ours:
            source = f'depth map {path}'
            depth = finite_depth(depth, self.larger_is, self.zero_is_invalid, source, self.invalid)
        if image_hw is not None:
            try:
                require_orientation(depth.shape, image_hw)
            except ValueError as error:
                raise ImageFailure(f'depth map {path}: {error}') from error
            if not is_ours:  # a network may return a square for any image
                _warn_of_aspect(path, depth.shape, image_hw)
        return depth

    def check_first(self, names: Sequence[str]) -> None:
        """Check that one of the first images has a depth map that can be read.

        Raises:
            ValueError: none has; the message names a file and what is wrong with it.
        """
        reasons = []
        for name in names[:_FIRST]:
            try:
                self.read(self._find(name))
            except ImageFailure as failure:
                reasons.append(str(failure))
            else:
                return
        if reasons:
            raise ValueError(
                f'--depth must give depth maps of the images, none of the first {len(reasons)} '
                f'has one, as: {reasons[0]}; it may be a pattern, such as DIR/{_NAME}_depth.npy'
            )

    def _find(self, name: str) -> Path:
        if not name or not self._folder.is_dir():
            raise ValueError(
                'depth must be given with the image, as predict(image, depth=array): this config '
                f'reads it from files in {self.root}; in 2D, without depth, cuts {_CONFIG_2D}'
            )
        named = PurePosixPath(name).with_suffix('')
        if self._pattern:
            path = Path(self._pattern.replace(_NAME, str(named)))
            if not path.is_file():
                raise ImageFailure(f'no depth map {path}')
            return path
        stem = self.root / named
        # Not with_suffix: 'a.b.jpg' must find 'a.b.png'.
        for suffix in (*DEPTH_SUFFIXES, *map(str.upper, DEPTH_SUFFIXES)):
            path = stem.with_name(stem.name + suffix)
            if path.is_file():
                return path
        raise ImageFailure(f'no depth map {stem}.{{png,npy,npz,pfm,tif}}')


def require_first_maps(depth: Any, names: Sequence[str]) -> None:
    """Check the depth maps of the first images where a config reads depth from files.

    Raises:
        ValueError: none of the first images has a depth map.
    """
    kind = str(depth.get('type')) if isinstance(depth, dict) else ''
    if kind.rpartition('.')[2] == DepthFromFile.__name__:
        DEPTH.build(depth).check_first(names)


def read_depth(path: Path) -> Float:
    """Read one depth map as (H, W) float32, values as stored.

    Raises:
        ImageFailure: the file cannot be read, does not hold one map, or its map is too large.
    """
    read = {'.npy': _read_npy_file, '.npz': _read_npz, '.pfm': _read_pfm}.get(path.suffix.lower())
    try:
        depth = (read or _read_picture)(path)
    # No list of errors is whole: the header of an NPY file alone raises a TokenError.
    except Exception as error:
        reason = str(error) or type(error).__name__
        if not isinstance(error, ImageFailure):  # those below end this sentence
            reason = f'cannot be read: {reason}'
        raise ImageFailure(f'depth map {path} {reason}') from error
    with np.errstate(over='ignore'):  # what 32 bits cannot hold becomes inf: not valid
        return depth.astype(np.float32)


def read_marks(path: Path) -> dict[str, str]:
    """Read what a PNG of `encode_depth` says about its depth; {} for other files."""
    if path.suffix.lower() != '.png':
        return {}
    with open_image(path, ('PNG',)) as image:
        marks = {str(key): v for key, v in image.info.items() if isinstance(v, str)}
    return marks if marks.get('larger_is') == 'far' else {}


def encode_depth(depth: Float, unit: str, network: str) -> bytes:
    """Encode depth as a PNG of 16 bits that says in text chunks what its values mean.

    The chunks are `larger_is`, which is far; `unit`, m or relative; `step`, the depth of one
    step of the values, which begin at 0; and `network`.

    Args:
        depth: (h, w), larger is farther.

    Raises:
        ImageFailure: the depth is not finite, or negative.
    """
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise ImageFailure('depth must be finite and at least 0; use another network')
    step = float(depth.max()) / _LARGEST_VALUE or 1.0
    text = PngInfo()
    marks = {'larger_is': 'far', 'unit': unit, 'step': f'{step:.9g}', 'network': network}
    for key, value in marks.items():
        text.add_text(key, value)
    file = BytesIO()
    values = np.rint(depth / step).astype(np.uint16)
    Image.fromarray(values).save(file, 'PNG', pnginfo=text)
    return file.getvalue()


def _read_npy_file(path: Path) -> NDArray[Any]:
    with path.open('rb') as file:
        return _read_npy(file)


def _read_npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        named = [one for one in members if _DEPTH_WORD.search(one.filename)]
        if len(members) != 1 and len(named) != 1:
            raise ImageFailure(
                f'must hold one array, holds {len(members)}, of which {len(named)} say depth or '
                'disparity in their names'
            )
        members = members if len(members) == 1 else named
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Others cannot be unpacked a limited number of bytes at a time.
            raise ImageFailure('must be packed as numpy.savez_compressed does, or not at all')
        if members[0].flag_bits & 1:
            raise ImageFailure('must not be encrypted')
        with archive.open(members[0]) as member:
            return _read_npy(member)


def _read_npy(file: IO[bytes]) -> NDArray[Any]:
    formats = np.lib.format
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    version = formats.read_magic(file)
    if version not in readers:
        raise ImageFailure(f'cannot be read: must be of NPY version 1.0 or 2.0, is {version}')
    shape, is_fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ImageFailure('cannot be read: must hold numbers, holds pickled objects')
    # A channel axis of length 1 comes first or last.
    plane = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    plane = plane[:2] if len(plane) == 3 and plane[2] == 1 else plane
    if len(plane) != 2 or dtype.kind not in 'fiu':
        raise ImageFailure(f'must be (H, W) numbers, is {shape} of {dtype}')
    num_bytes = _check_size(*plane) * dtype.itemsize
    content = file.read(num_bytes + 1)  # one more, so that a checksum at the end is looked at
    if len(content) != num_bytes:
        raise ImageFailure(f'must hold {num_bytes} bytes after its header, as that says')
    return np.frombuffer(content, dtype).reshape(plane, order='F' if is_fortran else 'C')


def _read_pfm(path: Path) -> NDArray[Any]:
    with path.open('rb') as file:
        header = _PFM_HEADER.match(file.read(_MAX_PFM_HEADER))
        scale = 0.0 if header is None else float(header[4])
        if header is None or not scale or not math.isfinite(scale):
            raise ImageFailure('cannot be read: must begin with Pf, width, height and scale')
        if header[1] != b'Pf':
            raise ImageFailure('must be (H, W) numbers, has colours')
        width, height = int(header[2]), int(header[3])
        num_bytes = 4 * _check_size(height, width)
        file.seek(header.end())
        content = file.read(num_bytes)
    if len(content) != num_bytes:
        raise ImageFailure(f'must hold {num_bytes} bytes after its header, as that says')
    values = np.frombuffer(content, '<f4' if scale < 0 else '>f4')
    # Rows go from bottom to top; the values are stored times the scale, as OpenCV has it.
    return values.reshape(height, width)[::-1] / np.float32(abs(scale))


def _read_picture(path: Path) -> NDArray[Any]:
    with open_image(path, ('PNG', 'TIFF')) as image:  # reads the header alone
        _check_size(image.height, image.width)
        if image.mode in ('RGB', 'RGBA', 'LA'):
            channels = np.asarray(image)[..., :3] if image.mode != 'LA' else np.asarray(image)
            if image.mode == 'LA' or (channels == channels[..., :1]).all():
                return channels[..., 0]
        if image.mode not in _MODES:
            raise ImageFailure(f'must be (H, W) numbers, has the channels {image.mode}')
        image.load()
        return np.asarray(image.convert('L') if image.mode == '1' else image)


def _check_size(height: int, width: int) -> int:
    """Number of pixels of a map."""
    num_pixels = height * width
    if height < 1 or width < 1 or num_pixels > MAX_DEPTH_PIXELS:
        raise ImageFailure(
            f'must have from 1 to {MAX_DEPTH_PIXELS} pixels, has {height} x {width}; '
            'make a larger map smaller'
        )
    return num_pixels


def finite_depth(
    values: Float,
    larger_is: LargerIs,
    zero_is_invalid: bool,
    source: object,
    invalid: Sequence[float] = (),
) -> Float:
    """Give pixels that were not measured the nearest value, and turn disparity into depth.

    The first map with a sentinel is named in a log line, once for each value.

    Args:
        values: (H, W); NaN, inf, `sentinels` and, of disparity, what lies below 0 are invalid.
        larger_is: 'far' for depth, 'near' for disparity.
        invalid: other values that mean "not measured".

    Raises:
        ImageFailure: no value is valid.
    """
    valid = np.isfinite(values)
    if zero_is_invalid:
        valid &= values != 0
    if larger_is == 'near':
        valid &= values >= 0
    if invalid:
        valid &= ~np.isin(values, np.asarray(invalid, np.float32))
    for name, is_sentinel in sentinels(values, valid).items():
        valid &= ~is_sentinel
        _say_once(name, source, int(is_sentinel.sum()), values.size)
    if not valid.any():
        raise ImageFailure(f'{source} has no valid pixel')
    if not valid.all():
        from scipy import ndimage  # a quarter of a second that commands need not wait for to start

        nearest = ndimage.distance_transform_edt(
            ~valid, return_distances=False, return_indices=True
        )
        values = values[tuple(nearest)]
    return depth_from_disparity(values) if larger_is == 'near' else values


# A map with more negative values than this share is relative: its values have any sign [O].
_MOST_NEGATIVE = 0.2
# An end value is a sentinel if it fills this share of the pixels, lies this share of the range
# from the next value, and farther from it than all other values from each other [O]. The last
# rule keeps a flat object in front of a wall.
_LEAST_SHARE, _LEAST_GAP = 0.001, 0.05
_CLEAR_GAP = 4.0  # times the range of the other values; a wall behind a room is nearer than that
_FEWEST_VALUES = 16  # a map with fewer values is drawn: its planes lie apart
_LARGEST_NUMBERS = (2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)  # for these the gap is enough
_EIGHT_BITS = 255
_said: set[str] = set()


def sentinels(values: Float, valid: Mask) -> dict[str, Mask]:
    """Find the values that tools write where nothing was measured, such as -1, 65535 and 1e10.

    Negative values are sentinels in whole numbers, and in other maps unless more than a fifth of
    the pixels are negative, with more than one value. The largest and the smallest value are
    sentinels if they are repeated and isolated: by four times the range of the other values, or
    by 5 % of it for the largest numbers of 16 and 32 bits. A map of 8 bits, whole numbers from 0
    to 255, has its end values in use.

    Args:
        values: (H, W).
        valid: (H, W), where the values are valid as far as is known.

    Returns:
        Description of a sentinel -> its pixels, (H, W).
    """
    found: dict[str, Mask] = {}
    kept = values[valid]
    is_whole = bool((kept == np.rint(kept)).all())
    negative = valid & (values < 0)
    below = values[negative]
    if below.size and (
        is_whole or below.min() == below.max() or below.size <= _MOST_NEGATIVE * kept.size
    ):
        found['negative values'] = negative
        kept = kept[kept >= 0]
    if not kept.size or (is_whole and kept.max() <= _EIGHT_BITS):
        return found
    steps, counts = np.unique(kept, return_counts=True)
    for is_top in (True, False):
        if len(steps) > 2 and _is_sentinel(steps, counts, is_top, kept.size):
            value = steps[-1 if is_top else 0]
            found[f'the value {value:g}'] = valid & (values == value)
    return found


def _is_sentinel(steps: Float, counts: NDArray[np.int64], is_top: bool, num_pixels: int) -> bool:
    """Whether an end of sorted distinct values, (N,) with N > 2, is repeated and isolated."""
    end, rest = (steps[-1], steps[:-1]) if is_top else (steps[0], steps[1:])
    count = counts[-1 if is_top else 0]
    gap = float(abs(end - (rest[-1] if is_top else rest[0])))
    spread = float(rest[-1] - rest[0])
    if count < max(2, _LEAST_SHARE * num_pixels) or gap < _LEAST_GAP * (gap + spread):
        return False
    if is_top and float(end) in [float(np.float32(one)) for one in _LARGEST_NUMBERS]:
        return True
    return gap > _CLEAR_GAP * spread and len(rest) >= _FEWEST_VALUES


def _say_once(name: str, source: object, count: int, num_pixels: int) -> None:
    if name not in _said:
        _said.add(name)
        logging.getLogger(__name__).warning(
            f'{source}: {name} in {count} of {num_pixels} pixels mean "not measured", here and in '
            'other maps; their depth is that of the nearest pixel'
        )


def check_larger_is(larger_is: str) -> None:
    """Check the option."""
    if larger_is not in ('far', 'near'):
        raise ValueError(f"larger_is must be 'far' or 'near', got {larger_is!r}")


def require_orientation(depth_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    """Refuse upright depth for a wide image and the other way round.

    A nearly square map or image fits any other: sizes are rounded.

    Raises:
        ValueError: the longer sides differ.
    """
    sides = _longer_side(depth_hw), _longer_side(image_hw)
    if None not in sides and sides[0] != sides[1]:
        raise ValueError(
            f'depth must lie as the image does, got (height, width) {tuple(depth_hw)} for an '
            f'image of {tuple(image_hw)}; is it transposed, or of an image that EXIF turned?'
        )


def _warn_of_aspect(path: Path, depth_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    """Say once that depth has other proportions than its image."""
    ratio = (depth_hw[0] * image_hw[1]) / (depth_hw[1] * image_hw[0])
    if max(ratio, 1 / ratio) > _NEARLY_SQUARE and 'aspect' not in _said and min(depth_hw) > 1:
        _said.add('aspect')
        logging.getLogger(__name__).warning(
            f'depth map {path}: its proportions, (height, width) {tuple(depth_hw)}, are not those '
            f'of the image, {tuple(image_hw)}; here and in other maps, depth is stretched over '
            'the image: is it of a part of it?'
        )


def _longer_side(shape: tuple[int, ...]) -> int | None:
    """Axis of the longer side; None of a nearly square shape."""
    height, width = shape
    if max(height, width) <= _NEARLY_SQUARE * min(height, width):
        return None
    return 0 if height > width else 1
