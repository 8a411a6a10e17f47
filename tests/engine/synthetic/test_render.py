"""A person seen from the front and from behind: left is left, up is up, the face is in front, things hide persons."""

import numpy as np
import pytest

from engine.synthetic.atlas import Mannequin
from engine.synthetic.backgrounds import studio_place
from engine.synthetic.camera import aim
from engine.synthetic.outfits import casual_outfit, paint, studio_outfit, thickness
from engine.synthetic.render import Picture, render
from engine.synthetic.scene import OUTDOOR_POSES, WILD_POSES, Actor, Cast, Cover, Scene, strike_poses, studio_light
from schemas.skeletons import COCO17


def rest_scene(mannequin: Mannequin, yaw: float, covers: tuple[Cover, ...] = ()) -> Scene:
    """One person in rest pose, turned by `yaw` (0: facing the camera), four metres away."""
    actor = Actor(studio_outfit(np.random.default_rng(0)), np.zeros(10))
    pose = np.zeros((1, 72))
    pose[0, 1] = yaw
    cast = Cast((actor,), pose, np.zeros((1, 10)), mannequin.pose(pose, np.zeros((1, 10))), np.zeros(1), 1)
    camera = aim(np.array([0.0, 0.9, 4.0]), np.pi, 0.0, 0.0, 300.0, (240, 240))
    return Scene(
        (240, 240), camera, studio_place(), studio_light(), cast, cast.placed(np.zeros((1, 2))), covers, 0.0, 0.0, 1.0, np.full(3, 0.5)
    )


def shoot(mannequin: Mannequin, scene: Scene) -> tuple[Picture, np.ndarray, np.ndarray]:
    """Picture, COCO joints in pixels and which of them are seen."""
    picture = render(scene, mannequin.atlas, np.random.default_rng(0))
    seen = scene.camera.to_camera(scene.cast.bodies.joints["coco17"][0] + scene.transl_P3[0])
    pixels = scene.camera.to_pixels(seen)
    return picture, pixels, picture.sees(0, pixels, seen[:, 2])


@pytest.mark.parametrize(("yaw", "faces_camera"), [(0.0, True), (np.pi, False)])
def test_left_and_front(mannequin: Mannequin, yaw: float, faces_camera: bool) -> None:
    picture, pixels, seen = shoot(mannequin, rest_scene(mannequin, yaw))
    at = {name: pixels[i] for i, name in enumerate(COCO17.joints)}
    for joint in ("Shoulder", "Wrist", "Hip", "Ankle", "Eye"):
        assert (at[f"L_{joint}"][0] > at[f"R_{joint}"][0]) == faces_camera
    assert at["Nose"][1] < at["L_Hip"][1] < at["L_Ankle"][1]
    assert seen[COCO17.index("Nose")] == faces_camera and seen[COCO17.index("L_Eye")] == faces_camera
    assert all(seen[COCO17.index(j)] for j in ("L_Wrist", "R_Wrist", "L_Knee", "R_Knee"))
    feet = np.flatnonzero((picture.owner_HW == 0).any(1))[-1]
    assert abs(feet - at["L_Ankle"][1]) < 0.12 * 300 / 4 + 2, "the soles are just below the ankles"


def test_hands_of_the_picture_are_where_the_joints_are(mannequin: Mannequin) -> None:
    picture, pixels, _ = shoot(mannequin, rest_scene(mannequin, 0.0))
    columns = np.flatnonzero((picture.owner_HW == 0).any(0))
    wrists = pixels[[COCO17.index("R_Wrist"), COCO17.index("L_Wrist")], 0]
    assert 5 < wrists[0] - columns[0] < 20 and 5 < columns[-1] - wrists[1] < 20


def test_a_cover_hides(mannequin: Mannequin) -> None:
    cover = Cover(np.array([120.0, 200.0]), np.array([80.0, 70.0]), 0.0, 8.0, np.full((2, 3), 0.5))
    picture, _, seen = shoot(mannequin, rest_scene(mannequin, 0.0, (cover,)))
    assert not seen[COCO17.index("L_Ankle")] and not seen[COCO17.index("R_Knee")] and seen[COCO17.index("Nose")]
    assert picture.seen_P[0] < 0.8 * picture.covered_P[0]


def test_paint_and_thickness(mannequin: Mannequin) -> None:
    atlas = mannequin.atlas
    for seed in range(30):
        outfit = casual_outfit(np.random.default_rng(seed))
        colours = paint(outfit, atlas, atlas.rest_V3)
        assert colours.shape == atlas.rest_V3.shape and colours.min() >= 0 and colours.max() < 1.4
        np.testing.assert_allclose(colours[np.argmax(atlas.rest_V3[:, 0])], outfit.skin, atol=0.08)
        loose = thickness(outfit, atlas)
        assert loose.min() >= 0 and loose.max() < 0.05


@pytest.mark.parametrize("style", [WILD_POSES, OUTDOOR_POSES])
def test_persons_stand_upright_on_the_ground(mannequin: Mannequin, style) -> None:
    rng = np.random.default_rng(2)
    actors = tuple(Actor(casual_outfit(rng), rng.normal(0, 1, 10)) for _ in range(60))
    cast = strike_poses(rng, mannequin, actors, style)
    low = (cast.bodies.vertices_PV3[:, :, 1] + cast.placed(np.zeros((60, 2)))[:, None, 1]).min(1)
    np.testing.assert_allclose(low, cast.lift_P, atol=1e-9)
    heads = cast.bodies.joints["coco17"][:, COCO17.index("Nose"), 1]
    feet = cast.bodies.joints["coco17"][:, [COCO17.index("L_Ankle"), COCO17.index("R_Ankle")], 1].mean(1)
    assert np.mean(heads > feet + 0.3) > 0.95
