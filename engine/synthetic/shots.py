"""Pictures of people with everything that is known of them, for writers of raw layouts and for the tests of their loaders.

World frame: y up, metres. Camera frame: x right, y down, z forward, `x_cam = rotation @ x_world + translation`. Pixels: origin at the
centre of the top-left pixel. Joints go by name; a name of several skeletons is the joint of the first of `_SOURCES` that has it, so
that all layouts written from a shot agree. Where a layout means a skeleton's own joints, as 3DPW means SMPL's, take `by_skeleton`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import wild_place
from engine.synthetic.camera import PinholeCamera, aim
from engine.synthetic.outfits import casual_outfit
from engine.synthetic.render import render
from engine.synthetic.scene import WILD_POSES, Actor, Cast, Framing, Scene, choose_focal, choose_light, compose, strike_poses
from schemas.skeletons import COCO17, H36M17, POSE2POSE33, SMPL24

_SOURCES = (H36M17, COCO17, POSE2POSE33, SMPL24)
_STAND_INS = {"Thorax": "Neck", "L_Toe": "L_Big_toe", "R_Toe": "R_Big_toe"}
"""Joints of published skeletons that no regressor here has: written at the joint that is nearest."""
_HEIGHT_PX = (0.4, 0.8)
_DISTANCE_M = 4.0


@dataclass(frozen=True)
class ShotPerson:
    """One person in the world: SMPL parameters of the open body and joints by name."""

    pose_72: np.ndarray
    betas_10: np.ndarray
    transl_3: np.ndarray
    """smplx's: added to the posed vertices."""
    root_3: np.ndarray
    """Rest pelvis, the point the root rotation turns about, without `transl_3`."""
    joints: dict[str, np.ndarray]
    """Joint name -> place (3)."""
    by_skeleton: dict[str, np.ndarray]
    """h36m17, coco17, pose2pose33 and smpl24 -> places (J, 3) in that skeleton's order."""

    def smpl_in_camera(self, camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
        """Pose (72) and translation (3) that pose the same vertices in the camera frame."""
        pose = self.pose_72.copy()
        pose[:3] = (Rotation.from_matrix(camera.rotation) * Rotation.from_rotvec(pose[:3])).as_rotvec()
        return pose, camera.to_camera(self.root_3 + self.transl_3) - self.root_3


@dataclass(frozen=True)
class Shot:
    """One picture: instant `instant` as seen by camera `view`."""

    instant: int
    view: int
    jpeg: bytes
    hw: tuple[int, int]
    camera: PinholeCamera
    persons: tuple[ShotPerson, ...]

    def joints_cam(self, person: int, names: tuple[str, ...]) -> np.ndarray:
        """Joints of a person by name, (J, 3), camera frame, metres."""
        return self.camera.to_camera(np.stack([self.persons[person].joints[name] for name in names]))

    def joints_img(self, person: int, names: tuple[str, ...]) -> np.ndarray:
        """Joints of a person by name, (J, 2), pixels, wherever they fall."""
        return self.camera.to_pixels(self.joints_cam(person, names))

    def inside(self, person: int, names: tuple[str, ...]) -> np.ndarray:
        """Which joints fall into the picture, (J,) bool."""
        pixels = self.joints_img(person, names)
        return ((pixels >= 0) & (pixels <= (self.hw[1] - 1, self.hw[0] - 1))).all(1)


@dataclass(frozen=True)
class TruePerson:
    """What a loader has to say of a person: only what the layout tells. `absent` joints must not be valid."""

    annotation_id: str | None
    joints_img: dict[str, np.ndarray]
    joints_cam: dict[str, np.ndarray] | None = None
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrueImage:
    """What a loader has to say of an image; `image_path` as in RawItem."""

    image_path: str
    persons: tuple[TruePerson, ...] = field(default_factory=tuple)


def true_person(shot: Shot, person: int, names: tuple[str, ...], annotation_id: str | None = None, has_3d: bool = False) -> TruePerson:
    """A person of a shot with joints `names`: those outside the picture are absent from its 2D truth, all are in its 3D truth."""
    inside = shot.inside(person, names)
    pixels, points = shot.joints_img(person, names), shot.joints_cam(person, names)
    return TruePerson(
        annotation_id,
        {name: pixels[i] for i, name in enumerate(names) if inside[i]},
        dict(zip(names, points, strict=True)) if has_3d else None,
        frozenset(name for i, name in enumerate(names) if not inside[i]),
    )


def make_shots(
    mannequin: Mannequin,
    seed: int,
    images: int,
    *,
    people: tuple[int, int] = (1, 2),
    hw: tuple[int, int] = (320, 320),
    views: int = 1,
    render_people: bool = False,
) -> list[Shot]:
    """`images` instants, each shot by `views` cameras, of at least people[0] and at most people[1] persons: images * views shots.

    With several views the cameras stand still from instant to instant, around the studio's middle. Without `render_people` pictures are
    coloured noise, which takes next to no time.
    """
    shots = []
    for instant in range(images):
        rng = np.random.default_rng([seed, 401, instant])
        actors = tuple(
            Actor(casual_outfit(rng), np.clip(rng.normal(0, 1, 10), -2, 2)) for _ in range(int(rng.integers(people[0], people[1] + 1)))
        )
        cast = strike_poses(rng, mannequin, actors, WILD_POSES)
        framing = Framing((1.0,), (_HEIGHT_PX[0] * hw[0], _HEIGHT_PX[1] * hw[0]), (6, 5, 0, 20), 0.0, 0.0, 0.0)
        camera, transl_P3 = compose(rng, hw, choose_focal(rng, hw), cast, framing, heading=rng.uniform(-np.pi, np.pi))
        if views > 1:
            spots = rng.uniform(-0.3, 0.3, (len(actors), 2)) + np.stack([np.arange(len(actors)) * 0.9, np.zeros(len(actors))], 1)
            transl_P3 = cast.placed(spots)
        cameras = [camera] if views == 1 else [_studio_camera(seed, view, views, hw) for view in range(views)]
        persons = tuple(_person(cast, p, transl_P3[p]) for p in range(len(actors)))
        for view, camera in enumerate(cameras):
            if render_people:
                scene = Scene(hw, camera, wild_place(rng), choose_light(rng), cast, transl_P3, (), 1.0, 0.3, 1.0, np.full(3, 0.5))
                picture = render(scene, mannequin.atlas, rng).image_HW3
            else:
                coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
                picture = cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_LINEAR)
            shots.append(Shot(instant, view, _jpeg(picture), hw, camera, persons))
    return shots


def _person(cast: Cast, p: int, transl_3: np.ndarray) -> ShotPerson:
    places = {name: joints[p] + transl_3 for name, joints in cast.bodies.joints.items()}
    return ShotPerson(cast.pose_P72[p], cast.betas_P10[p], transl_3, cast.bodies.root_P3[p], _named(places), places)


def _studio_camera(seed: int, view: int, views: int, hw: tuple[int, int]) -> PinholeCamera:
    rng = np.random.default_rng([seed, 402, view])
    angle = 2 * np.pi * view / views + rng.uniform(-0.2, 0.2)
    away = _DISTANCE_M + rng.uniform(0, 0.8)
    position = np.array([away * np.sin(angle), rng.uniform(1.2, 1.8), away * np.cos(angle)])
    return aim(position, np.pi + angle, 0.12, rng.normal(0, 0.02), 1.15 * hw[0], hw)


def _named(joints: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for skeleton in _SOURCES:
        for name, place in zip(skeleton.joints, joints[skeleton.name], strict=True):
            found.setdefault(name, place)
    return found | {name: found[other] for name, other in _STAND_INS.items()}


def _jpeg(image_HW3: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image_HW3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
