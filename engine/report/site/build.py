"""A static site about a release: `index.html` opens from disk or from any web server, and asks nothing of a network.

A site is a view: made again, it replaces the one before, and index.html is written last.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from engine.body.smpl import Body, load_body
from engine.errors import ConfigError
from engine.releases.store import Release, open_reference
from engine.report.site.card import describe
from engine.report.site.changes import Changes, changes_of, read_changes
from engine.report.site.choose import drawn
from engine.report.site.config import SiteConfig
from engine.report.site.data import bodies_file, body_file, faces_file, mesh_file, other_file, persons_file
from engine.report.site.persons import Shown, read_counterparts, read_shown
from engine.report.site.photographs import NOWHERE, Photographs, Seen, open_photographs
from engine.report.site.scripts import script
from engine.report.site.tiles import A_SHEET, CHUNK, COLUMNS, ROWS, ChunkPictures, File
from engine.report.site.words import CHANGES, FIGURES, Figure
from engine.report.site.writer import INDEX, SiteFiles
from engine.storage import join
from schemas.skeletons import SKELETONS

_QUARANTINE_ROWS = 200


def build_site(config: SiteConfig, console: Console | None = None) -> str:
    """Write the site of a release; returns, and prints, the URL of its page.

    ConfigError when body, shard set or release do not belong together; ReleaseError for a release that is damaged.
    """
    console = console or Console()
    release = open_reference(config.release)
    other = open_reference(config.other) if config.other else None
    body = load_body(config.body)
    _require_body(release, body)
    photographs = open_photographs(config.shard_set, release) if config.shard_set else None
    changes = read_changes(release, other, config.most // 2, config.body.smpl_dir) if other else None
    shown = read_shown(release, config.most, frozenset(changes.most) if changes else frozenset())
    out = SiteFiles(config.out)
    out.clear()
    site = _Site(config, release, body, shown, photographs, out)
    if other and changes:
        site.compare(other, changes)
    for number, start in enumerate(range(0, len(shown.rows), CHUNK)):
        site.write_chunk(number, start)
        console.print(f"drawn: {min(start + CHUNK, len(shown.rows))} of {len(shown.rows)} persons", highlight=False, markup=False)
    out.put("data/release.js", script("release", site.facts()))
    out.put_all(_assets())
    out.put(*(body_file(body) if _may_be_embedded(body) else faces_file(body)))
    out.finish(_page(release))
    url = join(config.out, INDEX)
    console.print(f"site: {url}", highlight=False, markup=False, soft_wrap=True)
    return url


class _Site:
    """What the chunks of a site have in common."""

    def __init__(
        self, config: SiteConfig, release: Release, body: Body, shown: Shown, photographs: Photographs | None, out: SiteFiles
    ) -> None:
        self._config, self._release, self._body, self._shown, self._photographs, self._out = config, release, body, shown, photographs, out
        self._drawn = drawn(shown.rows["score"].to_numpy(), shown.rows["key"].to_pylist(), config.pictures)
        self._large = {place for places in self._drawn.values() for place in places}
        self._embedded = _may_be_embedded(body)
        self._other: tuple[Release, Changes, pa.Table, np.ndarray, dict[str, np.ndarray]] | None = None

    def compare(self, other: Release, changes: Changes) -> None:
        rows, places = read_counterparts(other, self._shown.names)
        self._other = other, changes, rows, places, changes_of(self._shown.rows, rows, places, changes.bodies)

    @property
    def _drawable(self) -> bool:
        """Whether the other release is of the same body, so that this one draws it."""
        return self._other is not None and self._other[0].manifest.lineage.get("body") == self._body.digest

    def write_chunk(self, number: int, start: int) -> None:
        """Everything of a thousand persons."""
        part = slice(start, start + CHUNK)
        rows = self._shown.rows.slice(start, CHUNK)
        theirs = places = changed = None
        if self._other is not None:
            _, _, other_rows, other_places, change = self._other
            changed = {name: values[part] for name, values in change.items()}
            places = _compacted(other_places[part])
            theirs = other_rows.take(pa.array(other_places[part][other_places[part] >= 0]))
        comparable = self._drawable
        pictures = ChunkPictures(number, rows, self._body, theirs if comparable else None, places, self._config.crop_px)
        self._out.put_all(self._draw(pictures, start, part))
        self._out.put_all(pictures.sheets())
        self._out.put(*persons_file(number, rows, changed))
        self._out.put(*bodies_file(number, rows, pictures.windows, pictures.photo_px, pictures.instances))
        if theirs is not None and places is not None:
            self._out.put(*other_file(number, theirs, places if comparable else np.full_like(places, -1)))

    def _draw(self, pictures: ChunkPictures, start: int, part: slice) -> Iterator[File]:
        names, sources = self._shown.names[part], self._shown.sources[part]
        for place, seen in self._photographs.see(names, sources) if self._photographs else ((i, NOWHERE) for i in range(len(names))):
            if not self._config.photographs:
                seen = Seen(None, seen.image_wh, seen.instance)
            yield from pictures.add(place, seen)
            if start + place in self._large:
                yield _picture_key(start + place), pictures.drawn_large(place, seen)
                if not self._embedded:
                    yield mesh_file(start + place, pictures.vertices(place))

    def facts(self) -> dict[str, Any]:
        """What the page knows before it loads anybody."""
        shown = self._shown
        return {
            "release": describe(self._release),
            "figures": [figure._asdict() for figure in FIGURES],
            "datasets": [[name, {f: list(h.counts) for f, h in found.items()}] for name, found in shown.datasets.items()],
            "quarantine": self._release.quarantined.slice(0, _QUARANTINE_ROWS).drop_columns(["shard"]).to_pylist(),
            "quarantine_rows": self._release.quarantined.num_rows,
            "shown": len(shown.rows),
            "chunk": CHUNK,
            "sheet": [COLUMNS, ROWS],
            "per_sheet": A_SHEET,
            "photographs": self._photographs is not None and self._config.photographs,
            "drawn": [[kind, place, _picture_key(place)] for kind, places in self._drawn.items() for place in places],
            "body_data": self._embedded,
            "skeletons": {name: SKELETONS[name].bone_indices for name in SKELETONS},
            "compare": self._compared(),
        }

    def _compared(self) -> dict[str, Any] | None:
        if self._other is None:
            return None
        other, changes = self._other[:2]
        fields = ("only_a", "only_b", "changed", "same", "figure", "counts", "edges")
        about = {"name": other.manifest.name, "version": other.manifest.version, "digest": other.digest, "body": other.manifest.body}
        changed: list[Figure] = [f for f in CHANGES if changes.bodies.same or f.column != "mm"]
        return {name: getattr(changes, name) for name in fields} | {
            "other": about,
            "notes": list(changes.bodies.notes),
            "figures": [f._asdict() for f in changed],
            "drawable": self._drawable,
        }


def _require_body(release: Release, body: Body) -> None:
    m = release.manifest
    if m.body != body.name or m.lineage.get("body", body.digest) != body.digest:
        raise ConfigError(
            f"{release.where}: made with body {m.body!r} ({m.lineage.get('body', '')[:12]}), but --body is {body.name!r} "
            f"({body.digest[:12]}); "
            "give the release's: --body.kind and, for smpl, --body.smpl_dir"
        )


def _compacted(places: np.ndarray) -> np.ndarray:
    """Places in a table as places in that table without the rows nobody points to, in order of pointing; -1 stays."""
    there = places >= 0
    return np.where(there, np.cumsum(there) - 1, -1)


def _picture_key(place: int) -> str:
    return f"pictures/{place:05d}.jpg"


def _assets() -> Iterator[File]:
    for file in files("engine.report.site").joinpath("assets").iterdir():
        if file.name != INDEX and file.name.rpartition(".")[2] in ("js", "css", "svg", "txt"):
            yield f"assets/{file.name}", file.read_bytes()


def _may_be_embedded(body: Body) -> bool:
    """Whether the body itself is on the site; a licensed one never is."""
    return body.name == "open" and not body.has_pose_correctives


def _page(release: Release) -> bytes:
    m = release.manifest
    text = files("engine.report.site").joinpath("assets", INDEX).read_text()
    facts = f"{m.name} v{m.version}: 3D bodies for {m.annotated} people of {m.dataset} ({m.split}). sha256 {release.digest}"
    return text.replace("{{TITLE}}", escape(f"{m.name} v{m.version}")).replace("{{FACTS}}", escape(facts)).encode()
