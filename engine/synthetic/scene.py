"""Who stands where: persons with poses, places on the ground, a camera aimed at them, light, and things in front.

World frame: y up, ground at y = 0, metres. Camera frame: x right, y down, z forward. Pixels: origin at the centre of the
top-left pixel. Shapes: P persons, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from engine.body.pose_sampling import sample_poses
from engine.synthetic.atlas import Mannequin, PosedBodies
from engine.synthetic.backgrounds import Place
from engine.synthetic.camera import PinholeCamera, aim
from engine.synthetic.outfits import Outfit
from schemas.skeletons import SMPL24


@dataclass(frozen=True)
class Actor:
    """A person's looks and shape, which stay from picture to picture."""

    outfit: Outfit
    betas_10: np.ndarray


@dataclass(frozen=True)
class Light:
    """A sun or lamp (direction towards it, world) and what comes from above and below."""

    direction: np.ndarray
    colour: np.ndarray
    above: np.ndarray
    below: np.ndarray


@dataclass(frozen=True)
class Cover:
    """A smooth thing between camera and persons: a rounded shape with a gradient. Pixels."""

    centre: np.ndarray
    half_size: np.ndarray
    turn: float
    power: float
    colours: np.ndarray


@dataclass(frozen=True)
class Cast:
    """P posed persons before they are placed: SMPL pose (world, y up), betas and meshes without translation."""

    actors: tuple[Actor, ...]
    pose_P72: np.ndarray
    betas_P10: np.ndarray
    bodies: PosedBodies
    lift_P: np.ndarray
    """How far above the ground each person's lowest point is, metres."""
    first_extra: int
    """Persons from here on are far-off company that is not annotated one by one."""

    def extents(self) -> tuple[np.ndarray, np.ndarray]:
        """Height of the mesh and half its width, each (P,), metres."""
        span = np.ptp(self.bodies.vertices_PV3, axis=1)
        return span[:, 1], np.maximum(span[:, 0], span[:, 2]) / 2

    def placed(self, spots_P2: np.ndarray) -> np.ndarray:
        """Translations (P, 3) that bring the middle of each body over its spot (x, z) and its lowest point to its lift."""
        vertices = self.bodies.vertices_PV3
        middle = (vertices.min(1) + vertices.max(1)) / 2
        return np.stack([spots_P2[:, 0] - middle[:, 0], self.lift_P - vertices[:, :, 1].min(1), spots_P2[:, 1] - middle[:, 2]], 1)


@dataclass(frozen=True)
class Scene:
    """Everything a picture shows. `transl_P3` is in the world."""

    hw: tuple[int, int]
    camera: PinholeCamera
    place: Place
    light: Light
    cast: Cast
    transl_P3: np.ndarray
    covers: tuple[Cover, ...]
    noise: float
    blur_px: float
    exposure: float
    seat_colour: np.ndarray


@dataclass(frozen=True)
class PoseStyle:
    """How persons of a set hold themselves: pose modes (engine.body.postures.MODES), and how far they lean."""

    modes: tuple[str, ...]
    lean_deg: float
    airborne: float


_WEIGHT = {"Pelvis": 0.25, "Chest": 0.3, "Head": 0.08, "L_Knee": 0.13, "R_Knee": 0.13, "L_Elbow": 0.055, "R_Elbow": 0.055}
"""Share of the body's weight near each joint."""

WILD_POSES = PoseStyle(
    (
        "standing",
        "walking",
        "gesturing",
        "hands on hips",
        "crossed arms",
        "reaching up",
        "bending",
        "squatting",
        "sitting",
        "kneeling",
        "lunging",
        "running",
        "sports",
        "sports",
        "free",
    ),
    9.0,
    0.08,
)
OUTDOOR_POSES = PoseStyle(
    ("walking", "walking", "standing", "gesturing", "hands on hips", "sitting", "lunging", "running", "bending", "free"), 5.0, 0.02
)


def strike_poses(rng: np.random.Generator, mannequin: Mannequin, actors: tuple[Actor, ...], style: PoseStyle, extras: int = 0) -> Cast:
    """The actors in random poses, in balance but for some lean, facing any way; the last `extras` are far-off company."""
    count = len(actors)
    lean = Rotation.from_euler("xz", rng.normal(0, np.radians(style.lean_deg), (count, 2)))
    root = Rotation.from_euler("y", rng.uniform(-np.pi, np.pi, (count, 1))) * lean
    pose = np.concatenate([root.as_rotvec(), sample_poses(count, rng, style.modes), np.zeros((count, 6))], 1)
    betas = np.stack([a.betas_10 for a in actors]).astype(np.float32).astype(np.float64)
    bodies = mannequin.pose(pose, betas)
    sits = _thighs_level(bodies)
    lift = np.where((rng.random(count) < style.airborne) & ~sits, rng.uniform(0.05, 0.4, count), 0.0)
    pose[:, :3] = (_balance(bodies, sits) * root).as_rotvec()
    pose = pose.astype(np.float32).astype(np.float64)
    return Cast(actors, pose, betas, mannequin.pose(pose, betas), lift, count - extras)


def _thighs_level(bodies: PosedBodies) -> np.ndarray:
    """Who sits, on whatever: (P,) bool."""
    height = bodies.joints[SMPL24.name][..., 1]
    knees = np.stack([height[:, SMPL24.index(knee)] for knee in ("L_Knee", "R_Knee")], 1)
    return (np.abs(knees - height[:, :1]) < 0.26).all(1)


def _balance(bodies: PosedBodies, sits: np.ndarray) -> Rotation:
    """Turns that bring the weight of those who do not sit most of the way over what they stand on."""
    weight_P3 = sum(share * bodies.joints[SMPL24.name][:, SMPL24.index(joint)] for joint, share in _WEIGHT.items())
    turns = [Rotation.identity() for _ in sits]
    for p in np.flatnonzero(~sits):
        vertices_V3 = bodies.vertices_PV3[p, ::4]
        for _ in range(3):
            turned_V3 = turns[p].apply(vertices_V3)
            bears_V = np.exp((turned_V3[:, 1].min() - turned_V3[:, 1]) / 0.04)
            x, y, z = turns[p].apply(weight_P3[p]) - bears_V @ turned_V3 / bears_V.sum()
            aside = max(np.hypot(x, z), 1e-9)
            turns[p] = Rotation.from_rotvec(0.6 * np.arctan2(aside, y) / aside * np.array([-z, 0.0, x])) * turns[p]
    return Rotation.concatenate(turns)


def choose_light(rng: np.random.Generator) -> Light:
    """Any sun between low and high, warm to cold, hard to overcast."""
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.25, 1.3)
    direction = np.array([np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)])
    warm = 1 + rng.normal(0, 0.06) * np.array([1.0, 0.2, -1.0])
    sun = rng.uniform(0.25, 0.75)
    above = (1.08 - 0.6 * sun) * rng.uniform(0.95, 1.15)
    return Light(direction, sun * warm, above * (2 - warm), above * rng.uniform(0.45, 0.75) * warm)


def studio_light() -> Light:
    """Lamps of the studio, the same in every picture."""
    return Light(np.array([0.25, 0.93, 0.27]), np.full(3, 0.4), np.full(3, 0.75), np.full(3, 0.5))


@dataclass(frozen=True)
class Framing:
    """How a picture of a set is composed."""

    people: tuple[float, ...]
    """Chances of 1, 2, 3... persons."""
    height_px: tuple[float, float]
    pitch_deg: tuple[float, float, float, float]
    """Mean, deviation, least and greatest angle of the camera below the horizon."""
    truncated: float
    """Chance that the main person is partly outside."""
    covered: float
    """Chance of a thing in front."""
    company: float
    """Chance of three far-off persons."""


def choose_focal(rng: np.random.Generator, hw: tuple[int, int]) -> float:
    """A focal length in pixels, of a field of view of 32 to 62 degrees along the longer side."""
    return float(0.5 * max(hw) / np.tan(np.radians(rng.uniform(32, 62)) / 2))


def compose(
    rng: np.random.Generator,
    hw: tuple[int, int],
    focal: float,
    cast: Cast,
    framing: Framing,
    heading: float = 0.0,
    origin: np.ndarray | None = None,
) -> tuple[PinholeCamera, np.ndarray]:
    """A camera about the first person, and everybody's translation (P, 3); nobody stands in anybody.

    The first person stands at `origin` (x, z); the camera looks along the heading plus half a turn.
    """
    height_P, radius_P = cast.extents()
    height, width = hw
    limit = min(framing.height_px[1], 0.86 * height)
    tall_px = rng.uniform(min(framing.height_px[0], 0.8 * limit), limit)
    mean, deviation, least, greatest = np.radians(framing.pitch_deg)
    pitch = float(np.clip(rng.normal(mean, deviation), least, greatest))
    distance = focal * max(height_P[0], 1.25, 0.9 * 2 * radius_P[0]) / tall_px
    shift = rng.uniform(-0.12, 0.12, 2) * (1, 0.35)
    if rng.random() < framing.truncated:
        shift = np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.42), rng.uniform(-0.05, 0.3)])
    below = pitch + np.arctan(shift[1] * height / focal)
    eye = max(0.25, cast.lift_P[0] + height_P[0] / 2 + distance * np.tan(below))
    aside = shift[0] * width / focal * distance
    spots = [np.array([0.0, 0.0])]
    for i in range(1, cast.first_extra):
        spots.append(_free_spot(rng, spots, radius_P, i, distance, aside, width / focal))
    far, off = distance * rng.uniform(2.2, 3.2), rng.uniform(-0.35, 0.35)
    for i in range(cast.first_extra, len(cast.actors)):
        side = (i - cast.first_extra) * 0.55 + rng.uniform(-0.1, 0.1)
        spots.append(np.array([aside + off * width / focal * far + side, distance - far - rng.uniform(0, 0.5)]))
    turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    origin = np.zeros(2) if origin is None else origin
    ground = turn @ (aside, distance) + origin
    position = np.array([ground[0], eye, ground[1]])
    camera = aim(position, np.pi + heading, pitch, rng.normal(0, np.radians(2.5)), focal, hw)
    return camera, cast.placed(np.array(spots) @ turn.T + origin)


def _free_spot(
    rng: np.random.Generator, taken: list[np.ndarray], radius_P: np.ndarray, i: int, distance: float, aside: float, span: float
) -> np.ndarray:
    """A place in view beside or behind those who stand already; the last try is far behind."""
    for _ in range(12):
        reach = distance * rng.uniform(0.85, 1.5)
        spot = np.array([aside + rng.uniform(-0.43, 0.43) * span * reach, distance - reach])
        apart = [np.linalg.norm(spot - other) - 0.75 * (radius_P[i] + radius_P[j]) for j, other in enumerate(taken)]
        turned = [abs((spot[0] - aside) / reach - (other[0] - aside) / (distance - other[1])) for other in taken]
        if min(apart) > 0.1 and min(turned) > 0.1:
            return spot
    return np.array([aside + rng.uniform(-0.5, 0.5) * span * distance * 2, -distance - 1.2 * i])


def choose_covers(rng: np.random.Generator, camera: PinholeCamera, cast: Cast, transl_P3: np.ndarray, chance: float) -> tuple[Cover, ...]:
    """Now and then something in front of a person's legs, side or middle; at most about half of the person."""
    covers = []
    for i in range(cast.first_extra):
        if rng.random() >= chance:
            continue
        pixels = camera.to_pixels(camera.to_camera(cast.bodies.vertices_PV3[i] + transl_P3[i]))
        low, high = pixels.min(0), pixels.max(0)
        size = high - low
        where = rng.choice(["legs", "side", "anywhere"], p=[0.5, 0.25, 0.25])
        if where == "legs":
            centre, half = np.array([rng.uniform(low[0], high[0]), high[1]]), size * (rng.uniform(0.3, 0.9), rng.uniform(0.15, 0.4))
        elif where == "side":
            centre, half = (
                np.array([rng.choice([low[0], high[0]]), rng.uniform(low[1], high[1])]),
                size * (rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.6)),
            )
        else:
            centre, half = rng.uniform(low, high), size * rng.uniform(0.1, 0.25, 2)
        colours = rng.uniform(0.05, 1.0, (1, 3)) * rng.uniform(0.55, 1.1, (2, 1))
        covers.append(Cover(centre, half, rng.normal(0, 0.3), float(rng.choice([2.0, 2.5, 4.0, 8.0])), np.clip(colours, 0, 1)))
    return tuple(covers)
