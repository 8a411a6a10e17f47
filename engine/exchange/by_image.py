"""Persons grouped by their image, for formats whose record is an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.exchange.base import Person
from schemas.sample import Sample

VECTORS = {"pose": 72, "betas": 10, "transl": 3, "focal": 2, "princpt": 2, "latent": 32}
"""Columns of a row that are vectors, and their lengths."""


class ByImage:
    """Calls `write` with the persons of each image, once no more of them can come."""

    def __init__(self, write: Callable[[list[Person]], None]) -> None:
        self._write = write
        self._waiting: list[Person] = []

    def add(self, person: Person) -> None:
        if self._waiting and self._waiting[0].sample.key != person.sample.key:
            self.flush()
        self._waiting.append(person)

    def flush(self) -> None:
        """Write the persons of the last image."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []


def written_sample(persons: list[Person]) -> Sample:
    """The image's sample with these persons alone, in this order."""
    return persons[0].sample.model_copy(update={"instances": tuple(person.instance for person in persons)})


def vectors(persons: list[Person]) -> dict[str, np.ndarray]:
    """Columns of the rows of P persons by name, each (P, size) float32."""
    parts = {
        "pose": "pose_72",
        "betas": "betas_10",
        "transl": "transl_3",
        "focal": "focal_2",
        "princpt": "princpt_2",
        "latent": "latent_32",
    }
    return {name: np.array([getattr(person, part) for person in persons], np.float32) for name, part in parts.items()}


def image_extension(image: bytes) -> str:
    """'png' or 'jpg', as shards hold them."""
    return "png" if image.startswith(b"\x89PNG") else "jpg"
