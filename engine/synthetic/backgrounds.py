"""What stands behind persons: a studio, and smooth outdoor, indoor and blurred places.

A background is a colour for every ray of the camera, found from the ray's direction and from where it meets the ground or
a wall, so that cameras of one place see one place. All are smooth: a small network has to find the person, not the edges.

World frame: y up, ground at y = 0, metres. Shapes: N rays (half resolution), H, W image. Colours are RGB in [0, 1].
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from engine.synthetic.camera import PinholeCamera


@dataclass(frozen=True)
class Place:
    """A background. `kind` is studio, outdoor, indoor or blurred; the meaning of the colours follows it."""

    kind: str
    ground: np.ndarray
    ground_second: np.ndarray
    low: np.ndarray
    high: np.ndarray
    far: np.ndarray
    room_m: float
    waves: np.ndarray
    """Random phases and frequencies, (8, 3)."""
    blobs: np.ndarray
    """Soft spots: yaw, elevation, radius (rad), strength, red, green, blue; (K, 7)."""

    def picture(self, camera: PinholeCamera, hw: tuple[int, int]) -> np.ndarray:
        """(H, W, 3) float32."""
        height, width = hw
        small = ((height + 1) // 2, (width + 1) // 2)
        direction_N3 = camera.rays(small, 2)
        colour = _studio(self, camera, direction_N3) if self.kind == "studio" else _wild(self, camera, direction_N3)
        picture = np.clip(colour, 0, 1).astype(np.float32).reshape(*small, 3)
        return cv2.resize(cv2.GaussianBlur(picture, (0, 0), 0.9), (width, height), interpolation=cv2.INTER_LINEAR)


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float], hue: tuple[float, float] = (0, 1)
) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value)))


def studio_place() -> Place:
    """The one studio: grey-green walls, a grey floor with a carpet, no spots."""
    rng = np.random.default_rng(5)
    waves = rng.uniform(0.4, 1.4, (8, 3))
    return Place(
        "studio", np.array([0.42, 0.41, 0.40]), np.array([0.50, 0.36, 0.30]), np.array([0.44, 0.52, 0.46]), np.array([0.58, 0.62, 0.58]),
        np.array([0.3, 0.3, 0.3]), 4.5, waves, np.zeros((0, 7)),
    )  # fmt: skip


def wild_place(rng: np.random.Generator) -> Place:
    """A random place outside the studio."""
    kind = str(rng.choice(["outdoor", "indoor", "blurred"], p=[0.5, 0.25, 0.25]))
    if kind == "outdoor":
        ground = _colour(rng, (0.05, 0.5), (0.4, 0.9), (0.05, 0.4))
        low, high = _colour(rng, (0.0, 0.25), (0.75, 1.0)), _colour(rng, (0.1, 0.7), (0.5, 1.0), (0.5, 0.68))
        far = _colour(rng, (0.1, 0.6), (0.2, 0.7), (0.2, 0.65))
    else:
        ground = _colour(rng, (0.0, 0.35), (0.3, 0.9))
        low, high = _colour(rng, (0.0, 0.4), (0.35, 0.95)), _colour(rng, (0.0, 0.45), (0.3, 0.95))
        far = _colour(rng, (0.0, 0.5), (0.2, 0.9))
    count = int(rng.integers(3, 9))
    blobs = np.empty((count, 7))
    blobs[:, 0], blobs[:, 1] = rng.uniform(-np.pi, np.pi, count), rng.uniform(-0.3, 0.5, count)
    blobs[:, 2], blobs[:, 3] = rng.uniform(0.06, 0.4, count), rng.uniform(0.3, 0.9, count)
    blobs[:, 4:] = np.stack([_colour(rng, (0.0, 0.8), (0.15, 1.0)) for _ in range(count)])
    second = np.clip(ground * rng.uniform(0.7, 1.25), 0, 1)
    return Place(kind, ground, second, low, high, far, float(rng.uniform(5, 10)), rng.uniform(0.3, 6.28, (8, 3)), blobs)


def _on_ground(camera: PinholeCamera, direction_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rays go down, and where they meet the ground (x and z; far away for those that do not)."""
    down = direction_N3[:, 1] < -1e-3
    reach = camera.position[1] / np.where(down, -direction_N3[:, 1], 1e-3)
    return down, camera.position[0] + reach * direction_N3[:, 0], camera.position[2] + reach * direction_N3[:, 2]


def _walls(camera: PinholeCamera, direction_N3: np.ndarray, half_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays meet the walls of a square room about the origin: height, place along the wall, which pair of walls."""
    reach_N2 = (np.sign(direction_N3[:, [0, 2]]) * half_m - camera.position[[0, 2]]) / np.where(
        direction_N3[:, [0, 2]] == 0, 1e-9, direction_N3[:, [0, 2]]
    )
    pair = reach_N2.argmin(1)
    reach = reach_N2.min(1)
    point_N3 = camera.position + reach[:, None] * direction_N3
    return point_N3[:, 1], np.where(pair == 0, point_N3[:, 2], point_N3[:, 0]), pair


def _studio(place: Place, camera: PinholeCamera, direction_N3: np.ndarray) -> np.ndarray:
    _, x, z = _on_ground(camera, direction_N3)
    height, along, pair = _walls(camera, direction_N3, place.room_m)
    floor = height < 0
    carpet = _soft(2.2 - np.maximum(np.abs(x), np.abs(z)), 0.05)[:, None]
    wall = place.low + (place.high - place.low) * np.clip(height / 3, 0, 1)[:, None]
    wall = wall * np.where(pair == 0, 1.0, 0.9)[:, None] * (1 - 0.12 * (np.sin(along * 2.1) > 0.97))[:, None]
    ground = (place.ground + (place.ground_second - place.ground) * carpet) * (1.05 - 0.03 * np.hypot(x, z).clip(0, 6))[:, None]
    return np.where(floor[:, None], ground, wall)


def _wild(place: Place, camera: PinholeCamera, direction_N3: np.ndarray) -> np.ndarray:
    yaw, elevation = np.arctan2(direction_N3[:, 0], direction_N3[:, 2]), np.arcsin(np.clip(direction_N3[:, 1], -1, 1))
    down, x, z = _on_ground(camera, direction_N3)
    rise = np.clip(elevation / 0.7, 0, 1)[:, None]
    behind = place.low + (place.high - place.low) * rise
    if place.kind == "outdoor":
        hills = 0.05 + sum(0.035 / (k + 1) * np.sin((k + 1) * 2 * yaw + place.waves[k, 0]) for k in range(4))
        behind = behind + (place.far - behind) * (0.85 * _soft(hills - elevation, 0.012))[:, None]
        floor = down
    elif place.kind == "indoor":
        height, along, pair = _walls(camera, direction_N3, place.room_m)
        behind = (
            np.where((pair == 0)[:, None], place.low, place.low * 0.75 + place.far * 0.2) * (0.85 + 0.1 * np.clip(height, 0, 3))[:, None]
        )
        panel = _soft(0.9 - np.abs((along + place.waves[0, 0]) % 4 - 2), 0.03) * _soft(0.8 - np.abs(height - 1.7), 0.03)
        behind = behind + (place.high - behind) * (0.7 * panel)[:, None]
        floor = height < 0
    else:
        floor = down
    for yaw_b, elevation_b, radius, strength, *colour in place.blobs:
        turn = (yaw - yaw_b + np.pi) % (2 * np.pi) - np.pi
        far = (turn**2 + (elevation - elevation_b) ** 2) / radius**2
        behind = behind + (np.array(colour) - behind) * (strength * np.exp(-(far**2)))[:, None]
    distance = np.hypot(x - camera.position[0], z - camera.position[2])
    patches = sum(np.sin(place.waves[k, 0] * x * 0.6 + place.waves[k, 1] * z * 0.6 + place.waves[k, 2]) for k in range(3, 6)) / 3
    near = np.exp(-distance / 12)[:, None]
    ground = place.ground + (place.ground_second - place.ground) * ((0.5 + 0.5 * patches)[:, None] * near)
    if place.kind == "blurred":
        mix = _soft(-elevation - 0.02, 0.08)[:, None]
        return behind + (ground - behind) * mix
    return np.where(floor[:, None], ground * (0.8 + 0.2 * near), behind)


def _soft(value: np.ndarray, width: float) -> np.ndarray:
    """0 below, 1 above zero, smooth over `width`."""
    return np.clip(value / width + 0.5, 0, 1)
