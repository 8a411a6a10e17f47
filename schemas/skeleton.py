"""A skeleton: named, ordered joints with their flip pairs and bones. The sets in use are in schemas/skeletons.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """An ordered set of joints.

    `bones` are pairs of joint names, for drawing. `root` is the joint that root-relative coordinates subtract, or None.
    Left and right joints share a name but for the prefix, so the flip permutation follows from the names.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[str, str], ...] = ()
    root: str | None = "Pelvis"

    def __post_init__(self) -> None:
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"skeleton {self.name!r} names a joint twice")
        unknown = {j for bone in self.bones for j in bone} - set(self.joints)
        if unknown:
            raise ValueError(f"skeleton {self.name!r} has bones between unknown joints {sorted(unknown)}")

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.joints)}

    def index(self, joint: str) -> int:
        """Position of a joint; KeyError names the joint and the skeleton."""
        try:
            return self._positions[joint]
        except KeyError:
            raise KeyError(f"skeleton {self.name!r} has no joint {joint!r}; it has {', '.join(self.joints)}") from None

    def __contains__(self, joint: str) -> bool:
        return joint in self._positions

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """Permutation p with mirrored[i] = original[p[i]]."""
        return tuple(self._positions.get(_mirrored(name), i) for i, name in enumerate(self.joints))

    @cached_property
    def bone_indices(self) -> tuple[tuple[int, int], ...]:
        return tuple((self.index(a), self.index(b)) for a, b in self.bones)


def _mirrored(name: str) -> str:
    if name.startswith("L_"):
        return "R_" + name[2:]
    if name.startswith("R_"):
        return "L_" + name[2:]
    return name
