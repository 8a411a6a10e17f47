"""Mirror-symmetric mesh decimation by half-edge collapses: every vertex that is kept is a vertex of the input.

Used once, to make the open body small. Keeping input vertices (instead of placing new ones) lets blend shapes, skinning
weights and regressors carry over by plain indexing, and collapsing mirrored pairs together keeps left and right alike.
Costs are quadric errors (Garland & Heckbert, "Surface Simplification Using Quadric Error Metrics", 1997).
"""

from __future__ import annotations

import heapq

import numpy as np


class _Collapser:
    """Adjacency, quadrics and the collapse itself. N input vertices, F triangles."""

    def __init__(self, vertices_N3: np.ndarray, faces_F3: np.ndarray, importance_N: np.ndarray, evenness: float) -> None:
        self.points = vertices_N3
        self.faces = {i: tuple(int(v) for v in face) for i, face in enumerate(faces_F3)}
        self.faces_of: list[set[int]] = [set() for _ in vertices_N3]
        for i, face in self.faces.items():
            for v in face:
                self.faces_of[v].add(i)
        self.importance = importance_N
        self.evenness = evenness
        a, b, c = (vertices_N3[faces_F3[:, k]] for k in range(3))
        cross = np.cross(b - a, c - a)
        area = np.linalg.norm(cross, axis=1) / 2 + 1e-12
        normal = cross / (2 * area[:, None])
        plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], axis=1)
        quadric_F44 = area[:, None, None] * plane[:, :, None] * plane[:, None, :]
        self.quadric = np.zeros((len(vertices_N3), 4, 4))
        for k in range(3):
            np.add.at(self.quadric, faces_F3[:, k], quadric_F44)
        self.quadric *= importance_N[:, None, None]

    def neighbours(self, v: int) -> set[int]:
        return {w for i in self.faces_of[v] for w in self.faces[i]} - {v}

    def cost(self, u: int, v: int) -> float:
        point = np.append(self.points[v], 1.0)
        length2 = float(((self.points[u] - self.points[v]) ** 2).sum())
        weight = max(self.importance[u], self.importance[v])
        return float(point @ (self.quadric[u] + self.quadric[v]) @ point) + self.evenness * weight * length2**2

    def allowed(self, u: int, v: int) -> bool:
        """Moving u onto v keeps the surface manifold and turns no face over."""
        around_u, around_v = self.neighbours(u), self.neighbours(v)
        if v not in around_u or len(around_u & around_v) != 2 or len(around_u | around_v) - 2 > 11:
            return False
        if any(len(self.faces_of[w]) <= 4 for w in around_u & around_v):
            return False
        for i in self.faces_of[u]:
            face = self.faces[i]
            if v in face:
                continue
            before, after = self.points[list(face)], self.points[[v if w == u else w for w in face]]
            n0, n1 = np.cross(before[1] - before[0], before[2] - before[0]), np.cross(after[1] - after[0], after[2] - after[0])
            longest = max(((after[k] - after[k - 1]) ** 2).sum() for k in range(3))
            if n0 @ n1 <= 0.3 * np.linalg.norm(n0) * np.linalg.norm(n1) or np.linalg.norm(n1) < 0.12 * longest:
                return False
        return True

    def collapse(self, u: int, v: int) -> None:
        for i in list(self.faces_of[u]):
            face = self.faces[i]
            for w in face:
                self.faces_of[w].discard(i)
            if v in face:
                del self.faces[i]
                continue
            self.faces[i] = tuple(v if w == u else w for w in face)
            for w in self.faces[i]:
                self.faces_of[w].add(i)
        self.quadric[v] += self.quadric[u]


def decimate(
    vertices_N3: np.ndarray, faces_F3: np.ndarray, mirror_N: np.ndarray, importance_N: np.ndarray, keep: int, evenness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Kept vertex indices (K,) ascending and faces (F', 3) over them, K close to `keep`.

    `mirror_N` is the left-right involution (a vertex on the mid-line is its own image); `importance_N` multiplies a vertex's
    errors; `evenness` weighs the fourth power of edge lengths (1/m^2) against squared distance times area.
    """
    mesh = _Collapser(vertices_N3, faces_F3, importance_N, evenness)
    alive = np.zeros(len(vertices_N3), bool)
    alive[np.unique(faces_F3)] = True
    stamp = np.zeros(len(vertices_N3), np.int64)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(u: int, v: int) -> None:
        if (mirror_N[u] == u and mirror_N[v] != v) or mirror_N[u] == v:
            return
        heapq.heappush(heap, (mesh.cost(u, v), u, v, int(stamp[u]), int(stamp[v])))

    for u in np.flatnonzero(alive):
        for v in mesh.neighbours(int(u)):
            push(int(u), v)
    while alive.sum() > keep and heap:
        _, u, v, stamp_u, stamp_v = heapq.heappop(heap)
        if not (alive[u] and alive[v]) or stamp[u] != stamp_u or stamp[v] != stamp_v or not mesh.allowed(u, v):
            continue
        mu, mv = int(mirror_N[u]), int(mirror_N[v])
        if mu != u:
            around_u = mesh.neighbours(u)
            shared = (around_u & mesh.neighbours(mu)) - {v}
            if mu in around_u or not shared <= mesh.neighbours(v) or not mesh.allowed(mu, mv):
                continue
        for a, b in {(u, v), (mu, mv)}:
            mesh.collapse(a, b)
            alive[a] = False
        for b in {v, mv}:
            stamp[b] += 1
        for b in {v, mv}:
            for w in mesh.neighbours(b):
                push(w, b)
                push(b, w)
    kept = np.flatnonzero(alive)
    position = np.full(len(vertices_N3), -1)
    position[kept] = np.arange(len(kept))
    return kept, position[np.array(list(mesh.faces.values()))]
