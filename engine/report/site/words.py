"""The words of a release's page: what each figure, reason and licence means to somebody who has never heard of it."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """A number of a person: its column, how the page calls it, its unit, what it is, and what good looks like."""

    column: str
    label: str
    unit: str
    better: str
    meaning: str
    good: str


FIGURES = (
    Figure(
        "score",
        "Score",
        "0 to 1",
        "higher",
        "One number for how far to trust a fit: how closely the body meets the joints somebody marked on the photograph, lowered when few "
        "joints were marked, when part of the body is outside the picture, or when the pose is very unusual. It knows little of depth.",
        "Good: most persons above 0.5. A whole person whose joints are all missed by a tenth of the box's size scores exactly 0.5.",
    ),
    Figure(
        "reprojection_error",
        "Joint distance on the photograph",
        "share of box size",
        "lower",
        "How far the body's joints land from the marked ones, on average, as a share of the person's size in the picture (the square root "
        "of the box's area). Also called reprojection error. One wrong mark can double it.",
        "Good: most persons below 0.1, that is, joints within a tenth of the person's size.",
    ),
    Figure(
        "keypoint_similarity",
        "Joint agreement",
        "0 to 1",
        "higher",
        "How well the marked joints are met, joint by joint: 1 where a joint is met, one half where it is missed by a tenth of the box's "
        "size, nothing where it is wrong altogether.",
        "Good: the bulk above 0.5, with few persons below 0.2.",
    ),
    Figure(
        "visible_fraction",
        "Joints met closely",
        "share",
        "higher",
        "The share of marked joints that the body meets within 5 % of the box's size.",
        "Good: more persons on the right than on the left; 1 means that every marked joint is met.",
    ),
    Figure(
        "truncation",
        "Outside the picture",
        "share",
        "lower",
        "The share of the body's joints that lie outside the photograph. What is outside was guessed, not seen.",
        "Good: nearly everybody at 0. Persons to the right are cut off by the photograph's edge.",
    ),
    Figure(
        "latent_norm",
        "Unusualness of the pose",
        "length of a code",
        "lower",
        "Every pose has a code in a model of how people usually stand and move; this is the code's length. Ordinary poses are short.",
        "Good: a single hump below about 6. A long tail to the right is unusual poses, or fits that went wrong.",
    ),
    Figure(
        "flip_disagreement",
        "Disagreement with the mirror image",
        "m",
        "lower",
        "The network can look at a person twice, as photographed and mirrored. This is how far the two answers lie apart in 3D, and so how "
        "sure it is, depth included. It needs no marked joints.",
        "Good: most persons below 0.1 m. Large values mean that the network was guessing.",
    ),
    Figure(
        "valid_joints",
        "Marked joints",
        "joints",
        "higher",
        "How many joints were marked on the photograph, and so what the figures above rest on. With 0 the score is 0: nothing was checked.",
        "Good: 6 joints or more.",
    ),
)
"""Every figure of a row, in the order in which a page shows them. Histograms are there of all but `valid_joints`."""

CHANGES = (
    Figure("mm", "Change", "mm", "lower", "How far the body's 24 joints moved on average, with the pelvis held in place.", ""),
    Figure("degrees", "Change of pose", "degrees", "lower", "How far the body's 24 joints turned on average.", ""),
    Figure("px", "Shift on the photograph", "px", "lower", "How far the pelvis moved on the photograph.", ""),
)

REASONS = {
    "undecodable": "the photograph is empty, cut short or damaged",
    "too_large": "the photograph has more than 100 million pixels",
    "size_mismatch": "the photograph is not of the size its annotation was made on",
    "image_error": "decoding or cropping the photograph failed",
    "killed_worker": "the process that worked on it died or was stuck",
    "degenerate_box": "nothing of the person's box lies inside the photograph",
    "duplicate_id": "the photograph has two persons of the same id; the first was kept",
    "person_error": "the annotator failed on this person",
    "non_finite": "the annotator's answer has numbers that are none",
    "behind_camera": "the fitted body is behind the camera",
    "shard_corrupt": "the file with the photographs is damaged",
    "process_died": "the process that worked on the file died",
    "shard_failed": "the file with the photographs could not be worked on",
    "filtered": "left out on purpose: this release is a part of another one",
    "no_fit": "the imported file has no fit for this person",
    "invalid_fit": "the imported file itself calls this fit invalid",
    "unmatched_fit": "a fit of the imported file that belongs to nobody here",
}

BODIES = {
    "open": "The bodies here are of the open body: a free, parametric model of the human body that comes with pseudogt. 72 numbers pose it "
    "(24 joint rotations) and 10 numbers shape it, laid out as in the widely used SMPL model, but they are not SMPL parameters: put into "
    "SMPL they give a wrong shape.",
    "smpl": "The bodies here are of SMPL, the parametric model of the human body most research uses: 72 numbers pose it (24 joint rotations) "
    "and 10 numbers shape it. To turn the numbers into a body you need the SMPL model, which has a licence of its own.",
}

CAMERA = (
    "Every person has a virtual camera: the network looks at each person's crop as if through one long lens, tens of metres away, and that "
    "lens is what puts the body back onto the photograph. It is not the lens that took the photograph, so distances between two persons "
    "mean nothing."
)
