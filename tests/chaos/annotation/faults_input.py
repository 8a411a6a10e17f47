"""Bad input: image shards that are damaged (R5), images that are none (R6)."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from engine.errors import ShardCorrupt
from tests.chaos.annotation.arena import Arena
from tests.chaos.annotation.checker import check
from tests.chaos.annotation.faults_workers import quarantine
from tests.chaos.annotation.row import Row
from tests.chaos.annotation.world import bad_images, image_key, odd_images, shard_damages, write_world

SEEN = [{"point": "decode", "action": "note"}, {"point": "predict", "action": "note"}]
"""Writes down every sample that gets as far as the decoder or the annotator."""


def r5_damaged_shards(arena: Arena) -> list[Row]:
    """One shard of each kind of damage, and two good ones: all are named, none is looked into, and repaired they are done."""
    damages, begin = shard_damages(), time.monotonic()
    shards, images = len(damages) + 2, 6
    good = arena.world(shards, images)
    damaged = arena.new("damaged")
    shutil.copytree(good, damaged)
    tars = [Path(damaged) / "shards" / f"{i:06d}.tar" for i in range(shards)]
    whole = [tar.read_bytes() for tar in tars]
    for i, damage in enumerate(damages.values()):
        tars[i].write_bytes(damage(whole[i], whole[-1]))
    config = arena.config(damaged, arena.new("out"))
    partial = arena.run(config | {"allow_partial": True, "name": "partial"}, SEEN)
    refused = arena.small or arena.run(config).poll() == 2
    seen = {event["detail"] for point in ("decode", "predict") for event in partial.fired(f"{point}-note")}
    named = {int(number) for number in re.findall(r"shard (\d+) FAILED \(shard_corrupt\)", partial.output)}
    touched = {i for i in range(len(damages)) for image in range(images) if image_key(i, image) in seen}
    aware = {image_key(i, image) for i in range(len(damages), shards) for image in range(images)} <= seen
    found = check(config["out"], "partial", good)
    aside = {row["shard"] for row in quarantine(config | {"name": "partial"}) if row["reason"] == "shard_corrupt"}
    for tar, data in zip(tars, whole, strict=True):
        tar.write_bytes(data)
    again = arena.run(config)
    repaired = arena.check(config)
    detected = (named & aside & set(range(len(damages)))) - touched
    fine = refused and partial.poll() == 0 and again.poll() == 0 and aware
    fine = fine and not (found["problems"] or repaired["problems"]) and not (named | aside) & set(range(len(damages), shards))
    note = (
        f"{len(detected)} of {len(damages)} kinds named before a sample was decoded; without them a partial release, repaired the whole one"
    )
    if not fine or len(detected) < len(damages):
        missed = [name for i, name in enumerate(damages) if i not in detected]
        note = f"not detected {missed}; exits {[j.poll() for j in (partial, again)]}, refused {refused}; good samples seen: {aware}; "
        note += f"{found['problems'][:2]} {repaired['problems'][:2]} {partial.message[:300]}"
    lost, duplicated = (len(found[what]) + len(repaired[what]) for what in ("lost", "duplicated"))
    seconds = round(time.monotonic() - begin, 1)
    return [Row("R5 damaged shards", len(damages), len(detected) if fine else 0, lost, duplicated, note, seconds)]


def r6_bad_images(arena: Arena) -> list[Row]:
    """1 % of bad images of every kind, as many that are odd but good: quarantine is exactly the bad ones, and no other sample is lost."""
    shards, images = (2, 40) if arena.small else (8, 500)
    begin = time.monotonic()
    kinds, odd = bad_images(), odd_images()
    count = max(len(kinds), shards * images // 100)
    places = [(n % shards, (n * 37) % images) for n in range(2 * count)]
    assert len(set(places)) == len(places)
    keys = [image_key(*place) for place in places]
    bad = {key: list(kinds.values())[i % len(kinds)] for i, key in enumerate(keys[:count])}
    unusual = {key: list(odd.values())[i % len(odd)] for i, key in enumerate(keys[count:])}
    world = write_world(arena.new("bad"), shards, images, persons=2, bad=bad | unusual)
    config = arena.config(world, arena.new("out"))
    job = arena.run(config)
    found = arena.check(config)
    aside = {row["key"]: row["reason"] for row in quarantine(config)}
    empty = _empty_image_is_refused(arena)
    exact = job.poll() == 0 and not found["problems"] and set(aside) == set(bad) and empty
    reasons = {reason: list(aside.values()).count(reason) for reason in set(aside.values())}
    note = (
        f"{count} of {shards * images} images of {len(kinds)} kinds quarantined ({reasons}), {len(unusual)} of {len(odd)} odd kinds kept; "
    )
    note += "an image of 0 bytes is refused before it is in a shard" if empty else "an image of 0 bytes got into a shard"
    if not exact:
        missed, wrongly = (sorted(set(a) - set(b))[:5] for a, b in ((bad, aside), (aside, bad)))
        note = f"exit {job.poll()}: {job.message[:300]}; missed {missed}, wrongly quarantined {wrongly}; {note}"
    lost = len(found["lost"]) + len(set(aside) - set(bad))
    survived = len(set(bad) & set(aside)) if exact else 0
    return [Row("R6 bad images", count, survived, lost, len(found["duplicated"]), note, round(time.monotonic() - begin, 1))]


def _empty_image_is_refused(arena: Arena) -> bool:
    try:
        write_world(arena.new("empty"), 1, 2, bad={image_key(0, 1): (b"", "jpg")})
    except ShardCorrupt:
        return True
    return False
