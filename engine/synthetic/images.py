"""What is written of a picture: the JPEG, a person's box and outline, a crowd's run lengths. Pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engine.errors import StorageError


def write_jpeg(path: Path, image_HW3: np.ndarray, quality: int) -> None:
    """An RGB uint8 image; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image_HW3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise StorageError(f"{path}: could not write the image; is the disk full?")


def mask_box(mask_HW: np.ndarray) -> list[float]:
    """Smallest box [x, y, width, height] around the mask's pixels; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if len(rows) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    return [float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)]


def mask_polygons(mask_HW: np.ndarray) -> list[list[float]]:
    """COCO's outlines: flat lists x0, y0, x1, y1... of at least three points each."""
    contours, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = [[float(v) for v in contour.ravel()] for contour in contours if len(contour) >= 3]
    if found:
        return found
    x, y, w, h = mask_box(mask_HW)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def mask_run_lengths(mask_HW: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed RLE: column by column, beginning with the number of pixels outside."""
    flat = np.concatenate([[0], mask_HW.astype(np.int8).ravel(order="F"), [0]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask_HW.size]]))
    if len(edges) and edges[-1] == mask_HW.size:
        counts = counts[:-1]
    return {"counts": [int(c) for c in counts], "size": [int(n) for n in mask_HW.shape]}
