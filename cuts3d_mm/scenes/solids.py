"""Find the first surface that each ray meets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double

_NEAR = 1e-6  # hits closer than this are the camera itself
FLOOR, WALL = 0, 1  # labels; solids follow from 2


@dataclass(frozen=True)
class Rays:
    """Rays from one eye; the directions have z = 1, so that distance is depth."""

    eye: Double  # (3,)
    directions: Double  # (P, 3)


@dataclass(frozen=True)
class Solid:
    """A solid on the floor, turned around the vertical axis."""

    shape: str  # 'sphere', 'box' or 'cylinder'
    center: tuple[float, float, float]  # metres, y up
    half_size: tuple[float, float, float]  # half extent along its own axes, metres
    yaw: float  # radians


@dataclass(frozen=True)
class Surface:
    """What P rays meet."""

    distance_z: Double  # (P,) metres along z
    label: NDArray[np.int64]  # (P,) FLOOR, WALL, 2 + index of the solid
    normal: Double  # (P, 3) world, unit length
    local: Double  # (P, 3) position in the object's own axes, metres


def cast_rays(rays: Rays, solids: list[Solid], wall_z: float) -> Surface:
    """Find the nearest of floor (y = 0), back wall and solids along each ray."""
    down = rays.directions[:, 1] < -1e-9
    floor = np.full(len(rays.directions), np.inf)
    floor[down] = -rays.eye[1] / rays.directions[down, 1]
    wall = np.full(len(rays.directions), wall_z - rays.eye[2])
    nearest = np.minimum(floor, wall)
    label = np.where(floor <= wall, FLOOR, WALL)
    local = rays.eye + nearest[:, None] * rays.directions
    normal = np.where((label == FLOOR)[:, None], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0])
    for index, solid in enumerate(solids):
        turn = _turn(solid.yaw)
        eye = (rays.eye - solid.center) @ turn / solid.half_size
        directions = rays.directions @ turn / solid.half_size
        distance, unit_normal = _HITS[solid.shape](eye, directions)
        hit = distance < nearest
        nearest[hit], label[hit] = distance[hit], index + 2
        place = eye + distance[hit, None] * directions[hit]
        local[hit] = place * solid.half_size
        # A normal of the unit shape is scaled by the inverse of the half size.
        outward = (unit_normal[hit] / solid.half_size) @ turn.T
        normal[hit] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return Surface(nearest, label, normal, local)


def _turn(yaw: float) -> Double:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def _hit_sphere(eye: Double, directions: Double) -> tuple[Double, Double]:
    distance = _nearer_root(eye, directions, [0, 1, 2])
    return distance, eye + _finite(distance)[:, None] * directions


def _hit_cylinder(eye: Double, directions: Double) -> tuple[Double, Double]:
    side = _nearer_root(eye, directions, [0, 2])
    side[np.abs(eye[1] + _finite(side) * directions[:, 1]) > 1] = np.inf
    with np.errstate(divide='ignore', invalid='ignore'):  # a level ray meets no lid
        cap = (np.sign(eye[1]) - eye[1]) / directions[:, 1]
    place = eye + _finite(cap)[:, None] * directions
    cap[~(cap > _NEAR) | (place[:, 0] ** 2 + place[:, 2] ** 2 > 1)] = np.inf
    distance = np.minimum(side, cap)
    place = eye + _finite(distance)[:, None] * directions
    around = place * [1.0, 0.0, 1.0]
    return distance, np.where((cap < side)[:, None], [0.0, np.sign(eye[1]), 0.0], around)


def _hit_box(eye: Double, directions: Double) -> tuple[Double, Double]:
    with np.errstate(divide='ignore', invalid='ignore'):
        first, second = (-1 - eye) / directions, (1 - eye) / directions
    enter, leave = np.minimum(first, second), np.maximum(first, second)
    distance = enter.max(axis=1)
    distance = np.where((distance > leave.min(axis=1)) | (distance < _NEAR), np.inf, distance)
    axis = enter.argmax(axis=1)
    normal = np.zeros_like(directions)
    index = np.arange(len(axis))
    normal[index, axis] = -np.sign(directions[index, axis])
    return distance, normal


def _nearer_root(eye: Double, directions: Double, axes: list[int]) -> Double:
    """Distance at which a ray enters the unit sphere or tube over some axes; inf if never."""
    squared = (directions[:, axes] ** 2).sum(axis=1)
    half = directions[:, axes] @ eye[axes]
    inner = half**2 - squared * (eye[axes] @ eye[axes] - 1)
    root = (-half - np.sqrt(np.maximum(inner, 0))) / np.maximum(squared, 1e-12)
    return np.where((inner < 0) | (root < _NEAR), np.inf, root)


def _finite(distance: Double) -> Double:
    return np.where(np.isfinite(distance), distance, 0)


_HITS = {'sphere': _hit_sphere, 'box': _hit_box, 'cylinder': _hit_cylinder}
