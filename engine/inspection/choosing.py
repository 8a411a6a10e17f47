"""Which photographs are drawn: a bounded choice from a stream, the same for the same stream, whatever its length.

Persons of one image that come later in the stream join it, as long as the image is still among the chosen.
"""

from __future__ import annotations

from dataclasses import replace

from engine.inspection.config import Choice
from engine.inspection.photographs import Photograph
from engine.inspection.seen import name_hash

_MAX_PERSONS = 64
"""More persons of one image are counted, not drawn."""


class Chosen:
    """Up to `count` photographs: those of the lowest rank, or evenly spread."""

    def __init__(self, count: int, evenly: bool = False) -> None:
        self.count, self._evenly = count, evenly
        self._held: dict[tuple[str, str], tuple[float, Photograph]] = {}
        self._limit = float("inf")
        self._met, self._stride = 0, 1

    def offer(self, photograph: Photograph, rank: float, new: bool) -> None:
        """Consider a photograph. `new`: the image was not met before; `rank` is of no account when spread evenly."""
        if not self.count:
            return
        image = photograph.key, photograph.image_path
        if image in self._held:
            before, held = self._held[image]
            joined = replace(held, persons=(held.persons + photograph.persons)[:_MAX_PERSONS])
            self._held[image] = (before if self._evenly else min(before, rank), joined)
            return
        if self._evenly:
            place, self._met = self._met, self._met + new
            if not new or place % self._stride:
                return
            rank = float(place)
        elif rank > self._limit:
            return
        self._held[image] = (rank, replace(photograph, persons=photograph.persons[:_MAX_PERSONS]))
        if len(self._held) > 2 * self.count:
            self._prune()

    def photographs(self) -> list[Photograph]:
        """The chosen: lowest rank first, or in the order of the stream."""
        found = sorted(self._held.values(), key=lambda held: (held[0], held[1].key))
        if not self._evenly:
            return [photograph for _, photograph in found[: self.count]]
        wanted = min(self.count, len(found))
        return [found[(2 * i + 1) * len(found) // (2 * wanted)][1] for i in range(wanted)]

    def _prune(self) -> None:
        if self._evenly:
            self._stride *= 2
            self._held = {key: held for key, held in self._held.items() if held[0] % self._stride == 0}
            return
        kept = sorted(self._held.items(), key=lambda item: (item[1][0], item[0]))[: self.count]
        self._held, self._limit = dict(kept), kept[-1][1][0]


def rank(choose: Choice, seed: int, photograph: Photograph, contradictions: int, error_px: float) -> float:
    """What `Chosen` sorts by: the lower, the sooner drawn.

    `contradictions`: kinds met in it; `error_px`: its largest reprojection error, NaN if there is none.
    """
    if choose == "random":
        return float(name_hash(str(seed), photograph.key))
    if choose == "crowded":
        return -float(len(photograph.persons))
    if choose == "worst":
        return -(1e6 * contradictions + min(error_px, 1e6 - 1)) if error_px == error_px else -1e6 * contradictions
    sides = [max(person.bbox_xywh[2:]) for person in photograph.persons] or [0.0]
    return min(sides) if choose == "smallest" else -max(sides)
