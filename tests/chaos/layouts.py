"""Files of every published layout, damaged one at a time at random: `python -m tests.chaos.layouts [SEED [MUTATIONS [LAYOUT ...]]]`.

Of each layout's synthetic files one is cut, overwritten, emptied, replaced or changed in its structure, then the dataset is ingested and
inspected. Whatever the damage, there has to be a shard set whose counts add up, or one error of the engine that says what is wrong;
anything else is printed and counted. Each run has its seconds and its memory.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from engine.config import load_config
from engine.errors import EngineError
from engine.inspection.config import InspectConfig
from engine.inspection.run import inspect
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.synthetic.layouts.catalogue import LAYOUTS, LayoutsConfig, write_layouts

MEMORY_BYTES, SECONDS = 8 << 30, 40
PHOTOGRAPHS = (".jpg", ".jpeg", ".JPG", ".png")
ODD: tuple[Any, ...] = (
    None, float("nan"), float("inf"), 10**400, 2**63, -1, 0, 1e308, -0.0, 1.5, True, "x", "", "nan", "../../etc/passwd", "/etc/passwd",
    "a\0b", "\ud800", "z" * 100_000, [], {}, [[]], [1, 2, 3], {"a": 1},
)  # fmt: skip
LENGTHS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\0\0\0")


def main(seed: int = 0, mutations: int = 40, *names: str) -> int:
    """Number of runs that broke the promise."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_slow)
    rng, outcomes = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        chosen = names or tuple(LAYOUTS)
        write_layouts(LayoutsConfig(out=str(world), images=3, size=128, render_people=False, layouts=chosen))
        for name in chosen:
            for _ in range(mutations):
                damaged = _damage(rng, world / name)
                what = next(damaged)
                for job in (_ingest, _inspect):
                    outcome = _run(job, name, world / name, Path(folder) / "out", what)
                    outcomes[outcome] += 1
                next(damaged, None)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    return outcomes["broken"]


def _run(job: Callable[[list[str]], str], name: str, root: Path, out: Path, what: str) -> str:
    layout = LAYOUTS[name]
    arguments = [f"--dataset.name={layout.dataset}", f"--dataset.root={root}", f"--dataset.split={layout.split}", *layout.options]
    shutil.rmtree(out, ignore_errors=True)
    signal.alarm(SECONDS)
    try:
        return job([*arguments, f"--out={out}"])
    except EngineError as error:
        return "named errors" if len(str(error)) < 3000 else "broken"
    except Exception as error:
        print(f"{name}, {what}, {job.__name__[1:]}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return "broken"
    finally:
        signal.alarm(0)


def _ingest(arguments: list[str]) -> str:
    manifest = ingest(load_config(IngestConfig, [*arguments, "--workers=0"]))
    assert manifest.found_instances == manifest.instances + sum(manifest.skipped.values()) + sum(manifest.quarantined.values())
    shards = open_shard_set(load_config(IngestConfig, arguments).out)
    persons = sum(len(sample.instances) for entry in shards.manifest.shards for sample, _ in read_samples(shards.fetch(entry), entry))
    assert persons == manifest.instances
    return "ingested in part" if manifest.quarantine or manifest.skipped else "ingested"


def _inspect(arguments: list[str]) -> str:
    inspect(load_config(InspectConfig, [*arguments, "--sheet.images=2", "--sheet.cell_px=96"]), Console(file=io.StringIO(), width=140))
    return "inspected"


def _damage(rng: random.Random, root: Path) -> Iterator[str]:
    """Damages a file below `root` and says which and how; asked again, restores it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    annotations = [path for path in files if path.suffix not in PHOTOGRAPHS]
    path = rng.choice(annotations if annotations and rng.random() < 0.9 else files)
    whole, how = path.read_bytes(), rng.choices(("folder", "absent", "loop", "another", "inside"), (3, 3, 2, 3, 89))[0]
    if how == "another":
        path.write_bytes(rng.choice(files).read_bytes())
    elif how == "inside":
        json_file = path.suffix == ".json" and rng.random() < 0.8
        path.write_bytes(_odd_json(rng, whole) if json_file else _odd_bytes(rng, whole))
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "loop":
            path.symlink_to(path.name)
    yield f"{path.relative_to(root)} ({how})"
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)


def _odd_json(rng: random.Random, data: bytes) -> bytes:
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not isinstance(content, dict | list):
            break
        parent, key = rng.choice(list(_places(content)) or [(None, None)])
        if parent is None:
            break
        if rng.random() < 0.2 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = _nested(rng.choice((50, 900))) if rng.random() < 0.05 else copy.deepcopy(rng.choice(ODD))
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list) and depth < 8:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key], depth + 1)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _odd_bytes(rng: random.Random, data: bytes) -> bytes:
    content, at = bytearray(data), rng.randrange(len(data) + 1)
    how = rng.randrange(7)
    if how == 0:
        return data[:at]
    if how == 1:
        return b""
    if how == 2:
        return rng.randbytes(rng.choice((1, 100, 5000)))
    if how == 3:
        return data[len(data) // 2 :] + data[: len(data) // 2]
    if how == 4:
        return data[:at] + rng.randbytes(rng.choice((1, 8, 100))) + data[at:]
    if how == 5:
        content[at : at + 4] = rng.choice(LENGTHS)
        return bytes(content)
    for _ in range(rng.choice((1, 3, 30))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    numbers = [int(argument) for argument in sys.argv[1:3]]
    raise SystemExit(1 if main(*numbers, *sys.argv[3:]) else 0)
