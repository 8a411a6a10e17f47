"""Workers that die: killed from outside at random (R1), and killed again and again by one image (R7)."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from engine.fanout.run import AnnotateConfig
from tests.chaos.annotation.arena import Arena, attempts, commits, kill
from tests.chaos.annotation.checker import Bucket
from tests.chaos.annotation.row import Row
from tests.chaos.annotation.submission import Submission, wait_until
from tests.chaos.annotation.world import image_key

MOST_SUBMISSIONS = 5


def r1_workers_killed(arena: Arena) -> Iterator[Row]:
    """SIGKILL to random workers, at random moments spread over the job; the release must be the undisturbed one, byte for byte."""
    shards, images, kills, seeds = (6, 10, 2, 1) if arena.small else (64, 500, 20, 5)
    world = arena.world(shards, images)
    calm = arena.calm(world)
    for seed in range(seeds):
        config = arena.config(world, arena.new("killed"))
        submissions, killed, begin = 0, 0, time.monotonic()
        said: list[str] = []
        while submissions < MOST_SUBMISSIONS:
            submission = arena.submit(config)
            killer = _Killer(arena, config, submission, kills - killed, shards, random.Random(100 * seed + submissions))
            killer.start()
            code, submissions = submission.wait(), submissions + 1
            killer.join()
            killed += killer.killed
            if code == 0:
                break
            said.append(submission.message[:500])
        found = arena.check(config)
        same = code == 0 and found.get("release_digest") == calm and not found["problems"]
        figures = {"submissions": submissions, "orphans": len(found["orphans"]), "ended_early": said}
        note = f"the undisturbed release, byte for byte, after {submissions} submissions{': ' if said else ''}{' '.join(said)}"
        if not same:
            note = f"exit code {code}; {submission.message}; {found['problems'][:3]}"
        seconds = round(time.monotonic() - begin, 1)
        lost, duplicated = len(found["lost"]), len(found["duplicated"])
        yield Row(f"R1 workers killed, seed {seed}", killed, killed if same else 0, lost, duplicated, note, seconds, figures)


class _Killer(threading.Thread):
    """Kills workers of one job: each time the job has got past another random share of its shards, whoever is found at work."""

    def __init__(self, arena: Arena, config: dict[str, Any], submission: Submission, kills: int, shards: int, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.arena, self.config, self.submission, self.rng = arena, config, submission, rng
        self.thresholds = sorted(rng.randrange(max(1, shards - 2)) for _ in range(kills))
        self.killed = 0

    def run(self) -> None:
        for threshold in self.thresholds:
            while self.submission.poll() is None and len(commits(self.config)) < threshold:
                time.sleep(0.02)
            time.sleep(self.rng.uniform(0, 0.3))
            while self.submission.poll() is None and not self._kill_one():
                time.sleep(0.005)

    def _kill_one(self) -> bool:
        """A worker with a shard in hand, if it is one of this arena's: a process id may have gone to somebody else by now."""
        victims = {record["pid"] for record in attempts(self.config)} & set(self.arena.children())
        if not victims or not kill(self.rng.choice(sorted(victims))):
            return False
        self.killed += 1
        return True


def r7_deadly_images(arena: Arena) -> list[Row]:
    """Images over which the process aborts, is killed (as by the kernel where memory runs out), or hangs for good."""
    shards, images = (3, 6) if arena.small else (6, 40)
    world = arena.world(shards, images)
    deadly = {
        image_key(0, 1): ("decode", "abort"),
        image_key(1, 2): ("decode", "kill"),
        image_key(1, 4): ("predict", "abort"),
        image_key(2, 3): ("decode", "hang"),
    }
    config = arena.config(world, arena.new("deadly"))
    if "hang_s" in AnnotateConfig.model_fields:
        config["hang_s"] = 8.0
    begin = time.monotonic()
    submission = arena.submit(config, [{"point": point, "match": key, "action": action} for key, (point, action) in deadly.items()])
    ended = wait_until(lambda: submission.poll() is not None, 300)
    submission.kill()
    found, alone = arena.check(config), {}
    if ended and submission.poll() == 0:
        alone = {row["key"]: row["reason"] for row in quarantine(config)}
    caught = {key for key, reason in alone.items() if reason == "killed_worker"} & deadly.keys()
    firings = {f"{point} {action}": len(submission.fired(f"{point}-{action}-{key}")) for key, (point, action) in deadly.items()}
    note = f"quarantined alone: {sorted(alone)}; deaths {firings}"
    if set(alone) != set(deadly):
        note = f"expected {sorted(deadly)} in quarantine, found {alone}; ended {ended}, exit code {submission.poll()}: {submission.message}"
    lost = len(found["lost"]) if found.get("version") else shards * images
    survived = len(caught) if set(alone) <= set(deadly) and not found["problems"] else 0
    seconds = round(time.monotonic() - begin, 1)
    return [Row("R7 images that kill", len(deadly), survived, lost, len(found["duplicated"]), note, seconds, {"deaths": firings})]


def quarantine(config: dict[str, Any], version: int = 1) -> list[dict[str, Any]]:
    """Rows of the quarantine of a job's release; none when there is no release."""
    data = Bucket(config["out"]).get(f"releases/{config['name']}/v{version:04d}/quarantine.parquet")
    return pq.read_table(io.BytesIO(data)).to_pylist() if data else []
