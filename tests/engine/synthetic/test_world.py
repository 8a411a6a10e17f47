"""The written world: layouts, truth against pictures and 2D, the same bytes however many processes made it."""

import hashlib
import io
import json
import pickletools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engine.datasets.pickles import read_pickle
from engine.errors import AlreadyExists
from engine.synthetic.atlas import Mannequin
from engine.synthetic.config import SyntheticConfig, tiny_config
from engine.synthetic.mocap import TEST_STEP, TEST_SUBJECTS, TRAIN_STEP
from engine.synthetic.threedpw import OPENPOSE18, python2_pickle
from engine.synthetic.world import write_world
from schemas.skeletons import COCO17, H36M17, SMPL24

Tiny = tuple[SyntheticConfig, Path]


def body_of(mannequin: Mannequin, pose, betas, transl):
    tensors = [torch.as_tensor(np.asarray(v, np.float32)).reshape(1, -1) for v in (pose, betas, transl)]
    return mannequin.body(*tensors)


def project(points: np.ndarray, focal, princpt) -> np.ndarray:
    return points[:, :2] / points[:, 2:] * np.asarray(focal) + np.asarray(princpt)


def test_human36m(tiny: Tiny, mannequin: Mannequin) -> None:
    config, root = tiny
    folder = root / "human36m" / "annotations"
    subjects = sorted(int(p.name[16:-10]) for p in folder.glob("*_data.json"))
    assert set(TEST_SUBJECTS) <= set(subjects)
    total = 0
    for subject in subjects:
        data, cameras, joints, fits = (
            json.loads((folder / f"Human36M_subject{subject}_{part}.json").read_text())
            for part in ("data", "camera", "joint_3d", "SMPL_NeuralAnnot")
        )
        assert set(cameras) == {"1", "2", "3", "4"}
        for image, annotation in zip(data["images"], data["annotations"], strict=True):
            total += 1
            assert annotation["image_id"] == image["id"] and annotation["id"] is not None and len(annotation["keypoints_vis"]) == 17
            step = TEST_STEP if subject in TEST_SUBJECTS else TRAIN_STEP
            assert image["frame_idx"] % step == 0 and image["subject"] == subject and 2 <= image["action_idx"] <= 16
            assert image["cam_idx"] == 4 or subject not in TEST_SUBJECTS
            action, subaction, cam, frame = (image[k] for k in ("action_idx", "subaction_idx", "cam_idx", "frame_idx"))
            stem = f"s_{subject:02d}_act_{action:02d}_subact_{subaction:02d}_ca_{cam:02d}"
            assert image["file_name"] == f"{stem}/{stem}_{frame + 1:06d}.jpg"
            picture = cv2.imread(str(root / "human36m" / "images" / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3)
            camera = cameras[str(cam)]
            rotation, translation = np.array(camera["R"]), np.array(camera["t"])
            assert np.linalg.det(rotation) == pytest.approx(1)
            world = np.array(joints[str(action)][str(subaction)][str(frame)])
            assert world.shape == (17, 3) and world[H36M17.index("Head_top"), 2] > world[H36M17.index("Pelvis"), 2], "z is up"
            pixels = project(world @ rotation.T + translation, camera["f"], camera["c"])
            fit = fits[str(action)][str(subaction)][str(frame)]
            body = body_of(mannequin, fit["pose"], fit["shape"], fit["trans"])
            fitted = mannequin.body.regress(body.vertices_BV3, H36M17.name)[0].numpy() @ rotation.T + translation / 1000
            assert np.abs(project(fitted, camera["f"], camera["c"]) - pixels).max() < 0.1
            _, y, w, h = annotation["bbox"]
            outline = project(body.vertices_BV3[0].numpy() @ rotation.T + translation / 1000, camera["f"], camera["c"])
            assert abs(outline[:, 1].min() - y) < 8 and abs(outline[:, 1].max() - (y + h)) < 8 and w > 5
    assert total == config.mocap_images + config.mocap_test_images


def test_coco(tiny: Tiny, mannequin: Mannequin) -> None:
    config, root = tiny
    content = json.loads((root / "coco" / "annotations" / "person_keypoints_train2017.json").read_text())
    assert set(content) == {"info", "licenses", "images", "annotations", "categories"}
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == config.itw_images
    for image in images.values():
        assert cv2.imread(str(root / "coco" / "train2017" / image["file_name"])).shape == (image["height"], image["width"], 3)
    truth = {row["annotation_id"]: row for row in pq.read_table(root / "truth" / "coco_train2017.parquet").to_pylist()}
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
    errors, inside, facing = [], [], []
    for annotation in content["annotations"]:
        fields = {"segmentation", "num_keypoints", "area", "iscrowd", "keypoints", "image_id", "bbox", "category_id", "id"}
        assert set(annotation) == fields and annotation["image_id"] in images
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        assert annotation["num_keypoints"] == (keypoints[:, 2] > 0).sum() and (keypoints[keypoints[:, 2] == 0] == 0).all()
        if annotation["iscrowd"]:
            assert set(annotation["segmentation"]) == {"counts", "size"} and annotation["num_keypoints"] == 0
            continue
        row = truth[str(annotation["id"])]
        assert row["file_name"] == images[annotation["image_id"]]["file_name"]
        body = body_of(mannequin, row["pose"], row["betas"], row["transl"])
        joints = mannequin.body.regress(body.vertices_BV3, COCO17.name)[0].numpy()
        pixels = project(joints, row["focal"], row["princpt"])
        labelled = keypoints[:, 2] > 0
        errors.append((keypoints[:, :2] - pixels)[labelled & (keypoints[:, :2] > 2).all(1)])
        polygons = [np.array(p, np.float32).reshape(-1, 1, 2) for p in annotation["segmentation"]]
        inside += [
            max(cv2.pointPolygonTest(p, tuple(map(float, xy)), True) for p in polygons) > -4 for xy in keypoints[keypoints[:, 2] == 2, :2]
        ]
        forward = joints[COCO17.index("Nose"), 2] - joints[[COCO17.index("L_Ear"), COCO17.index("R_Ear")], 2].mean()
        if abs(forward) > 0.05:
            facing.append((forward < 0) == (pixels[COCO17.index("L_Eye"), 0] > pixels[COCO17.index("R_Eye"), 0]))
    offsets = np.concatenate(errors)
    assert len(offsets) > 100 and np.abs(offsets).max() < 6 * config.keypoint_noise_px
    assert 0.8 < offsets.std() / config.keypoint_noise_px < 1.3
    assert np.mean(inside) > 0.97, "visible joints lie on their person's pixels"
    assert len(facing) > 8 and np.mean(facing) > 0.9, "left is on the right of those who face us"
    assert {str(a["id"]) for a in content["annotations"] if not a["iscrowd"]} == set(truth)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_3dpw(tiny: Tiny, mannequin: Mannequin, split: str) -> None:
    config, root = tiny
    frames = 0
    for path in sorted((root / "3dpw" / "sequenceFiles" / split).glob("*.pkl")):
        content = read_pickle(path)
        folder = root / "3dpw" / "imageFiles" / content["sequence"]
        assert path.stem == content["sequence"]
        count, persons = len(content["img_frame_ids"]), len(content["poses"])
        assert sorted(p.name for p in folder.iterdir()) == [f"image_{i:05d}.jpg" for i in range(count)]
        assert (
            content["cam_poses"].shape == (count, 4, 4)
            and content["cam_intrinsics"].shape == (3, 3)
            and content["genders"] == ["n"] * persons
        )
        intrinsics = content["cam_intrinsics"]
        frames += count
        for p in range(persons):
            assert (
                content["betas"][p].shape == (10,)
                and content["campose_valid"][p].shape == (count,)
                and content["poses2d"][p].shape == (count, 3, 18)
            )
            assert content["poses"][p].shape == content["jointPositions"][p].shape == (count, 72) and content["trans"][p].shape == (
                count,
                3,
            )
            for f in range(count):
                body = body_of(mannequin, content["poses"][p][f], content["betas"][p], content["trans"][p][f])
                joints = content["jointPositions"][p][f].reshape(24, 3)
                np.testing.assert_allclose(body.joints_B243[0].numpy(), joints, atol=1e-4)
                world_to_camera = content["cam_poses"][f]
                pixels = project(joints @ world_to_camera[:3, :3].T + world_to_camera[:3, 3], intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2])
                x, y, confidence = content["poses2d"][p][f]
                for name in ("L_Knee", "R_Elbow"):
                    k, j = OPENPOSE18.index(name), SMPL24.index(name)
                    assert confidence[k] == 0 or np.hypot(x[k] - pixels[j, 0], y[k] - pixels[j, 1]) < 12
    assert (
        frames
        == {"train": config.itw3d_train_images, "validation": config.itw3d_validation_images, "test": config.itw3d_test_images}[split]
    )


def test_pickles_look_like_python_2s() -> None:
    data = python2_pickle({"poses": [np.arange(3.0)], "sequence": "street", "long": "x" * 300})
    assert data.startswith(b"\x80\x02") and b"cnumpy.core.multiarray\n" in data and b"numpy._core" not in data and b"X\x08\x00" not in data
    assert {op.name for op, _, _ in pickletools.genops(io.BytesIO(data))}.isdisjoint({"BINUNICODE", "BINBYTES", "SHORT_BINBYTES"})


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_same_bytes_for_any_number_of_processes(tiny: Tiny, tmp_path: Path) -> None:
    config, root = tiny
    again = config.model_copy(update={"out": str(tmp_path / "again"), "workers": 2})
    seen = []
    write_world(again, lambda name, done, total: seen.append((name, done, total)))
    assert digests(root) == digests(Path(again.out))
    assert {(name, total) for name, done, total in seen if done == total} == {("human36m", 16), ("coco", 12), ("3dpw", 16)}


def test_a_complete_world_is_left_alone_and_another_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    config, root = tiny
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    paths = write_world(config)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert set(paths) == {"human36m", "coco", "3dpw", "truth"} and all(Path(p).is_dir() for p in paths.values())
    with pytest.raises(AlreadyExists, match="another synthetic world"):
        write_world(config.model_copy(update={"seed": config.seed + 1}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(AlreadyExists, match="found other files"):
        write_world(tiny_config(str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_what_an_interrupted_run_left_is_replaced(tiny: Tiny, tmp_path: Path) -> None:
    _, root = tiny
    leftover = tmp_path / ".world.building"
    shutil.copytree(root / "coco", leftover / "coco")
    (leftover / "stale.jpg").write_bytes(b"half")
    config = SyntheticConfig(
        out=str(tmp_path / "world"), workers=1, mocap_images=1, mocap_test_images=0, itw_images=1, itw3d_train_images=1,
        itw3d_validation_images=0, itw3d_test_images=1,
    )  # fmt: skip
    write_world(config)
    assert not leftover.exists() and not list((tmp_path / "world").rglob("stale.jpg"))
    assert len(list((tmp_path / "world").rglob("*.jpg"))) == 4
