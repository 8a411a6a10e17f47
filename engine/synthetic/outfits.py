"""What persons wear: random clothes, hair and skin, painted by place on the rest pose.

Arms, legs, front and back must be told apart at 100 pixels, so sleeves and trousers end somewhere, faces have eyes, fronts
have a print, buttons or an open jacket, and backs have hair.

Shapes: P surface points, V vertices. Colours are linear RGB in [0, 1].
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from engine.synthetic.atlas import Atlas

Colour = np.ndarray


@dataclass(frozen=True)
class Outfit:
    """One person's looks. Lengths along a limb run from 0 (shoulder, hip) to 1 (wrist, ankle)."""

    skin: Colour
    hair: Colour
    hair_style: str
    top: Colour
    top_second: Colour
    sleeves: Colour
    sleeve_length: float
    pattern: str
    front: str
    hem_m: float
    neckline_m: float
    bottom: Colour
    bottom_second: Colour
    bottom_length: float
    shoes: Colour
    sole: Colour
    thickness_m: tuple[float, float, float]
    """Of hair, top and bottom, along the normal."""
    phase: float


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def _contrast(rng: np.random.Generator, other: Colour, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A colour well away from another one."""
    tries = [_colour(rng, saturation, value) for _ in range(4)]
    return max(tries, key=lambda c: min(float(np.abs(c - other).sum()), 0.9))


_SKIN = np.array([[0.93, 0.76, 0.66], [0.87, 0.67, 0.54], [0.74, 0.53, 0.40], [0.56, 0.38, 0.27], [0.36, 0.24, 0.17]])
_HAIR = np.array([[0.06, 0.05, 0.05], [0.16, 0.10, 0.06], [0.33, 0.20, 0.10], [0.62, 0.45, 0.22], [0.45, 0.18, 0.08], [0.60, 0.60, 0.60]])


def _skin_and_hair(rng: np.random.Generator) -> tuple[Colour, Colour]:
    first, second = rng.integers(len(_SKIN)), rng.integers(len(_SKIN))
    skin = _SKIN[first] + rng.random() * 0.5 * (_SKIN[second] - _SKIN[first])
    return skin, _HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.8, 1.2)


def casual_outfit(rng: np.random.Generator) -> Outfit:
    """Street and sports clothes of any colour and length."""
    skin, hair = _skin_and_hair(rng)
    top = _colour(rng, (0.05, 0.95), (0.25, 1.0))
    bottom = _contrast(rng, top, (0.05, 0.8), (0.1, 0.9))
    short = rng.random() < 0.6
    return Outfit(
        skin=skin,
        hair=hair,
        hair_style=str(rng.choice(["short", "long", "cap", "bald"], p=[0.5, 0.3, 0.12, 0.08])),
        top=top,
        top_second=_contrast(rng, top, (0.0, 0.9), (0.1, 1.0)),
        sleeves=top if rng.random() < 0.7 else _contrast(rng, top, (0.05, 0.9), (0.2, 1.0)),
        sleeve_length=float(rng.uniform(0.05, 0.5) if short else rng.uniform(0.8, 1.02)),
        pattern=str(rng.choice(["plain", "stripes", "blocks", "checks"], p=[0.5, 0.22, 0.18, 0.1])),
        front=str(rng.choice(["print", "buttons", "open", "plain"], p=[0.35, 0.25, 0.25, 0.15])),
        hem_m=float(rng.uniform(-0.12, 0.08)),
        neckline_m=float(rng.uniform(0.0, 0.07)),
        bottom=bottom,
        bottom_second=_contrast(rng, bottom, (0.0, 0.9), (0.1, 1.0)) if rng.random() < 0.3 else bottom,
        bottom_length=float(rng.uniform(0.25, 0.55) if rng.random() < 0.4 else rng.uniform(0.85, 1.05)),
        shoes=_colour(rng, (0.0, 0.8), (0.05, 0.95)),
        sole=np.full(3, rng.uniform(0.1, 0.95)),
        thickness_m=(float(rng.uniform(0.008, 0.03)), float(rng.uniform(0.004, 0.018)), float(rng.uniform(0.004, 0.016))),
        phase=float(rng.uniform(0, 6.28)),
    )


def studio_outfit(rng: np.random.Generator) -> Outfit:
    """A tight, dark motion-capture suit with panels; one cut for every subject."""
    skin, hair = _skin_and_hair(rng)
    suit = _colour(rng, (0.0, 0.5), (0.14, 0.32))
    panel = _colour(rng, (0.0, 0.6), (0.4, 0.65))
    return Outfit(
        skin=skin,
        hair=hair,
        hair_style=str(rng.choice(["short", "long"])),
        top=suit,
        top_second=panel,
        sleeves=panel if rng.random() < 0.5 else suit,
        sleeve_length=0.97,
        pattern="blocks",
        front="buttons",
        hem_m=0.0,
        neckline_m=0.0,
        bottom=suit,
        bottom_second=panel,
        bottom_length=1.02,
        shoes=np.full(3, rng.uniform(0.08, 0.8)),
        sole=np.full(3, 0.7),
        thickness_m=(0.01, 0.0, 0.0),
        phase=0.0,
    )


@dataclass(frozen=True)
class _Regions:
    """Which part of the clothing each point belongs to, and how far along the limb it lies."""

    head: np.ndarray
    hair: np.ndarray
    top: np.ndarray
    arm: np.ndarray
    arm_length: np.ndarray
    bottom: np.ndarray
    leg_length: np.ndarray
    shoe: np.ndarray


def _regions(outfit: Outfit, atlas: Atlas, point_P3: np.ndarray) -> _Regions:
    mark = atlas.landmarks
    x, y, z = np.abs(point_P3[:, 0]), point_P3[:, 1], point_P3[:, 2]
    shoulder, wrist, hip, ankle, neck = (mark[n] for n in ("L_Shoulder", "L_Wrist", "L_Hip", "L_Ankle", "Neck"))
    arm_length = (x - shoulder[0]) / (wrist[0] - shoulder[0])
    arm = (arm_length > 0.0) & (y > shoulder[1] - 0.16)
    leg_length = (hip[1] - y) / (hip[1] - ankle[1])
    lower = y < mark["Pelvis"][1] + 0.06 + outfit.hem_m
    opening = ((x / 0.08) ** 2 + ((z - neck[2]) / 0.09) ** 2 < 1) & (
        y > neck[1] - 0.015 - np.where(z > neck[2] + 0.03, outfit.neckline_m, 0)
    )
    head = (y > neck[1] + 0.045) & (x < shoulder[0])
    ears = (mark["L_Ear"] + mark["R_Ear"]) / 2
    cap = 0.73 * (y - ears[1]) - 0.68 * (z - ears[2])
    hair = head & (cap > {"cap": 0.022, "bald": 0.2}.get(outfit.hair_style, 0.004))
    if outfit.hair_style == "long":
        hair |= (z < ears[2] - 0.01) & (y > neck[1] - 0.07) & (x < 0.105) & ~arm
    top = ~head & ~lower & ~opening & ~hair & (~arm | (arm_length < outfit.sleeve_length))
    shoe = leg_length > 0.955
    return _Regions(head, hair, top, arm, arm_length, lower & ~shoe & (leg_length < outfit.bottom_length), leg_length, shoe)


def thickness(outfit: Outfit, atlas: Atlas) -> np.ndarray:
    """How far clothes and hair stand off the body at each vertex, metres, (V,)."""
    where = _regions(outfit, atlas, atlas.rest_V3)
    hair, top, bottom = outfit.thickness_m
    loose = np.where(where.top, top, 0.0) + np.where(where.bottom, bottom * (1 + np.clip(where.leg_length, 0, 1)), 0.0)
    return np.where(where.hair, hair, loose) + np.where(where.shoe, 0.006, 0.0)


def paint(outfit: Outfit, atlas: Atlas, point_P3: np.ndarray) -> np.ndarray:
    """Colour of surface points given by their place on the rest pose, (P, 3)."""
    where = _regions(outfit, atlas, point_P3)
    colour = np.empty_like(point_P3)
    colour[:] = outfit.skin
    _paint_bottom(outfit, where, point_P3, colour)
    _paint_top(outfit, atlas, where, point_P3, colour)
    colour[where.shoe] = outfit.shoes
    colour[where.shoe & (point_P3[:, 1] < atlas.rest_V3[:, 1].min() + 0.014)] = outfit.sole
    _paint_head(outfit, atlas, where, point_P3, colour)
    folds = np.sin(31 * point_P3[:, 0] + 17 * point_P3[:, 1] + outfit.phase) * np.sin(23 * point_P3[:, 1] - 29 * point_P3[:, 2])
    colour *= np.where(where.top | where.bottom, 1 + 0.07 * folds, 1.0)[:, None]
    return colour


def _paint_bottom(outfit: Outfit, where: _Regions, point_P3: np.ndarray, colour: np.ndarray) -> None:
    colour[where.bottom] = outfit.bottom
    seam = np.abs(point_P3[:, 2]) < 0.022
    outside = np.abs(point_P3[:, 0]) > 0.13
    colour[where.bottom & seam & outside] = outfit.bottom_second
    colour[where.bottom & (where.leg_length < 0) & (where.leg_length > -0.03)] = outfit.bottom * 0.5


def _paint_top(outfit: Outfit, atlas: Atlas, where: _Regions, point_P3: np.ndarray, colour: np.ndarray) -> None:
    x, y, z = point_P3.T
    along = np.where(where.arm, np.abs(x), y)
    base = np.where(where.arm[:, None], outfit.sleeves, outfit.top)
    if outfit.pattern == "stripes":
        second = np.sin(along * 75 + outfit.phase) > 0.25
    elif outfit.pattern == "checks":
        second = (np.sin(along * 80 + outfit.phase) > 0.1) ^ (np.sin(x * 80) > 0.1)
    elif outfit.pattern == "blocks":
        second = np.where(where.arm, where.arm_length > 0.55, y > atlas.landmarks["Chest"][1] + 0.15)
    else:
        second = where.arm & (where.arm_length > outfit.sleeve_length - 0.07)
    base = np.where(second[:, None], outfit.top_second, base)
    torso = ~where.arm & (z > 0)
    chest = atlas.landmarks["Chest"][1]
    if outfit.front == "print":
        base[torso & (np.abs(x) < 0.085) & (np.abs(y - chest - 0.09) < 0.06)] = outfit.top_second
        base[torso & (np.abs(x) < 0.045) & (np.abs(y - chest - 0.09) < 0.03)] = outfit.top
    elif outfit.front == "buttons":
        base[torso & (np.abs(x) < 0.012)] = outfit.top_second * 0.8
    elif outfit.front == "open":
        base[torso & (np.abs(x) < 0.05 + 0.03 * np.cos(9 * y + outfit.phase))] = outfit.bottom_second * 0.4 + 0.55
    colour[where.top] = base[where.top]


def _paint_head(outfit: Outfit, atlas: Atlas, where: _Regions, point_P3: np.ndarray, colour: np.ndarray) -> None:
    nose = atlas.landmarks["Nose"]
    x, y, z = np.abs(point_P3[:, 0]), point_P3[:, 1], point_P3[:, 2]
    face = where.head & (z > nose[2] - 0.09)
    eye = atlas.landmarks["L_Eye"]
    colour[face & (((x - eye[0]) / 0.024) ** 2 + ((y - eye[1]) / 0.013) ** 2 < 1)] = 0.92
    colour[face & (np.hypot(x - eye[0], y - eye[1]) < 0.0115)] = 0.06
    colour[face & (np.abs(x - eye[0]) < 0.024) & (np.abs(y - eye[1] - 0.025) < 0.006)] = outfit.hair * 0.8
    colour[face & (x < 0.026) & (np.abs(y - nose[1] + 0.045) < 0.008)] = outfit.skin * np.array([0.75, 0.4, 0.4])
    colour[where.hair] = outfit.top_second if outfit.hair_style == "cap" else outfit.hair
