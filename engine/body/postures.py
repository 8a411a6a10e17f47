"""The postures the sampler knows: what legs, trunk and arms do when people stand, sit, reach, play.

Tables only. An entry gives the three anatomical angles (degrees, see joint_angles.ANGLES) at the start and at the end of
a movement; a pose lies somewhere between, so joints that move together stay together: a squat bends hip, knee and ankle
by one depth. A single triple is a joint that stays. Joints that are not named rest near NEUTRAL.
Sided tables are written for the leading side; `trail` is what the other side does, where it does something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Triple = tuple[float, float, float]
Moves = dict[str, Triple | tuple[Triple, Triple]]


@dataclass(frozen=True)
class Limb:
    """Both legs or both arms. `symmetry` in [0, 1]: how far the sides share depth and noise; `spread` scales the noise."""

    lead: Moves
    trail: Moves | None = None
    symmetry: float = 0.7
    spread: float = 1.0


@dataclass(frozen=True)
class Trunk:
    """Spine, neck and head."""

    moves: Moves = field(default_factory=dict)
    spread: float = 1.0


@dataclass(frozen=True)
class Mode:
    """A kind of pose: one of `legs`, one of `trunk` and one of `arms` each, by chance.

    `mixed_arms`: chance that the two arms are drawn from different entries. `gait`: (shortest, longest) stride as a
    share of a brisk walk's; legs and, for half of the people, arms then follow a walking cycle.
    """

    legs: tuple[str, ...]
    trunk: tuple[str, ...]
    arms: tuple[str, ...]
    mixed_arms: float = 0.25
    gait: tuple[float, float] | None = None


NEUTRAL: dict[str, Triple] = {
    "Hip": (3, 4, 5),
    "Knee": (6, 0, 0),
    "Ankle": (3, 0, 3),
    "Foot": (2, 0, 0),
    "Torso": (2, 0, 0),
    "Spine": (2, 0, 0),
    "Chest": (1, 0, 0),
    "Neck": (0, 0, 0),
    "Head": (3, 0, 0),
    "Collar": (0, 0, 0),
    "Shoulder": (25, 16, 5),
    "Elbow": (18, 2, 5),
    "Wrist": (3, 0, 0),
}

NOISE: dict[str, Triple] = {
    "Hip": (6, 4, 7),
    "Knee": (6, 1, 3),
    "Ankle": (7, 6, 8),
    "Foot": (6, 1, 3),
    "Torso": (4, 3, 4),
    "Spine": (3, 3, 4),
    "Chest": (3, 2, 4),
    "Neck": (8, 5, 10),
    "Head": (9, 6, 11),
    "Collar": (3, 4, 1),
    "Shoulder": (14, 7, 12),
    "Elbow": (10, 8, 15),
    "Wrist": (12, 8, 10),
}
"""Standard deviation around the table, degrees."""

LEGS: dict[str, Limb] = {
    "stand": Limb({"Hip": ((2, 3, 4), (6, 10, 8)), "Knee": ((3, 0, 0), (12, 0, 0))}, spread=0.5),
    "weight on one leg": Limb(
        {"Hip": (0, 4, 4), "Knee": (4, 0, 0)}, {"Hip": ((8, 6, 10), (25, 16, 20)), "Knee": ((15, 0, 0), (45, 0, 0))}, 0.2, 0.7
    ),
    "wide": Limb({"Hip": ((0, 14, 8), (8, 40, 15)), "Knee": ((3, 0, 0), (20, 0, 0))}, symmetry=0.8),
    "hinge": Limb({"Hip": ((20, 6, 5), (95, 10, 6)), "Knee": ((4, 0, 0), (35, 0, 0))}, symmetry=0.9),
    "squat": Limb(
        {"Hip": ((25, 10, 10), (118, 26, 22)), "Knee": ((40, 0, 0), (138, 0, 0)), "Ankle": ((12, 0, 8), (32, 0, 10))}, symmetry=0.9
    ),
    "lunge": Limb(
        {"Hip": ((35, 5, 4), (92, 12, 10)), "Knee": ((35, 0, 0), (100, 0, 0)), "Ankle": ((5, 0, 0), (22, 0, 0))},
        {"Hip": ((-8, 4, 6), (-22, 8, 12)), "Knee": ((5, 0, 0), (65, 0, 0)), "Ankle": ((10, 0, 0), (30, 0, 0)), "Foot": (30, 0, 0)},
        0.3,
    ),
    "side lunge": Limb(
        {"Hip": ((35, 22, 15), (85, 42, 30)), "Knee": ((40, 0, 0), (105, 0, 0)), "Ankle": (18, 0, 8)},
        {"Hip": ((10, 25, 5), (25, 48, 5)), "Knee": (6, 0, 0)},
        0.3,
    ),
    "sit": Limb({"Hip": ((72, 5, 3), (98, 18, 12)), "Knee": ((65, 0, 0), (108, 0, 0)), "Ankle": ((-8, 0, 4), (10, 0, 4))}, symmetry=0.6),
    "sit, legs crossed": Limb(
        {"Hip": (92, -12, 8), "Knee": (80, 0, 0), "Ankle": (-15, 0, 0)}, {"Hip": (82, 3, 3), "Knee": (88, 0, 0)}, 0.3, 0.7
    ),
    "sit on the floor": Limb({"Hip": ((75, 6, 5), (105, 15, 10)), "Knee": ((5, 0, 0), (110, 0, 0)), "Ankle": (-12, 0, 0)}, symmetry=0.5),
    "tailor seat": Limb({"Hip": (92, 38, 42), "Knee": (122, 0, 0), "Ankle": (-20, 0, 0)}, symmetry=0.7, spread=0.8),
    "kneel": Limb({"Hip": ((0, 8, 2), (70, 14, 6)), "Knee": ((88, 0, 0), (146, 0, 0)), "Ankle": (-40, 0, 0)}, symmetry=0.9),
    "half-kneel": Limb(
        {"Hip": (88, 10, 8), "Knee": (92, 0, 0), "Ankle": (5, 0, 0)},
        {"Hip": (0, 6, 3), "Knee": (92, 0, 0), "Ankle": (-25, 0, 0), "Foot": (20, 0, 0)},
        0.2,
    ),
    "kick": Limb(
        {"Hip": ((30, 8, 8), (105, 25, 15)), "Knee": ((70, 0, 0), (8, 0, 0)), "Ankle": (-25, 0, 0)},
        {"Hip": (2, 6, 10), "Knee": ((8, 0, 0), (25, 0, 0))},
        0.2,
    ),
    "knee up": Limb(
        {"Hip": ((50, 5, 3), (110, 12, 8)), "Knee": ((70, 0, 0), (115, 0, 0)), "Ankle": (-8, 0, 0)},
        {"Hip": (0, 4, 5), "Knee": (8, 0, 0)},
        0.2,
    ),
    "jump": Limb(
        {"Hip": ((0, 6, 5), (85, 20, 15)), "Knee": ((10, 0, 0), (115, 0, 0)), "Ankle": ((-35, 0, 0), (-15, 0, 0))}, symmetry=0.6, spread=1.4
    ),
    "run": Limb(
        {"Hip": ((30, 3, 2), (80, 5, 4)), "Knee": ((25, 0, 0), (105, 0, 0))},
        {"Hip": ((-20, 3, 5), (10, 5, 5)), "Knee": ((15, 0, 0), (110, 0, 0)), "Ankle": (-25, 0, 0), "Foot": (20, 0, 0)},
        0.3,
    ),
    "free": Limb({"Hip": ((-10, 0, 0), (100, 30, 20)), "Knee": ((5, 0, 0), (115, 0, 0))}, symmetry=0.15, spread=2.0),
}

TRUNK: dict[str, Trunk] = {
    "upright": Trunk(spread=0.8),
    "lean": Trunk(
        {
            "Torso": ((4, 0, 0), (16, 0, 0)),
            "Spine": ((2, 0, 0), (10, 0, 0)),
            "Chest": ((0, 0, 0), (6, 0, 0)),
            "Neck": ((-2, 0, 0), (-14, 0, 0)),
        }
    ),
    "slouch": Trunk(
        {
            "Torso": ((5, 0, 0), (26, 0, 0)),
            "Spine": ((4, 0, 0), (16, 0, 0)),
            "Chest": ((3, 0, 0), (10, 0, 0)),
            "Neck": ((5, 0, 0), (12, 0, 0)),
        }
    ),
    "bend": Trunk(
        {
            "Torso": ((8, 0, 0), (36, 0, 0)),
            "Spine": ((6, 0, 0), (26, 0, 0)),
            "Chest": ((3, 0, 0), (18, 0, 0)),
            "Neck": ((0, 0, 0), (-18, 0, 0)),
        }
    ),
    "arch": Trunk({"Torso": (-6, 0, 0), "Spine": (-6, 0, 0), "Chest": (-5, 0, 0), "Neck": (-10, 0, 0), "Head": (-8, 0, 0)}),
    "turn": Trunk(
        {
            "Torso": ((4, 0, -14), (4, 0, 14)),
            "Spine": ((3, 0, -14), (3, 0, 14)),
            "Chest": ((2, 0, -14), (2, 0, 14)),
            "Neck": ((0, 0, -25), (0, 0, 25)),
        }
    ),
    "side bend": Trunk(
        {
            "Torso": ((3, -15, 0), (3, 15, 0)),
            "Spine": ((2, -12, 0), (2, 12, 0)),
            "Chest": ((1, -9, 0), (1, 9, 0)),
            "Neck": ((0, -10, 0), (0, 10, 0)),
        }
    ),
    "look down": Trunk({"Neck": ((8, 0, 0), (28, 0, 0)), "Head": ((8, 0, 0), (24, 0, 0)), "Chest": (5, 0, 0)}),
    "free": Trunk(spread=2.2),
}

ARMS: dict[str, Limb] = {
    "hanging": Limb({"Shoulder": ((20, 12, 5), (40, 24, 10)), "Elbow": ((6, 2, 5), (35, 2, 10))}, spread=0.8),
    "behind": Limb({"Shoulder": (-45, 26, 15), "Elbow": ((25, 0, 10), (55, 0, 20))}, spread=0.6),
    "forearms up": Limb({"Shoulder": ((30, 16, 10), (70, 40, 15)), "Elbow": ((45, 2, 10), (115, 2, 10))}, symmetry=0.6),
    "hands on hips": Limb({"Shoulder": (-30, 47, 46), "Elbow": (84, 0, 20), "Wrist": (5, 0, 0)}, symmetry=0.8, spread=0.4),
    "crossed arms": Limb(
        {"Shoulder": (64, 36, 66), "Elbow": (98, 0, 5), "Collar": (2, 12, 0)},
        {"Shoulder": (65, 29, 68), "Elbow": (86, 0, 10), "Collar": (2, 10, 0)},
        0.7,
        0.35,
    ),
    "hands together": Limb({"Shoulder": ((76, 28, 62), (72, 48, 66)), "Elbow": ((42, 0, 10), (92, 0, 10))}, symmetry=0.9, spread=0.35),
    "in the lap": Limb({"Shoulder": ((45, 20, 15), (70, 38, 25)), "Elbow": ((45, 0, 10), (75, 0, 10))}, spread=0.6),
    "on the knees": Limb({"Shoulder": ((70, 32, 5), (85, 50, 10)), "Elbow": ((15, 0, 10), (45, 0, 15))}, spread=0.6),
    "forward": Limb({"Shoulder": ((72, 50, 10), (90, 100, 10)), "Elbow": ((5, 0, 0), (60, 0, 0)), "Collar": (2, 10, 0)}, symmetry=0.7),
    "sideward": Limb(
        {"Shoulder": ((5, 55, 0), (15, 105, 0)), "Elbow": ((5, 0, 0), (40, 0, 0)), "Collar": ((2, 0, 0), (8, 0, 0))}, symmetry=0.7
    ),
    "up": Limb(
        {"Shoulder": ((35, 115, -10), (60, 165, -15)), "Elbow": ((60, 0, 0), (5, 0, 0)), "Collar": ((8, 2, 0), (22, 4, 0))}, symmetry=0.7
    ),
    "at the head": Limb(
        {"Shoulder": ((45, 60, -20), (40, 105, -40)), "Elbow": (128, 0, 5), "Collar": ((4, 2, 0), (12, 2, 0))}, symmetry=0.7, spread=0.7
    ),
    "guard": Limb(
        {"Shoulder": ((55, 28, 5), (75, 55, 10)), "Elbow": ((105, 0, 5), (132, 0, 5)), "Collar": (4, 8, 0)}, symmetry=0.6, spread=0.8
    ),
    "throw": Limb(
        {"Shoulder": ((-15, 75, -65), (20, 120, -40)), "Elbow": ((100, 0, 0), (45, 0, 0)), "Collar": (8, -5, 0)},
        {"Shoulder": ((50, 55, 10), (85, 95, 10)), "Elbow": ((10, 0, 0), (50, 0, 0))},
        0.2,
    ),
    "swing": Limb(
        {"Shoulder": ((85, 25, 10), (85, 60, 15)), "Elbow": ((50, 0, 5), (100, 0, 5))},
        {"Shoulder": ((-50, 20, 5), (-50, 45, 5)), "Elbow": ((50, 0, 5), (100, 0, 5))},
        0.3,
    ),
    "reach down": Limb({"Shoulder": ((75, 35, 5), (90, 85, 5)), "Elbow": ((5, 0, 0), (25, 0, 0)), "Collar": (0, 10, 0)}, symmetry=0.8),
    "across": Limb(
        {"Shoulder": ((95, 55, 15), (118, 90, 15)), "Elbow": ((10, 0, 0), (70, 0, 0)), "Collar": (3, 18, 0)},
        {"Shoulder": ((25, 15, 5), (60, 80, 5)), "Elbow": ((10, 0, 5), (80, 0, 5))},
        0.2,
    ),
    "free": Limb({"Shoulder": ((-10, 20, 0), (85, 130, -10)), "Elbow": ((10, 0, 0), (110, 0, 0))}, symmetry=0.1, spread=1.8),
}

MODES: dict[str, Mode] = {
    "standing": Mode(
        ("stand", "weight on one leg"),
        ("upright", "upright", "turn", "look down"),
        ("hanging", "hanging", "hanging", "forearms up", "behind"),
    ),
    "walking": Mode(("stand",), ("upright", "lean"), ("hanging", "hanging", "forearms up"), gait=(0.4, 1.3)),
    "gesturing": Mode(
        ("stand", "weight on one leg"), ("upright", "turn", "lean"), ("forearms up", "forward", "at the head", "sideward", "hanging"), 0.6
    ),
    "hands on hips": Mode(("stand", "weight on one leg", "wide"), ("upright", "turn"), ("hands on hips",), 0.0),
    "crossed arms": Mode(("stand", "weight on one leg", "sit"), ("upright", "slouch"), ("crossed arms", "hands together"), 0.0),
    "reaching up": Mode(
        ("stand", "weight on one leg", "wide"),
        ("upright", "arch", "side bend", "turn"),
        ("up", "up", "hanging", "sideward", "forward"),
        0.5,
    ),
    "bending": Mode(("hinge", "hinge", "squat"), ("bend",), ("reach down", "hanging", "forward", "on the knees")),
    "squatting": Mode(("squat",), ("lean", "slouch", "upright"), ("forward", "on the knees", "forearms up", "hands together")),
    "sitting": Mode(
        ("sit", "sit", "sit, legs crossed", "sit on the floor", "tailor seat"),
        ("upright", "slouch", "lean", "look down", "turn"),
        ("in the lap", "on the knees", "forearms up", "in the lap", "hands together", "at the head"),
    ),
    "kneeling": Mode(("kneel", "half-kneel"), ("upright", "lean", "slouch"), ("hanging", "forearms up", "forward", "in the lap")),
    "lunging": Mode(
        ("lunge", "side lunge"), ("upright", "lean", "turn"), ("swing", "hanging", "forward", "up", "sideward", "hands on hips")
    ),
    "running": Mode(("run",), ("lean", "upright"), ("swing",), 0.1),
    "sports": Mode(
        ("kick", "knee up", "jump", "run", "lunge", "side lunge", "wide", "squat"),
        ("free", "lean", "turn", "arch", "side bend"),
        ("throw", "swing", "up", "guard", "sideward", "across", "forward", "free"),
        0.4,
    ),
    "free": Mode(("free", "stand", "wide", "jump", "sit"), ("free", "bend", "turn"), ("free", "across", "up", "sideward", "hanging"), 0.6),
}
"""Every mode by name."""

STUDIO_MODES = ("standing", "walking", "gesturing")
"""What motion-capture studios are full of: people up on their feet with their arms mostly down."""
