"""The protocols a second time, by other means: Horn's quaternions for Procrustes, plain loops and 1-based tables for all else.

Nothing here imports what it checks. Joints are lists or arrays of one person, mm and px, in the order of `mi17` where there are 17.
"""

from __future__ import annotations

import math

import numpy as np

O1 = [2, 16, 2, 3, 4, 2, 6, 7, 15, 9, 10, 15, 12, 13, 15, 15, 2]
"""Parents of the official scripts, 1-based."""
ORDER = [16, 2, 1, 17, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
"""Traversal of the official bone rescaling, 1-based."""


def aligned(pred, target) -> np.ndarray:
    """Least-squares similarity transform of `pred` onto `target` by Horn (1987): the rotation is a quaternion, so never a reflection."""
    p, t = np.array(pred, float), np.array(target, float)
    pm, tm = sum(p) / len(p), sum(t) / len(t)
    a, b = p - pm, t - tm
    S = sum(np.outer(x, y) for x, y in zip(a, b, strict=True))
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = S
    N = np.array(
        [
            [xx + yy + zz, yz - zy, zx - xz, xy - yx],
            [yz - zy, xx - yy - zz, xy + yx, zx + xz],
            [zx - xz, xy + yx, yy - xx - zz, yz + zy],
            [xy - yx, zx + xz, yz + zy, zz - xx - yy],
        ]
    )
    w, x, y, z = np.linalg.eigh(N)[1][:, -1]
    R = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )
    turned = np.array([R @ v for v in a])
    size = sum(float(v @ v) for v in a)
    scale = sum(float(u @ v) for u, v in zip(turned, b, strict=True)) / size if size > 0 else 0.0
    return scale * turned + tm


def apart(pred, target) -> list[float]:
    return [math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(p, t, strict=True))) for p, t in zip(pred, target, strict=True)]


def mean(values) -> float:
    return math.fsum(values) / len(values)


def pa(pred, target) -> float:
    return mean(apart(aligned(pred, target), target))


def pck(distances, threshold: float = 150) -> float:
    return sum(1 for d in distances if d < threshold) / len(distances)


def auc(distances) -> float:
    return mean([pck(distances, threshold) for threshold in range(0, 151, 5)])


def rescaled(pred, target) -> list[list[float]]:
    """Joints with the target's bone lengths, directions from the original prediction."""
    new = [list(map(float, joint)) for joint in pred]
    for one in ORDER:
        j, p = one - 1, O1[one - 1] - 1
        length = math.dist(pred[j], pred[p])
        for axis in range(3):
            step = float(pred[j][axis]) - float(pred[p][axis])
            new[j][axis] = new[p][axis] + (step * math.dist(target[j], target[p]) / length if length > 0 else math.inf)
    return new


def matches(pred_2d, target_2d) -> list[int | None]:
    """Greedy, in the order of the truth, by joints 2 to 14."""
    free, found = list(range(len(pred_2d))), []
    for person in target_2d:
        best, most = None, 0
        for k in free:
            score = 0
            for j in range(1, 14):
                x, y = pred_2d[k][j]
                if (x, y) != (0, 0) and abs(x - person[j][0]) < 40 and abs(y - person[j][1]) < 40:
                    score += 1
            if score > most:
                best, most = k, score
        if best is not None:
            free.remove(best)
        found.append(best)
    return found


def frame(pred_3d, pred_2d, target_3d, target_2d) -> list[tuple[bool, list[float]]]:
    """Whether each true person is matched, and the distances of its 14 joints."""
    out = []
    for person, partner in zip(target_3d, matches(pred_2d, target_2d), strict=True):
        if partner is None:
            out.append((False, [1e5] * 14))
            continue
        true = [[float(a) - float(b) for a, b in zip(joint, person[14], strict=True)] for joint in person]
        mine = pred_3d[partner]
        mine = [[float(a) - float(b) for a, b in zip(joint, mine[14], strict=True)] for joint in mine]
        out.append((True, apart(rescaled(mine, true), true)[:14]))
    return out
