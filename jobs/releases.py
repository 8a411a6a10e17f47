"""The release store: `python jobs/releases.py COMMAND ...`; `python jobs/releases.py COMMAND --help` says what a command takes.

A release is named ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG, ROOT being the URL of its store.
"""

from __future__ import annotations

import sys
from importlib import import_module

from engine.config import run_job

COMMANDS = {
    "list": ("engine.releases.commands", "ListConfig", "list_releases", "names, versions and tags of a store"),
    "show": ("engine.releases.commands", "ShowConfig", "show", "one version: counts, quality, what it was made from, how to cite it"),
    "log": ("engine.releases.commands", "LogConfig", "log", "every version of a name, and what changed"),
    "tag": ("engine.releases.commands_store", "TagConfig", "tag", "give a version a name of its own"),
    "verify": ("engine.releases.commands_store", "VerifyConfig", "verify", "is a release what it says it is?"),
    "gc": ("engine.releases.commands_store", "GcConfig", "gc", "what nothing refers to, and its removal"),
    "copy": ("engine.releases.commands_store", "CopyConfig", "copy", "the same release in another store"),
    "derive": ("engine.releases.commands_derive", "DeriveConfig", "derive_release", "a release of the rows that a filter or a list keeps"),
    "diff": ("engine.releases.commands_diff", "DiffConfig", "print_diff", "what changed from one release to another, person by person"),
    "export": ("engine.exchange.export", "ExportConfig", "export_command", "write a release in a format of the field"),
    "import": ("engine.exchange.importing", "ImportConfig", "import_command", "read a file of the field into a release"),
}
"""Command -> module, config, function, and what it does. Imported when asked for: most need no torch."""


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in COMMANDS:
        lines = [f"  {name:8}  {about}" for name, (*_, about) in COMMANDS.items()]
        found = f"unknown command {argv[0]!r}\n" if argv and not argv[0].startswith("-") else ""
        print(f"{found}{__doc__}\n" + "\n".join(lines), file=sys.stderr if found else sys.stdout)
        raise SystemExit(2 if found else 0)
    module, config, function, _ = COMMANDS[argv[0]]
    found = import_module(module)
    run_job(getattr(found, config), getattr(found, function), argv[1:], argv[0])


if __name__ == "__main__":
    main(sys.argv[1:])
