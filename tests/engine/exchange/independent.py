"""Formats of the field read and written a second time, from their public descriptions alone, with nothing of the engine.

A person is a `Body3D`. Readers give persons by the name they were written under, or by image and box centre; writers take a list.
"""

from __future__ import annotations

import json
import tarfile
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import smplx
import torch
from scipy.spatial.transform import Rotation
from smplx.utils import Struct

_PARTS = ("pose", "betas", "transl", "focal", "princpt")


@dataclass(frozen=True)
class Body3D:
    """Axis-angle pose (72,), betas (10,); the camera, or None where a format has none: transl (3,) m, focal and princpt (2,) px."""

    name: str
    image: str
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray | None = None
    focal: np.ndarray | None = None
    princpt: np.ndarray | None = None

    @property
    def centre(self) -> np.ndarray:
        x, y, w, h = self.box
        return np.array([x + w / 2, y + h / 2])


class Skin:
    """smplx's layer in float64 on the arrays of a body file."""

    def __init__(self, arrays: object) -> None:
        anywhere = dict.fromkeys(smplx.vertex_ids.vertex_ids["smplh"], 0)
        with redirect_stdout(StringIO()):  # smplx prints a warning about 10 components
            layer = smplx.SMPLLayer(model_path="", data_struct=Struct(**vars(arrays)), vertex_ids=anywhere, dtype=torch.float64)
        self._layer = layer.double()

    def __call__(self, persons: list[Body3D]) -> tuple[np.ndarray, np.ndarray]:
        """Posed vertices (N, V, 3) without translation and the pelvis (N, 1, 3)."""
        pose = np.array([p.pose for p in persons], np.float64)
        matrices = torch.from_numpy(Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3))
        betas = torch.from_numpy(np.array([p.betas for p in persons], np.float64))
        with torch.no_grad():
            out = self._layer(betas=betas, body_pose=matrices[:, 1:], global_orient=matrices[:, :1])
        return out.vertices.numpy(), out.joints[:, :1].numpy()


@dataclass
class Apart:
    """How far persons lie from what they should be, the worst vertex of each, px of the photograph (NaN without a camera) and mm.

    Millimetres are about the pelvis.
    """

    px_N: np.ndarray
    mm_N: np.ndarray
    mm_unturned_N: np.ndarray
    """With the rotation between the two roots undone."""


def compare(skin: Skin, wanted: list[Body3D], found: list[Body3D], step: int = 50) -> Apart:
    """Person n of one list with person n of the other."""
    parts = [_compare(skin, wanted[at : at + step], found[at : at + step]) for at in range(0, len(wanted), step)]
    return Apart(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _compare(skin: Skin, wanted: list[Body3D], found: list[Body3D]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    (mine, pelvis), (theirs, their_pelvis) = skin(wanted), skin(found)
    apart = np.linalg.norm((mine - pelvis) - (theirs - their_pelvis), axis=2).max(1)
    unturned = skin([replace(f, pose=np.concatenate([w.pose[:3], f.pose[3:]])) for w, f in zip(wanted, found, strict=True)])
    apart_unturned = np.linalg.norm((mine - pelvis) - (unturned[0] - unturned[1]), axis=2).max(1)
    px = [
        np.nan if f.transl is None else np.linalg.norm(project(v, w) - project(u, f), axis=1).max()
        for v, w, u, f in zip(mine, wanted, theirs, found, strict=True)
    ]
    return np.array(px), apart * 1e3, apart_unturned * 1e3


def project(vertices: np.ndarray, person: Body3D) -> np.ndarray:
    """Pixels (V, 2) of the photograph."""
    points = vertices + person.transl
    return points[:, :2] / points[:, 2:] * person.focal + person.princpt


def read_neuralannot(path: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By annotation id."""
    records, found = json.loads(path.read_text()), {}
    for person in persons:
        if person.name in records:
            smpl, camera = records[person.name]["smpl_param"], records[person.name]["cam_param"]
            values = (np.array(v) for v in (smpl["pose"], smpl["shape"], smpl["trans"], camera["focal"], camera["princpt"]))
            found[person.name] = replace(person, **dict(zip(_PARTS, values, strict=True)))
    return found


def write_neuralannot(folder: Path, persons: list[Body3D]) -> Path:
    """Keyed by annotation id, as the published files are; in an order of its own."""
    records = {
        p.name: {
            "smpl_param": {"pose": p.pose.tolist(), "shape": p.betas.tolist(), "trans": p.transl.tolist()},
            "cam_param": {"focal": p.focal.tolist(), "princpt": p.princpt.tolist()},
        }
        for p in reversed(persons)
    }
    path = folder / "theirs_SMPL_NeuralAnnot.json"
    path.write_text(json.dumps(records))
    return path


def read_spin(fits: Path, dataset: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By image name and centre, from the dataset npz whose rows the fits follow. No camera."""
    rows = np.load(dataset)
    if fits.suffix == ".npy":
        table = np.load(fits)
        pose, betas, valid = table[:, :72], table[:, 72:], table.any(1)
    else:
        arrays = np.load(fits)
        pose, betas, valid = arrays["pose"], arrays["betas"], arrays["valid_fit"]
    assert len(pose) == len(rows["imgname"]) == len(rows["scale"]) == len(rows["part"]) == len(rows["openpose"])
    place = {(str(name), *centre.round(3)): n for n, (name, centre) in enumerate(zip(rows["imgname"], rows["center"], strict=True))}
    found = {}
    for person in persons:
        n = place.get((person.image, *person.centre.round(3)))
        if n is not None and valid[n]:
            found[person.name] = replace(person, pose=pose[n], betas=betas[n], transl=None, focal=None, princpt=None)
    return found


def write_spin(folder: Path, persons: list[Body3D], static: bool = False, invalid: int = 0) -> Path:
    """The fits and the dataset's npz in one folder; the last `invalid` persons are called invalid."""
    n = len(persons)
    order = np.random.default_rng(0).permutation(n)
    rows = [persons[i] for i in order]
    sides = np.array([max(p.box[2:]) for p in rows])
    np.savez(
        folder / "theirs_train.npz",
        imgname=[p.image for p in rows],
        center=np.array([p.centre for p in rows]),
        scale=1.2 * sides / 200,
        part=np.zeros((n, 24, 3)),
        openpose=np.zeros((n, 25, 3)),
    )
    pose, betas = np.array([p.pose for p in rows]), np.array([p.betas for p in rows])
    valid = order < n - invalid
    if static:
        np.save(folder / "theirs_fits.npy", np.where(valid[:, None], np.concatenate([pose, betas], 1), 0))
    else:
        np.savez(folder / "theirs_spin_fits.npz", pose=pose, betas=betas, valid_fit=valid)
    return folder


def read_eft(path: Path, persons: list[Body3D], weak_perspective: bool = False) -> dict[str, Body3D]:
    """By annotId, as EFT's own code reads it: perspective of focal length 5000 in the 224 px crop, carried to the photograph.

    weak_perspective: through a lens so long that it is none.
    """
    found = {}
    named = {p.name: p for p in persons}
    for record in json.loads(path.read_text())["data"]:
        person = named[str(record["annotId"])]
        assert record["imageName"] == Path(person.image).name
        assert record["smpltype"] == "smpl"
        assert len(record["joint_validity_openpose18"]) == 18
        s, tx, ty = record["parm_cam"]
        focal_crop = 5e8 if weak_perspective else 5000.0
        to_image = record["bbox_scale"] * 200 / 224  # pixels of the photograph a pixel of the crop
        found[person.name] = replace(
            person,
            pose=Rotation.from_matrix(np.array(record["parm_pose"])).as_rotvec().ravel(),
            betas=np.array(record["parm_shape"]),
            transl=np.array([tx / s, ty / s, focal_crop / (112 * s)]),
            focal=np.full(2, focal_crop * to_image),
            princpt=np.array(record["bbox_center"]),
        )
    return found


def write_eft(folder: Path, persons: list[Body3D], ids: bool = True) -> Path:
    """EFT's file of persons whose cameras have square pixels; without ids, persons are known by image and crop alone."""
    data = []
    for p in persons:
        s = 5000 / 112 / p.transl[2]
        data.append(
            {
                "parm_pose": Rotation.from_rotvec(p.pose.reshape(24, 3)).as_matrix().tolist(),
                "parm_shape": p.betas.tolist(),
                "parm_cam": [s, s * p.transl[0], s * p.transl[1]],
                "bbox_scale": p.focal[0] / 5000 * 224 / 200,
                "bbox_center": p.princpt.tolist(),
                "joint_validity_openpose18": [True] * 18,
                "smpltype": "smpl",
                "imageName": Path(p.image).name,
            }
            | ({"annotId": int(p.name)} if ids else {})
        )
    path = folder / "theirs.json"
    path.write_text(json.dumps({"ver": 1.0, "data": data}))
    return path


def read_cliff(path: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By annot_id; the principal point is the middle of the photograph."""
    arrays, found = np.load(path), {}
    row = {str(identity): n for n, identity in enumerate(arrays["annot_id"])}
    for person in persons:
        if (n := row.get(person.name)) is not None and arrays["has_smpl"][n]:
            assert str(arrays["imgname"][n]) == person.image
            assert np.allclose(arrays["center"][n], person.centre)
            found[person.name] = replace(
                person,
                pose=arrays["pose"][n],
                betas=arrays["shape"][n],
                transl=arrays["global_t"][n],
                focal=np.full(2, arrays["focal_l"][n]),
                princpt=np.array(person.size) / 2,
            )
    return found


def write_cliff(folder: Path, persons: list[Body3D]) -> Path:
    """Of persons whose cameras are CLIFF's."""
    n = len(persons)
    path = folder / "theirs_cliffGT.npz"
    np.savez(
        path,
        imgname=[p.image for p in persons],
        center=np.array([p.centre for p in persons]),
        scale=np.array([1.2 * max(p.box[2:]) / 200 for p in persons]),
        part=np.zeros((n, 24, 3)),
        annot_id=np.array([int(p.name) for p in persons]),
        pose=np.array([p.pose for p in persons]),
        shape=np.array([p.betas for p in persons]),
        has_smpl=np.ones(n),
        global_t=np.array([p.transl for p in persons]),
        focal_l=np.array([np.hypot(*p.size) for p in persons]),
        S=np.zeros((n, 24, 4)),
    )
    return path


def read_coco(path: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By annotation_id, with images joined as COCO's loaders do."""
    content = json.loads(path.read_text())
    images = {image["id"]: image for image in content["images"]}
    assert len(images) == len(content["images"])
    assert len({record["id"] for record in content["annotations"]}) == len(content["annotations"])
    named, found = {p.name: p for p in persons}, {}
    for record in content["annotations"]:
        person, image = named[record["annotation_id"]], images[record["image_id"]]
        assert (image["file_name"], image["width"], image["height"]) == (person.image, *person.size)
        assert np.allclose(record["bbox"], person.box)
        smpl, camera = record["smpl_param"], record["cam_param"]
        values = (np.array(v) for v in (smpl["pose"], smpl["shape"], smpl["trans"], camera["focal"], camera["princpt"]))
        found[person.name] = replace(person, **dict(zip(_PARTS, values, strict=True)))
    return found


def write_coco(folder: Path, persons: list[Body3D]) -> Path:
    """Annotations with the dataset's own integer ids and nothing but COCO's and NeuralAnnot's fields."""
    images = {image: n for n, image in enumerate(dict.fromkeys(p.image for p in persons), 1)}
    annotations = [
        {
            "id": int(p.name),
            "image_id": images[p.image],
            "category_id": 1,
            "bbox": p.box,
            "area": p.box[2] * p.box[3],
            "iscrowd": 0,
            "smpl_param": {"pose": p.pose.tolist(), "shape": p.betas.tolist(), "trans": p.transl.tolist()},
            "cam_param": {"focal": p.focal.tolist(), "princpt": p.princpt.tolist()},
        }
        for p in persons
    ]
    sizes = {p.image: p.size for p in persons}
    listed = [{"id": n, "file_name": image, "width": sizes[image][0], "height": sizes[image][1]} for image, n in images.items()]
    path = folder / "theirs_keypoints_smpl.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}))
    return path


def read_webdataset(folder: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By annotation id, from tars that the webdataset library streams."""
    import webdataset

    named, found = {p.name: p for p in persons}, {}
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        arrays, record = np.load(BytesIO(sample["npz"])), json.loads(sample["json"])
        for n, instance in enumerate(record["instances"]):
            person = named[instance["annotation_id"]]
            assert (record["image_path"], record["width"], record["height"]) == (person.image, *person.size)
            found[person.name] = replace(person, **{part: arrays[part][n].astype(np.float64) for part in _PARTS})
    return found


def write_webdataset(folder: Path, persons: list[Body3D]) -> Path:
    """Tars by Python's tarfile, with the JSON and the arrays of every image, and no image."""
    with tarfile.open(folder / "theirs-000000.tar", "w") as tar:
        for image, mine in _by_image(persons).items():
            instances = [
                {
                    "annotation_id": p.name,
                    "bbox_xywh": p.box,
                    "skeleton": "coco17",
                    "joints_img": [(0, 0)] * 17,
                    "joints_valid": [False] * 17,
                }
                for p in mine
            ]
            key, (width, height) = _key(image), mine[0].size
            record = {"key": key, "dataset": "extremes", "image_path": image, "width": width, "height": height, "instances": instances}
            buffer = BytesIO()
            np.savez_compressed(buffer, **{part: np.array([getattr(p, part) for p in mine], np.float32) for part in _PARTS})
            for extension, data in (("json", json.dumps(record).encode()), ("npz", buffer.getvalue())):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
    return folder


def read_huggingface(folder: Path, persons: list[Body3D]) -> dict[str, Body3D]:
    """By annotation id, from the dataset's Parquet files."""
    named, found = {p.name: p for p in persons}, {}
    for row in pq.read_table(sorted((folder / "data").glob("*.parquet"))).to_pylist():
        for record in row["persons"]:
            person = named[record["annotation_id"]]
            assert (row["image_path"], row["width"], row["height"]) == (person.image, *person.size)
            found[person.name] = replace(person, **{part: np.array(record[part], np.float64) for part in _PARTS})
    return found


def write_huggingface(folder: Path, persons: list[Body3D]) -> Path:
    """One Parquet file with keys and persons."""
    rows = [
        {"key": _key(image), "persons": [{"annotation_id": p.name} | {part: getattr(p, part).tolist() for part in _PARTS} for p in mine]}
        for image, mine in _by_image(persons).items()
    ]
    (folder / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def _by_image(persons: list[Body3D]) -> dict[str, list[Body3D]]:
    groups: dict[str, list[Body3D]] = {}
    for person in persons:
        groups.setdefault(person.image, []).append(person)
    return groups


def _key(image: str) -> str:
    """The shard set's name of an image (extremes.py)."""
    return Path(image).stem
