"""The house stands only while imports point one way: jobs -> engine -> schemas."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FLOORS = {
    "schemas": set(),
    "engine.errors": {"schemas"},
    "engine.faults": set(),
    "engine.config": {"schemas", "engine.errors"},
    "engine.disk": {"engine.errors"},
    "engine.retries": {"engine.errors"},
    "engine.backends": {"engine.errors", "engine.faults", "engine.disk", "engine.retries"},
    "engine.storage": {"schemas", "engine.errors", "engine.faults", "engine.retries", "engine.backends"},
}
BASE = {"schemas", "engine.errors", "engine.faults", "engine.config", "engine.disk", "engine.storage"}
FLOORS |= {
    "engine.body": BASE,
    "engine.datasets": BASE | {"engine.body"},
    "engine.shards": BASE | {"engine.body", "engine.datasets"},
    "engine.models": BASE | {"engine.body"},
    "engine.releases": BASE | {"engine.body"},
    "engine.loading": BASE | {"engine.body", "engine.shards", "engine.releases"},
    "engine.synthetic": BASE | {"engine.body"},
}
FLOORS["engine.training"] = BASE | {"engine.body", "engine.models", "engine.loading", "engine.shards", "engine.releases"}
FLOORS["engine.annotators"] = BASE | {"engine.body", "engine.models", "engine.loading", "engine.shards", "engine.training"}
FLOORS["engine.fanout"] = FLOORS["engine.annotators"] | {"engine.annotators", "engine.releases"}
FLOORS["engine.exchange"] = FLOORS["engine.fanout"] | {"engine.fanout", "engine.datasets"}
FLOORS["engine.evaluation"] = FLOORS["engine.annotators"] | {"engine.annotators", "engine.releases"}
FLOORS["engine.report"] = FLOORS["engine.evaluation"] | {"engine.evaluation"}
FLOORS["engine.inspection"] = BASE | {"engine.body", "engine.datasets", "engine.shards", "engine.report"}
FLOORS["engine.ablation"] = FLOORS["engine.evaluation"] | {"engine.evaluation", "engine.fanout"}
OURS = {"schemas", "engine", "jobs", "cluster", "tests", "benchmarks"}


def _unit(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] != "engine" else ".".join(parts[:2])


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "engine" else {node.module}
    return found


FILES = sorted(p for top in ("schemas", "engine") for p in (REPO / top).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPO)))
def test_imports_point_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(REPO).with_suffix("").parts)
    unit = _unit(module)
    if unit == "engine.__init__":
        unit = "engine"
    allowed = FLOORS.get(unit, set()) | {unit}
    for name in _imports(path):
        if name.split(".")[0] in OURS:
            assert _unit(name) in allowed, f"{module} imports {name}; {unit} may import {sorted(allowed)}"
        if unit == "schemas":
            assert name.split(".")[0] not in {"torch", "ray"}, f"{module} imports {name}: schemas are contracts only"


def test_jobs_stay_thin() -> None:
    for path in (REPO / "jobs").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, f"{path.name}: an entry point parses, builds the config and calls one function"


def test_no_job_hides_a_module_of_python() -> None:
    """A script's folder comes first on its path: what a library gets that imports `inspect` there has to be Python's own."""
    for name in sorted({path.stem for path in (REPO / "jobs").glob("*.py")} & sys.stdlib_module_names):
        code = f"import sys; sys.path.insert(0, 'jobs'); import {name}; assert {name} is sys.modules['{name}']; print({name}.__file__)"
        found = subprocess.run([sys.executable, "-S", "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout.strip()
        assert Path(found).parent == Path(os.__file__).parent, f"jobs/{name}.py hides {name}"
