"""Where the persons of a site are in their photographs: read from the shard set, one photograph at a time.

A photograph or a person that cannot be found or read costs itself: the site shows the body without it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import ConfigError, EngineError
from engine.releases.parallel import in_parallel
from engine.releases.store import Release
from engine.report.pictures import read_sample
from engine.report.site.persons import Name
from engine.shards.reader import ShardSet, open_shard_set
from schemas.manifests import ShardEntry, ShardIndexRow
from schemas.sample import Instance

log = logging.getLogger(__name__)
_THREADS = 4


@dataclass(frozen=True)
class Seen:
    """A person on a photograph. `image_HW3` is None where the site has no photographs or this one cannot be read."""

    image_HW3: np.ndarray | None
    image_wh: tuple[int, int] | None
    instance: Instance | None


NOWHERE = Seen(None, None, None)


class Photographs:
    """Finds persons in a shard set; indexes are read when they are needed and kept."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._entries = {entry.sha256: entry for entry in shards.manifest.shards}
        self._indexes: dict[str, dict[str, ShardIndexRow]] = {}

    def see(self, names: Sequence[Name], sources: Sequence[str]) -> Iterator[tuple[int, Seen]]:
        """Each person's place in `names` with what is seen of it, photograph by photograph, in the order of their first persons."""
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, ((key, _), source) in enumerate(zip(names, sources, strict=True)):
            groups[source, key].append(place)
        for source in dict.fromkeys(sources):
            self._index(source)
        for places, found in in_parallel(lambda item: (item[1], self._read(*item[0])), groups.items(), _THREADS):
            if found is None:
                yield from ((place, NOWHERE) for place in places)
                continue
            sample, image = found
            persons = {instance.annotation_id: instance for instance in sample.instances}
            for place in places:
                yield place, Seen(image, (sample.width, sample.height), persons.get(names[place][1]))

    def _index(self, source: str) -> dict[str, ShardIndexRow]:
        if source not in self._indexes:
            entry = self._entries.get(source)
            self._indexes[source] = {row.key: row for row in self._shards.index(entry)} if entry else {}
        return self._indexes[source]

    def _read(self, source: str, key: str):
        row = self._index(source).get(key)
        entry: ShardEntry | None = self._entries.get(source)
        if row is None or entry is None:
            return None
        try:
            return read_sample(self._shards, entry, row)
        except EngineError as error:
            log.warning("shown without its photograph: %s", error)
            return None


def open_photographs(url: str, release: Release) -> Photographs:
    """The shard set a release was made from. ConfigError if it is another one."""
    shards, wanted = open_shard_set(url), release.manifest.lineage.get("shard_set")
    if shards.digest != wanted:
        raise ConfigError(f"shard_set {url}: its digest is {shards.digest}, but {release.where} was made from {wanted}; give that one")
    return Photographs(shards)
