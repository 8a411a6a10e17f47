"""Person detectors for photographs without boxes, behind one method, chosen by name or by the import path of your own.

`ssdlite` is the one that installs from PyPI with its weights. Any other is a function of yours, `module:function`, that takes an image
(height, width, 3), uint8 RGB, and returns its persons as `Detection`; the module has to be importable (PYTHONPATH, or installed):

    from engine.datasets.detectors import Detection

    def detect(image):
        return [Detection(bbox_xywh=(x, y, w, h), score=0.9) for x, y, w, h in my_model(image)]
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.errors import ConfigError


@dataclass(frozen=True)
class Detection:
    """One person in an image."""

    bbox_xywh: Sequence[float]
    """Left, top, width, height; pixels."""
    score: float
    """From 0 to 1."""
    keypoints: Sequence[Sequence[float]] | None = None
    """x, y, score of every joint of the skeleton that the config names; a score of 0 is a joint not found."""


class PersonDetector(Protocol):
    """Anything that finds persons."""

    def detect(self, image_HW3: np.ndarray) -> list[Detection]:
        """Persons of an image, uint8 RGB, in any order."""


def _ssdlite() -> PersonDetector:
    from engine.datasets.ssdlite import SsdLite

    return SsdLite()


DETECTORS: dict[str, Callable[[], PersonDetector]] = {"ssdlite": _ssdlite}


def open_detector(name: str) -> PersonDetector:
    """The detector a config names. ConfigError if there is none of that name, MissingInput if what it needs is not installed."""
    if name in DETECTORS:
        return DETECTORS[name]()
    module, colon, function = name.partition(":")
    if not (colon and module and function):
        known = ", ".join(DETECTORS)
        raise ConfigError(f"photos.detector {name!r}: expected {known} or `module:function` of your own; see docs/YOUR_PHOTOGRAPHS.md")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"photos.detector {name!r}: {error}; the module has to be importable, such as by PYTHONPATH") from None
    if not callable(found):
        raise ConfigError(f"photos.detector {name!r}: expected a function of an image, found {type(found).__name__}")
    return _Function(found)


@dataclass(frozen=True)
class _Function:
    detect: Callable[[np.ndarray], list[Detection]]
