"""`make demo`: every stage of the engine on a synthetic world, each as a job submitted to a local Ray cluster.

With `--coco DIR` a directory in COCO's layout (train2017/, annotations/) takes the place of the synthetic ITW set.
Run again with the same `--out`, finished stages are found finished.
"""

from __future__ import annotations

import time
from pathlib import Path
from string import Template

from pydantic import Field

from cluster.local import LocalCluster, local_cluster
from engine.config import Config, read_yaml, run_job
from engine.errors import ConfigError
from engine.evaluation.run import read_results
from engine.evaluation.tables import print_results

REPO = Path(__file__).resolve().parents[1]


class DemoConfig(Config):
    """The whole path on this machine."""

    out: str = Field("demo_out", description="folder for everything the demo writes")
    coco: str | None = Field(None, description="a directory in COCO's layout to annotate instead of the synthetic photographs")
    configs: str = Field(str(REPO / "jobs" / "configs" / "demo"), description="folder of steps.yaml and of the stages' configs")
    cpus: int | None = Field(None, description="CPUs the local Ray cluster offers; None: all of this machine's")


def render_configs(source: Path, target: Path, out: Path, itw: Path) -> None:
    """The stage configs with $OUT, $ITW and $REPO filled in, kept beside what they make."""
    target.mkdir(parents=True, exist_ok=True)
    for template in source.glob("*.yaml"):
        (target / template.name).write_text(Template(template.read_text()).substitute(OUT=out, ITW=itw, REPO=REPO))


def run_steps(cluster: LocalCluster, steps: list[dict], configs: Path) -> None:
    """Submit each step and wait for it; a step is {title, job, config}."""
    began = time.monotonic()
    for number, step in enumerate(steps, start=1):
        since = time.monotonic()
        print(f"\n[{number}/{len(steps)}] {step['title']}  (jobs/{step['job']}.py, {since - began:.0f} s so far)", flush=True)
        cluster.submit(f"jobs/{step['job']}.py", "--config", str(configs / step["config"]), working_dir=REPO)
        print(f"  done in {time.monotonic() - since:.0f} s", flush=True)


def demo(config: DemoConfig) -> None:
    """Run every step; the last ones print the table and the path of the report."""
    out = Path(config.out).resolve()
    itw = Path(config.coco).resolve() if config.coco else out / "world" / "coco"
    for needed in ("annotations/person_keypoints_train2017.json", "train2017") if config.coco else ():
        if not (itw / needed).exists():
            raise ConfigError(f"--coco {config.coco}: expected a directory in COCO's layout with {needed} in it, found none")
    source = Path(config.configs)
    steps = read_yaml(str(source / ("steps_coco.yaml" if config.coco else "steps.yaml")))["steps"]
    configs = out / "configs"
    render_configs(source, configs, out, itw)
    began = time.monotonic()
    print("starting a local Ray cluster", flush=True)
    with local_cluster(config.cpus) as cluster:
        run_steps(cluster, steps, configs)
    print_results(read_results(str(out / "evaluation")))
    print(f"\nthe demo took {time.monotonic() - began:.0f} s; open {out / 'report' / 'index.html'}", flush=True)


if __name__ == "__main__":
    run_job(DemoConfig, demo)
