"""MuCo-3DHP's layout: one JSON file, images in two folders, fits by annotation id. Persons of a shot are those of a composited image."""

from __future__ import annotations

import json
from pathlib import Path

from engine.synthetic.layouts.studio import joints_box, whole_person
from engine.synthetic.shots import Shot, TrueImage
from schemas.skeletons import MUCO21


def write(root: Path, shots: list[Shot], *, fits: bool = True, annotations_first: bool = False) -> list[TrueImage]:
    """Every second shot as an augmented image, the others as unaugmented ones; the last person of all has no fit."""
    images, annotations, smpl, truth = [], [], {}, []
    for number, shot in enumerate(shots):
        file_name = f"{('augmented_set', 'unaugmented_set')[number % 2]}/{number // 500 + 1}/{number + 1:06d}.jpg"
        (root / file_name).parent.mkdir(parents=True, exist_ok=True)
        (root / file_name).write_bytes(shot.jpeg)
        camera = {"f": shot.camera.focal.tolist(), "c": shot.camera.princpt.tolist()}
        images.append({"id": number, "file_name": file_name, "width": shot.hw[1], "height": shot.hw[0], **camera})
        persons = []
        for p, person in enumerate(shot.persons):
            identity, pixels = len(annotations), shot.joints_img(p, MUCO21.joints)
            annotations.append(
                {
                    "id": identity,
                    "image_id": number,
                    "keypoints_img": pixels.tolist(),
                    "keypoints_cam": (shot.joints_cam(p, MUCO21.joints) * 1000).tolist(),
                    "keypoints_vis": shot.inside(p, MUCO21.joints).tolist(),
                    "bbox": joints_box(pixels, 1.1),
                }
            )
            pose, trans = person.smpl_in_camera(shot.camera)
            smpl[str(identity)] = {"pose": pose.tolist(), "shape": person.betas_10.tolist(), "trans": trans.tolist()}
            persons.append(whole_person(shot, p, MUCO21.joints, str(identity)))
        truth.append(TrueImage(file_name, tuple(persons)))
    data = {"images": images, "annotations": annotations}
    (root / "MuCo-3DHP.json").write_text(json.dumps(dict(reversed(data.items())) if annotations_first else data))
    if fits:
        smpl.popitem()
        (root / "smpl_param.json").write_text(json.dumps(smpl))
    return truth
