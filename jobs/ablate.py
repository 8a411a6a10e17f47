"""The paper's ablation studies on the synthetic world: `python jobs/ablate.py --config jobs/configs/ablation/small.yaml --out=DIR`.

Makes the worlds, ingests them, runs every network of the tables and writes them. Submitted again, it runs what is missing.
"""

from __future__ import annotations

import os
from string import Template
from typing import Any

from pydantic import Field, model_validator
from rich.console import Console
from rich.markdown import Markdown

from engine.ablation.run import run_study
from engine.ablation.study import StudyConfig
from engine.ablation.tables import markdown
from engine.config import Config, run_job
from engine.shards.ingest import IngestConfig, ingest
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.world import write_world


class AblateConfig(Config):
    """Worlds, shard sets of them, and the study. $OUT in any string is `out`, $REPO the code's folder."""

    out: str = Field(description="local folder for everything the study makes")
    worlds: dict[str, SyntheticConfig] = Field(description="synthetic worlds to render, by name")
    sets: dict[str, IngestConfig] = Field(description="shard sets to ingest from them, by name")
    study: StudyConfig = Field(description="networks and tables")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("out"), str):
            return values
        for part in ("worlds", "sets"):  # null leaves out what a file that is extended has
            if isinstance(values.get(part), dict):
                values = values | {part: {name: item for name, item in values[part].items() if item is not None}}
        repo = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        return _substitute(values, {"OUT": os.path.abspath(values["out"]), "REPO": repo})


def _substitute(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return Template(value).safe_substitute(names)
    if isinstance(value, dict):
        return {key: _substitute(item, names) for key, item in value.items()}
    return [_substitute(item, names) for item in value] if isinstance(value, list) else value


def ablate(config: AblateConfig) -> None:
    for name, world in config.worlds.items():
        print(f"world {name}: {world.out}", flush=True)
        write_world(world, lambda *_: None)
    for name, dataset in config.sets.items():
        manifest = ingest(dataset, say=lambda _: None)
        print(f"set {name}: {manifest.instances} persons on {manifest.samples} images", flush=True)
    Console(width=150).print(Markdown(markdown(run_study(config.study))))
    print(f"tables, CSV and plots: {config.study.out}", flush=True)


if __name__ == "__main__":
    run_job(AblateConfig, ablate)
