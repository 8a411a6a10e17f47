"""Typed configs: frozen pydantic models, read from a YAML file with `--a.b=value` overrides on top.

Each component keeps its own `Config` next to it; a job composes them. Unknown keys are errors, `--help` shows every
field with its default, and the resolved config's digest goes into every artefact.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import CliSettingsSource
from pydantic_settings.exceptions import SettingsError

from engine.errors import ConfigError, EngineError, MissingInput
from schemas.records import canonical_json, sha256_hex


class Config(BaseModel):
    """Base of every config: frozen, unknown keys and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self) -> str:
        """sha256 over the canonical JSON of every field."""
        return sha256_hex(canonical_json(self.model_dump(mode="json")))


C = TypeVar("C", bound=Config)


def load_config(config_type: type[C], argv: list[str], prog: str = "job") -> C:
    """Config from `[--config FILE.yaml] [--a.b=value ...]`; later wins. ConfigError names key, expectation and finding."""
    path, overrides = _split_config_path(argv)
    values = read_config(path) if path else {}
    try:
        source = CliSettingsSource(
            config_type,
            cli_parse_args=overrides,
            cli_prog_name=f"{prog} [--config FILE.yaml]",
            cli_exit_on_error=False,
            cli_parse_none_str="null",
            cli_hide_none_type=True,
            cli_avoid_json=True,
        )
        given = source()
    except SettingsError as error:
        raise ConfigError(f"{prog}: {error}; `{prog} --help` lists every key") from None
    return validate(config_type, merge(values, given), where=path or "the command line")


def validate(config_type: type[C], values: dict[str, Any], where: str) -> C:
    """The config, or a ConfigError that lists every wrong key of `where`."""
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        lines = [_explain(e, config_type) for e in error.errors(include_url=False)]
        raise ConfigError(f"{config_type.__name__} from {where}: " + "; ".join(lines)) from None


def read_config(url: str) -> dict[str, Any]:
    """Mapping of a YAML file, laid over that of the file its `extends` names, relative to it. ConfigError where files run in a circle."""
    values, seen = read_yaml(url), [url]
    while (base := values.pop("extends", None)) is not None:
        if not isinstance(base, str):
            raise ConfigError(f"config file {seen[-1]}: extends: expected the name of a YAML file, found {base!r}")
        url = base if "://" in base or base.startswith("/") else seen[-1].rpartition("/")[0] + "/" + base if "/" in seen[-1] else base
        if url in seen:
            raise ConfigError(f"config file {seen[0]}: extends itself, through {' -> '.join([*seen, url])}")
        seen.append(url)
        values = merge(read_yaml(url), values)
    return values


def read_yaml(url: str) -> dict[str, Any]:
    """Mapping in a YAML file at any fsspec URL."""
    try:
        with fsspec.open(url, "rt") as f:
            values = yaml.safe_load(f)
    except FileNotFoundError:
        raise MissingInput(f"config file {url}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {url}: not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {url}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def run_job(config_type: type[C], job: Callable[[C], object], argv: list[str] | None = None, command: str = "") -> None:
    """Entry of every job, or of one `command` of it: parse, run, and turn an EngineError into one line on stderr and exit code 2."""
    prog = f"{Path(sys.argv[0]).name} {command}".strip()
    try:
        job(load_config(config_type, sys.argv[1:] if argv is None else argv, prog))
    except EngineError as error:
        print(f"{prog}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr, flush=True)
        raise SystemExit(130) from None


def _split_config_path(argv: list[str]) -> tuple[str | None, list[str]]:
    rest: list[str] = []
    path = None
    items = iter(argv)
    for item in items:
        if item == "--config":
            path = next(items, None)
            if path is None:
                raise ConfigError("--config: expected a path after it")
        elif item.startswith("--config="):
            path = item.split("=", 1)[1]
        else:
            rest.append(item)
    return path, rest


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping; everything else, lists too, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


def _explain(error: Any, config_type: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_siblings(config_type, error['loc'])}"
    if error["type"] == "missing":
        return f"missing key {key!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key!r}: {message}, found {error['input']!r}" if error["loc"] else message


def _siblings(model: type[BaseModel], loc: tuple) -> str:
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        nested = field.annotation if field else None
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            return "see --help"
        model = nested
    return f"known: {', '.join(model.model_fields)}"
