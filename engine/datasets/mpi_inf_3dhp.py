"""MPI-INF-3DHP: studio MoCap without markers, eight subjects, fourteen cameras; a test set partly out of doors.

Split 'train' comes in two layouts, and the one that lies in the root is read: the authors' JSON files (`MPI-INF-3DHP_1k.json` and others,
`images_1k/`; joints and fits in the world) or the download itself (`S<n>/Seq<m>/annot.mat`, mpi_inf_3dhp_raw.py). Split 'test' is the
download's `TS<n>/annot_data.mat` (mpi_inf_3dhp_testset.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from engine.body.smpl import Body, load_body
from engine.datasets import mpi_inf_3dhp_raw, mpi_inf_3dhp_testset
from engine.datasets.base import DatasetConfig, Found, RawDataset, Unreadable
from engine.datasets.fixed_cameras import Key
from engine.datasets.mocap_json import Files, Layout, read_part
from engine.datasets.mocap_tables import Fields
from engine.datasets.smpl_fits import RestPelvis
from engine.errors import ConfigError, MissingInput, RawDataError, UnsafeInput
from schemas.sample import Supervision
from schemas.skeletons import MI17

_STEM = "MPI-INF-3DHP"
_TEST_FOLDER = "mpi_inf_3dhp_test_set"
SEQUENCES = (1, 2)
"""Every subject has two."""


class Mpi3dhp(RawDataset):
    """Instances have skeleton mi17 with 2D and 3D joints: neutral SMPL where the JSON layout has a fit, `joints_univ` in the test set.

    Every joint is valid, inside the image or not: its place is known. Keys are S<n>_Seq<m>_video_<camera>_F<frame> and TS<n>_F<frame>.
    """

    supervision: ClassVar[Supervision] = "mocap"
    known_errors: ClassVar[Mapping[str, str]] = {
        "S3/Seq1, video 7": "frame 12488 is annotated and has no image: its image counts as missing",
        "S6/Seq2, video 2": "the video ends some 2,200 frames early: what is annotated beyond its end counts as missing",
        "test cameras": "annot_data.mat does not say the cameras: they are solved from its 2D and 3D joints",
        "28 joints": "annot.mat's joints are mapped to the 17 that are published elsewhere, by name",
    }

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.options = config.mpi_inf_3dhp
        if config.split not in ("train", "test"):
            raise ConfigError(f"dataset {self.name}: split {config.split!r} is not one of train, test")

    @cached_property
    def layout(self) -> str:
        """'json', 'raw' or 'test'. MissingInput if the root holds none of them."""
        if self.split == "test":
            return "test"
        if (self.root / f"{_STEM}_1k.json").exists():
            return "json"
        if any((self.root / f"S{subject}").is_dir() for subject in self.options.train.subjects):
            return "raw"
        raise MissingInput(
            f"dataset {self.name}: {self.root} has neither {_STEM}_1k.json (the authors' JSON layout) nor "
            f"S{self.options.train.subjects[0]}/Seq1/annot.mat (the download); check dataset.root and mpi_inf_3dhp.train.subjects"
        )

    @cached_property
    def body(self) -> Body:
        return load_body(self.options.body)

    @cached_property
    def pelvis(self) -> RestPelvis:
        return RestPelvis(self.body)

    def settings(self) -> dict[str, Any]:
        if self.layout == "test":
            return {"sequences": sorted(self.options.test)}
        fits = {"body": self.body.digest} if self.layout == "json" and self._json_files().fits else {}
        return {**self.options.train.model_dump(mode="json"), "layout": self.layout, **fits}

    def annotation_files(self) -> list[Path]:
        if self.layout == "test":
            return [folder / mpi_inf_3dhp_testset.ANNOTATION for folder in self._test_folders()]
        if self.layout == "json":
            files = self._json_files()
            return [file for file in (files.data, files.cameras, files.joints, files.fits) if file]
        folders = [folder for _, _, folder in self._sequences()]
        return [folder / "annot.mat" for folder in folders] + [
            calibration for folder in folders if (calibration := folder / mpi_inf_3dhp_raw.CALIBRATION).exists()
        ]

    def items(self) -> Iterator[Found]:
        if self.layout == "json":
            fields = Fields(instant=("subject_idx", "seq_idx", "frame_idx"), camera=("subject_idx", "seq_idx", "cam_idx"))
            layout = Layout(MI17, fields, "focal", "princpt", self._unwanted, _name, self.image_file)
            yield from read_part(layout, self._json_files(), lambda: self.pelvis)
        elif self.layout == "raw":
            for subject, sequence, folder in self._sequences():
                read = mpi_inf_3dhp_raw.Sequence(self.root, folder, f"S{subject}_Seq{sequence}", self.options.train)
                yield from self._part(read.items, folder / "annot.mat", only=len(self._sequences()) == 1)
        else:
            for folder in self._test_folders():
                read_test = mpi_inf_3dhp_testset.Sequence(self.root, folder)
                yield from self._part(read_test.items, folder / mpi_inf_3dhp_testset.ANNOTATION, only=len(self.options.test) == 1)

    def _part(self, items: Callable[[], Iterator[Found]], path: Path, only: bool) -> Iterator[Found]:
        """The items of a sequence file; one that is damaged among others costs itself."""
        try:
            yield from items()
        except (RawDataError, UnsafeInput, MissingInput) as error:
            if only:
                raise
            reason = "annotation_unsafe" if isinstance(error, UnsafeInput) else "annotation_unreadable"
            yield Unreadable("_".join((*path.parent.relative_to(self.root).parts, path.stem)), reason, str(error))

    def _json_files(self) -> Files:
        data, cameras, joints = (self.require(f"{_STEM}{kind}.json") for kind in ("_1k", "_camera_1k", "_joint_3d"))
        fits = self.root / f"{_STEM}_SMPL_NeuralAnnot.json"
        return Files("train", data, cameras, joints, fits if fits.exists() else None)

    def _unwanted(self, image: dict[str, Any]) -> str | None:
        part = self.options.train
        sampled = image["frame_idx"] % part.every_nth == 0 and image["cam_idx"] in part.cameras and image["subject_idx"] in part.subjects
        return None if sampled else "not_sampled"

    def _sequences(self) -> list[tuple[int, int, Path]]:
        wanted = [(subject, sequence) for subject in sorted(self.options.train.subjects) for sequence in SEQUENCES]
        return [(s, q, self.require(f"S{s}", f"Seq{q}", "annot.mat").parent) for s, q in wanted]

    def _test_folders(self) -> list[Path]:
        top = (_TEST_FOLDER,) if (self.root / _TEST_FOLDER).is_dir() else ()
        return [self.require(*top, f"TS{number}", mpi_inf_3dhp_testset.ANNOTATION).parent for number in sorted(self.options.test)]


def _name(file_name: str, identity: int, camera: Key, instant: Key) -> tuple[str, str]:
    subject, sequence, number = camera
    key = f"S{subject}_Seq{sequence}_video_{number}_F{instant[-1]:06d}"
    return key, f"images_1k/S{subject}/Seq{sequence}/imageSequence/{file_name}"
