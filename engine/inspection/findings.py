"""Every contradiction that an inspection looks for, by name, and the counter of those it met."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

from engine.inspection.record import Example, Finding, Level

EXAMPLES = 10
SMALL_PX = 64
OUTSIDE_BOX = 0.2
OFF_PX, OFF_BOX = 8.0, 0.05
UNEVEN = 0.2
THIGH_M = (0.15, 0.8)
DEPTH_M = 150.0
AGREE, AGREE_OF = 0.7, 20


class Kind(NamedTuple):
    level: Level
    of: Literal["images", "persons", "parts", "set"]
    meaning: str


KINDS: dict[str, Kind] = {
    "annotation_ends": Kind("wrong", "set", "the annotation cannot be read beyond this point; all counts are of what came before"),
    "shard_damaged": Kind("wrong", "parts", "the shard is absent, or its bytes are not those of its manifest"),
    "part_unreadable": Kind("wrong", "parts", "a part of the raw dataset that the loader cannot read; the rest goes on"),
    "image_missing": Kind("wrong", "images", "the annotation names a file that is not there"),
    "image_unreadable": Kind("wrong", "images", "the file is there and cannot be read"),
    "image_empty": Kind("wrong", "images", "the file has no bytes"),
    "unsupported_format": Kind("wrong", "images", "neither JPEG nor PNG"),
    "image_undecodable": Kind("wrong", "images", "no image header can be read"),
    "video_undecodable": Kind("wrong", "images", "a frame of a file that is no readable video"),
    "image_too_large": Kind("wrong", "images", "more pixels than ingest accepts"),
    "image_cut_short": Kind("suspect", "images", "the file has no end mark; the download may be incomplete"),
    "size_swapped": Kind("wrong", "images", "the annotation's width is the file's height and the reverse, and no EXIF turn explains it"),
    "size_differs": Kind("wrong", "images", "the annotation was made on an image of another size"),
    "orientation_ambiguous": Kind("suspect", "images", "an EXIF turn that the annotated size does not settle"),
    "frame_beyond_video": Kind("suspect", "images", "a frame's number is beyond what the video's header counts"),
    "image_contradicts_itself": Kind("wrong", "images", "one image has another size, or lies elsewhere, for another of its persons"),
    "key_of_two_images": Kind("note", "images", "one key for two image paths; ingest lengthens the later ones' keys"),
    "image_of_two_keys": Kind("wrong", "images", "one image path under two keys"),
    "same_content": Kind("suspect", "images", "as many bytes, and the same first 64 KiB, as an image before it"),
    "annotation_id_twice": Kind("wrong", "persons", "two persons of one image with one annotation id"),
    "person_twice": Kind("suspect", "persons", "two persons of one image with the very same joints"),
    "no_valid_joint": Kind("note", "persons", "no valid 2D joint"),
    "joints_coincide": Kind("suspect", "persons", "three or more valid joints, all within a pixel"),
    "box_outside": Kind("wrong", "persons", "the box lies outside the image"),
    "box_leaves_image": Kind("note", "persons", "the box reaches beyond the image by more than a pixel"),
    "joint_outside_image": Kind("note", "persons", "a joint marked valid lies outside the image"),
    "joint_outside_box": Kind("note", "persons", f"a valid joint lies beyond the box by {100 * OUTSIDE_BOX:.0f} % of its larger side"),
    "camera_missing": Kind("wrong", "persons", "3D joints or SMPL without the camera that projects them"),
    "behind_camera": Kind("wrong", "persons", "a 3D joint lies behind the camera"),
    "too_far": Kind("suspect", "persons", f"deeper than {DEPTH_M:g} m; are these metres?"),
    "bone_length": Kind("suspect", "persons", f"a thigh shorter than {THIGH_M[0]} or longer than {THIGH_M[1]} m; are these metres?"),
    "bones_uneven": Kind("suspect", "persons", f"a left bone differs from the right one by more than {100 * UNEVEN:.0f} %"),
    "reprojection_off": Kind(
        "wrong", "persons", f"3D joints fall beside the 2D joints: by over {OFF_PX:g} px and {100 * OFF_BOX:.0f} % of the box's larger side"
    ),
    "sides_swapped_in_3d": Kind("wrong", "persons", "3D joints fit the 2D joints once left and right are exchanged"),
    "sides_doubtful": Kind("wrong", "set", f"fewer than {100 * AGREE:.0f} % of the cases that can tell say that left is left"),
}  # fmt: skip
"""In the order in which they are reported."""

UNDRAWABLE = {"image_missing", "image_unreadable", "image_empty", "unsupported_format", "image_undecodable", "video_undecodable"}
"""Of an image that no sheet can show."""


class Findings:
    """Counts by kind, with the first examples of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, list[Example]] = {}
        self._recent: dict[str, set[str]] = {}

    def add(self, name: str, key: str, annotation_id: str | None = None, message: str = "") -> None:
        """Count one case. KeyError if no such kind is described above."""
        if KINDS[name].level != "note":
            self._recent.setdefault(key, set()).add(name)
        self.counts[name] += 1
        examples = self._examples.setdefault(name, [])
        if len(examples) < EXAMPLES:
            examples.append(Example(key=key, annotation_id=annotation_id, message=message))

    def take_recent(self) -> dict[str, set[str]]:
        """Kinds, notes aside, by the key they were met at since the last call."""
        recent, self._recent = self._recent, {}
        return recent

    def found(self) -> tuple[Finding, ...]:
        """What was met, the worst level first."""
        names = sorted((n for n in KINDS if self.counts[n]), key=lambda n: ("wrong", "suspect", "note").index(KINDS[n].level))
        return tuple(
            Finding(
                name=n,
                level=KINDS[n].level,
                meaning=KINDS[n].meaning,
                of=KINDS[n].of,
                count=self.counts[n],
                examples=tuple(self._examples[n]),
            )
            for n in names
        )
