"""The model of docs/SCALING.md: what one job does on 1 to 256 GPUs, from constants that were measured or are assumed.

`python -m benchmarks.scaling [--network 5000 ...]` prints the table. Nothing is measured here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Constants:
    """Persons/s and the like; each with where it comes from in docs/SCALING.md."""

    network: float = 5000.0
    crop: float = 780.0
    threads: int = 8
    driver_ms: float = 4.0
    persons_per_shard: float = 1024.0
    photo_kb: float = 188.0
    persons_per_photo: float = 2.0
    gbit: float = 10.0
    writes_per_shard: int = 4
    writes_per_s: float = 3500.0
    start_s: float = 180.0
    persons: float = 5e6


def bounds(gpus: int, c: Constants) -> dict[str, float]:
    """Persons/s that each part would allow by itself."""
    shards = c.persons_per_shard
    return {
        "network": gpus * c.network,
        "decode and crop": gpus * c.threads * c.crop,
        "network cards": gpus * c.gbit * 1e9 / 8 / (c.photo_kb * 1e3 / c.persons_per_photo),
        "driver": shards * 1e3 / c.driver_ms,
        "S3 writes of one prefix": shards * c.writes_per_s / c.writes_per_shard,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Constants):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    constants = Constants(**vars(parser.parse_args()))
    print(constants)
    print(f"{'GPUs':>5} {'persons/s':>10} {'bound by':>24} {'of the GPUs':>12} {'minutes, with start':>20}")
    for gpus in GPUS:
        allowed = bounds(gpus, constants)
        part = min(allowed, key=allowed.__getitem__)
        rate = allowed[part]
        minutes = (constants.start_s + constants.persons / rate) / 60
        print(f"{gpus:>5} {rate:>10.0f} {part:>24} {rate / allowed['network']:>11.0%} {minutes:>20.1f}")


if __name__ == "__main__":
    main()
