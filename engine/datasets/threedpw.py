"""3DPW: in-the-wild video with SMPL parameters measured by body-worn sensors, as downloaded or as the authors' JSON.

Raw: `sequenceFiles/<split>/<sequence>.pkl`. JSON: `3DPW_<split>.json` or, without it, `3DPW_latest_<split>.json`, in the root, `data/` or
`annotations/`. Images are `imageFiles/<sequence>/image_%05d.jpg` for both. Raw wins where both are there: it has what the converter
left out, and its parameters as they were published. Keys, paths and annotation ids are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from engine.datasets.base import Found, RawDataset, Unreadable
from engine.datasets.pickles import read_pickle
from engine.datasets.threedpw_json import ConvertedFile
from engine.datasets.threedpw_raw import RawSequence
from engine.errors import MissingInput, RawDataError, UnsafeInput
from schemas.sample import Supervision

_FOLDERS = ("", "data", "annotations")


class ThreeDPW(RawDataset):
    """Instances have skeleton smpl24 with 2D and 3D joints and gendered SMPL in the camera frame.

    `joints_valid` is for joints in front of the camera and inside the image. Betas are those of the body of the person's gender;
    what they may teach a neutral one is for training to say. annotation_id is '<sequence>_<person>_<frame>'.
    """

    supervision: ClassVar[Supervision] = "itw3d"
    known_errors: ClassVar[Mapping[str, str]] = {
        "campose_valid": "frames whose camera was not aligned are left out, person by person (raw; the JSON has none of them)",
        "300 betas": "some persons have 300 betas, of which SMPL has the first 10 (raw)",
        "neutral root": "the JSON's translations were made with the neutral body's rest pelvis, up to centimetres off for a gendered "
        "one; put right where the file has R and t, kept as published where it has not",
        "R and t": "a version of the JSON has R and t although its joints and SMPL parameters are in the camera frame already: which frame "
        "they are in is decided by its own 2D joints, for the whole file",
        "openpose": "poses2d and openpose_result are a detector's: empty below six joints, and now and then of another person; "
        "they are never taken for joints, and only their median over a raw sequence is compared with its projected joints",
    }

    @cached_property
    def layout(self) -> str:
        """'raw' or 'json'. MissingInput if the root holds neither for the split."""
        if (self.root / "sequenceFiles" / self.split).is_dir():
            return "raw"
        if self._json_path():
            return "json"
        raise MissingInput(
            f"dataset {self.name}: {self.root}/sequenceFiles/{self.split} does not exist, nor does 3DPW_{self.split}.json; "
            "check dataset.root and dataset.split (train, validation, test)"
        )

    def settings(self) -> dict[str, Any]:
        return {"layout": self.layout}

    def annotation_files(self) -> list[Path]:
        if self.layout == "json":
            return [path for path in (self._json_path(),) if path]
        folder = self.require("sequenceFiles", self.split)
        files = sorted(folder.glob("*.pkl"), key=lambda path: path.stem + "_")
        if not files:
            raise MissingInput(f"dataset {self.name}: {folder} holds no sequence (*.pkl); unpack sequenceFiles.zip there")
        return files

    def items(self) -> Iterator[Found]:
        self.require("imageFiles")
        files = self.annotation_files()
        if self.layout == "json":
            yield from ConvertedFile(files[0], self.image_file).items()
            return
        for path in files:
            try:
                sequence = RawSequence(path, read_pickle(path))
                self.image_file(sequence.image_path(0))
                if path.stem != sequence.name and path.with_name(f"{sequence.name}.pkl") in files:
                    raise RawDataError(f"{path}: is sequence {sequence.name} as {sequence.name}.pkl is; remove the copy")
            except (UnsafeInput, RawDataError) as error:
                if len(files) == 1:
                    raise
                reason = "annotation_unsafe" if isinstance(error, UnsafeInput) else "annotation_unreadable"
                yield Unreadable(self.part_key(path), reason, str(error))
                continue
            yield from self._sequence(sequence)

    def _sequence(self, sequence: RawSequence) -> Iterator[Found]:
        key = self.part_key(sequence.path)
        if (size := self._image_size(sequence)) is None:
            folder = self.root / "imageFiles" / sequence.name
            message = (
                f"none of the {sequence.frames} images of sequence {sequence.name} is readable in {folder}; unpack imageFiles.zip there"
            )
            yield Unreadable(key, "image_missing", message, sequence.instances)
        elif wrong := sequence.wrong_calibration(size):
            yield Unreadable(key, "calibration_wrong", f"{sequence.path}: {wrong}", sequence.instances)
        else:
            yield from sequence.items(size, self.image_file)

    def _json_path(self) -> Path | None:
        names = (f"3DPW_{self.split}.json", f"3DPW_latest_{self.split}.json")
        places = [self.root / folder / name for name in names for folder in _FOLDERS]
        return next((path for path in places if path.is_file()), None)

    def _image_size(self, sequence: RawSequence) -> tuple[int, int] | None:
        """Width and height of a sequence's frames, which the sequence file does not say: from the first image with a header."""
        for frame in range(sequence.frames):
            try:
                with Image.open(self.image_file(sequence.image_path(frame))) as image:
                    return image.size
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue
        return None
