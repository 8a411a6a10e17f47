"""Configs: YAML under command-line overrides, unknown keys named, errors as one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from engine.config import Config, load_config, read_config, run_job
from engine.errors import ConfigError, EngineError, MissingInput


class Optimiser(Config):
    lr: float = Field(1e-4, description="learning rate")
    betas: tuple[float, float] = (0.9, 0.999)


class Job(Config):
    out: str = Field(description="URL to write to")
    steps: int = 10
    backbone: str | None = None
    optimiser: Optimiser = Optimiser()


def test_overrides_win_over_yaml_and_yaml_over_defaults(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("out: x\nsteps: 3\noptimiser: {lr: 0.5}\n")
    config = load_config(Job, ["--config", str(tmp_path / "a.yaml"), "--steps=7", "--optimiser.betas=[0.5,0.6]", "--backbone=null"])
    assert config == Job(out="x", steps=7, optimiser=Optimiser(lr=0.5, betas=(0.5, 0.6)))


def test_digest_depends_on_every_value_and_on_nothing_else() -> None:
    assert Job(out="x").digest() == Job(out="x", steps=10).digest() != Job(out="x", steps=11).digest()


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--out=x", "--stepz=3"], "stepz"),
        (["--out=x", "--optimiser.lrr=3"], "lrr"),
        (["--out=x", "--steps=many"], "steps"),
        ([], "out"),
        (["--config"], "--config"),
    ],
)
def test_wrong_arguments_are_named(argv: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(Job, argv)


def test_unknown_yaml_key_names_the_known_ones(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("out: x\noptimiser: {momentum: 1}\n")
    with pytest.raises(ConfigError, match=r"optimiser\.momentum.*known: lr, betas"):
        load_config(Job, ["--config", str(tmp_path / "a.yaml")])


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "!!python/object/apply:os.system ['true']"])
def test_yaml_that_is_no_config(tmp_path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        load_config(Job, ["--config", str(tmp_path / "a.yaml")])


def test_absent_config_file() -> None:
    with pytest.raises(MissingInput, match="nowhere"):
        load_config(Job, ["--config", "/nowhere.yaml"])


def test_help_shows_every_field(capsys) -> None:
    with pytest.raises(SystemExit):
        load_config(Job, ["--help"])
    shown = capsys.readouterr().out
    assert "--optimiser.lr" in shown and "learning rate" in shown and "0.0001" in shown and "URL to write to" in shown


def test_job_errors_are_one_line_and_exit_code_2(capsys) -> None:
    def fails(config: Job) -> None:
        raise EngineError("the thing is broken")

    with pytest.raises(SystemExit) as exit_info:
        run_job(Job, fails, ["--out=x"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.strip().endswith("EngineError: the thing is broken")


def test_a_file_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: {b: 1, c: [1, 2]}\nd: 1\n")
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "mine.yaml").write_text("extends: ../base.yaml\na: {c: [3]}\ne: 2\n")
    assert read_config(str(tmp_path / "over" / "mine.yaml")) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}
    (tmp_path / "base.yaml").write_text("extends: base.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        read_config(str(tmp_path / "base.yaml"))
