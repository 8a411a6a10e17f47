"""CrowdPose's layout: COCO's JSON with 14 joints, a crowd index an image, and width and height exchanged as in the published files."""

from __future__ import annotations

from pathlib import Path

from engine.synthetic.layouts.coco import joints_box, whole_keypoints, write_json
from engine.synthetic.shots import Shot, TrueImage, true_person
from schemas.skeletons import CROWDPOSE14

CATEGORY = {
    "supercategory": "person", "id": 1, "name": "person",
    "keypoints": ["left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
                  "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"],
    "skeleton": [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11]],
}  # fmt: skip
_FIRST_ID = 100_000
_COUNTED = 12
"""`num_keypoints` counts the limbs' joints, and not head and neck."""


def write(
    root: Path,
    shots: list[Shot],
    *,
    split: str = "train",
    swapped_size: bool = True,
    path: str = "annotations/crowdpose_{}.json",
    folder: str = "images/",
) -> list[TrueImage]:
    """The JSON file and the photographs; what a loader has to find of them."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    names = CROWDPOSE14.joints
    images, annotations, truth = [], [], []
    for i, shot in enumerate(shots):
        image_id = _FIRST_ID + i
        (root / folder / f"{image_id}.jpg").write_bytes(shot.jpeg)
        height, width = shot.hw[::-1] if swapped_size else shot.hw
        images.append({"file_name": f"{image_id}.jpg", "id": image_id, "height": height, "width": width, "crowdIndex": 0.33})
        persons = []
        for p in range(len(shot.persons)):
            annotation_id = 10 * image_id + p
            keypoints = whole_keypoints(shot, p, names)
            counted = sum(v > 0 for v in keypoints[2 : 3 * _COUNTED : 3])
            annotations.append({
                "num_keypoints": counted, "iscrowd": 0, "keypoints": keypoints, "image_id": image_id,
                "bbox": joints_box(shot, p, names), "category_id": 1, "id": annotation_id,
            })  # fmt: skip
            persons += [true_person(shot, p, names, str(annotation_id))] if any(keypoints) else []
        truth.append(TrueImage(f"{folder}{image_id}.jpg", tuple(persons)))
    write_json(root / path.format(split), images, annotations, CATEGORY)
    return truth
