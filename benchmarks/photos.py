"""What the loading benchmarks read: photographs, untouched, of which two annotated persons each are kept.

They are the COCO photographs of the folder PSEUDOGT_REAL_DATA (its `coco2017/` in COCO's own layout); without it, those of the synthetic
world. Every photograph is there under several names, so that an epoch is long enough for what is done once an epoch to weigh as little
as with a real set. Every loader reads the same files, which the operating system has in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

from engine.synthetic.config import SyntheticConfig
from engine.synthetic.world import write_world

COPIES, PERSONS = 16, 2
SPLIT = "train2017"


def photographs(folder: Path, at_least: int | None = None) -> tuple[Path, str]:
    """A raw dataset in COCO's layout, split `SPLIT`, made in an empty folder; and in words what is in it.

    at_least: how many photographs; None: COPIES of each.
    """
    real = Path(os.environ.get("PSEUDOGT_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "coco2017"
    if real.is_dir():
        source, origin = real, "COCO photographs"
    else:
        sets = {"mocap_images": 1, "itw3d_train_images": 1, "itw3d_test_images": 1, "itw3d_validation_images": 0, "mocap_test_images": 0}
        source, origin = (
            Path(write_world(SyntheticConfig(out=str(folder / "world"), itw_images=80, **sets))["coco"]),
            "synthetic photographs",
        )
    content = json.loads((source / "annotations" / f"person_keypoints_{SPLIT}.json").read_text())
    persons = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation["iscrowd"] and annotation["num_keypoints"]:
            persons[annotation["image_id"]].append(annotation)
    chosen = [image for image in content["images"] if len(persons[image["id"]]) >= PERSONS]
    root, images, annotations = folder / "coco", [], []
    (root / "annotations").mkdir(parents=True)
    (root / SPLIT).mkdir()
    for copy in range(COPIES if at_least is None else -(-at_least // len(chosen))):
        for image in chosen:
            name, number = f"{copy:03d}-{image['file_name']}", len(images)
            shutil.copyfile(source / SPLIT / image["file_name"], root / SPLIT / name)
            images.append(image | {"id": number, "file_name": name})
            annotations += [a | {"id": PERSONS * number + i, "image_id": number} for i, a in enumerate(persons[image["id"]][:PERSONS])]
    (root / "annotations" / f"person_keypoints_{SPLIT}.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root, f"{len(chosen)} {origin} with {PERSONS} persons each"
