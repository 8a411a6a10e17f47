"""Human3.6M in the layout of the authors' JSON files: studio MoCap with 17 3D joints and SMPL fits.

Files: `annotations/Human36M_subject<N>_{data,camera,joint_3d,SMPL_NeuralAnnot}.json` and `images/`. Joints are in world millimetres; the
published cameras mean x_cam = R x + t. Fits are in world metres, one a time instant; their file may be absent and single fits missing.
The joint that some of the authors' code calls Nose is Head here, as in the rest of it. Frames count from 0, the images' names from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from engine.body.smpl import Body, load_body
from engine.datasets.base import DatasetConfig, Found, RawDataset, Unreadable, safe_key
from engine.datasets.fixed_cameras import Key
from engine.datasets.mocap_json import Files, Layout, read_part
from engine.datasets.mocap_tables import Fields
from engine.datasets.options import FrameSplit
from engine.datasets.smpl_fits import RestPelvis
from engine.errors import ConfigError, RawDataError
from schemas.sample import Supervision
from schemas.skeletons import H36M17


class Human36m(RawDataset):
    """Instances have skeleton h36m17 with 2D and 3D joints, and neutral SMPL in the camera frame where a fit exists.

    Every joint is valid, inside the image or not: its place is known. Keys are the images' names.
    """

    supervision: ClassVar[Supervision] = "mocap"
    known_errors: ClassVar[Mapping[str, str]] = {
        "S11 Directions 2, camera 1": "the video is corrupt; its folder s_11_act_02_subact_02_ca_01 is in options.excluded",
        "S9 drift": "the joints of S9 have drifted off the image in parts of Greeting, SittingDown 1 and Waiting 1; evaluations keep them",
        "R (x - t)": "camera an older converter's files give the camera's place as t; taken is the reading that puts persons in boxes",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.options = config.human36m
        splits = {"train": self.options.train, "test": self.options.test}
        if config.split not in splits:
            raise ConfigError(f"dataset human36m: split {config.split!r} is not one of {', '.join(splits)}")
        self.part: FrameSplit = splits[config.split]

    @cached_property
    def body(self) -> Body:
        return load_body(self.options.body)

    @cached_property
    def pelvis(self) -> RestPelvis:
        return RestPelvis(self.body)

    def settings(self) -> dict[str, Any]:
        return {**self.part.model_dump(mode="json"), "excluded": list(self.options.excluded), "body": self.body.digest}

    def annotation_files(self) -> list[Path]:
        parts = [self._files(subject) for subject in self.part.subjects]
        return [file for part in parts for file in (part.data, part.cameras, part.joints, part.fits) if file]

    def _files(self, subject: int) -> Files:
        stem = f"Human36M_subject{subject}"
        data, cameras, joints = (self.require("annotations", f"{stem}_{kind}.json") for kind in ("data", "camera", "joint_3d"))
        fits = self.root / "annotations" / f"{stem}_SMPL_NeuralAnnot.json"
        return Files(f"subject{subject}", data, cameras, joints, fits if fits.exists() else None)

    def items(self) -> Iterator[Found]:
        self.require("images")
        fields = Fields(instant=("action_idx", "subaction_idx", "frame_idx"), camera=("cam_idx",))
        layout = Layout(H36M17, fields, "f", "c", self._unwanted, self._name, self.image_file)
        for subject in sorted(self.part.subjects):
            files = self._files(subject)
            try:
                yield from read_part(layout, files, lambda: self.pelvis)
            except RawDataError as error:
                if len(self.part.subjects) == 1:
                    raise
                yield Unreadable(files.part, "annotation_unreadable", str(error))

    def _unwanted(self, image: dict[str, Any]) -> str | None:
        if image["frame_idx"] % self.part.every_nth or image["cam_idx"] not in self.part.cameras:
            return "not_sampled"
        return "excluded" if PurePosixPath(image["file_name"]).parent.name in self.options.excluded else None

    def _name(self, file_name: str, identity: int, camera: Key, instant: Key) -> tuple[str, str]:
        action, subaction, frame = instant
        fallback = f"image_{identity}_act_{action}_subact_{subaction}_ca_{camera[0]}_{frame}"
        return safe_key(PurePosixPath(file_name).stem, fallback), f"images/{file_name}"
