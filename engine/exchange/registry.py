"""Formats by name. Each is a module of this package with four names, imported when it is asked for:

    CAPABILITIES: Capabilities
    class Options(Config)                                                        all fields have defaults
    open_writer(folder: Path, options: Options, info: ExportInfo) -> Writer      absent where a format is only read
    open_reader(path: Path, options: Options, load_body: LoadBody) -> Reader     a file, or the folder of an export; absent if only written

`folder` exists and is empty. Modules import neither torch nor anything else that is slow at their top level: the command line names all
their options.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from engine.errors import ConfigError

FORMATS = {
    "neuralannot": "engine.exchange.neuralannot",
    "spin": "engine.exchange.spin",
    "eft": "engine.exchange.eft",
    "cliff": "engine.exchange.cliff",
    "coco_json": "engine.exchange.coco_json",
    "webdataset": "engine.exchange.webdataset_tars",
    "huggingface": "engine.exchange.huggingface",
}
"""Name, as on the command line and in FormatOptions, -> module."""


def format_module(name: str, needs: str = "") -> ModuleType:
    """The module of a format. ConfigError if there is none, or it lacks `needs`: 'open_writer' or 'open_reader'."""
    if name not in FORMATS:
        raise ConfigError(f"format {name!r}: expected one of {', '.join(FORMATS)}")
    module = import_module(FORMATS[name])
    if needs and not hasattr(module, needs):
        can = "exported" if needs == "open_writer" else "imported"
        raise ConfigError(f"format {name!r} cannot be {can}")
    return module
