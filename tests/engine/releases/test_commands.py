"""The commands of the release store, as they are typed: what they print, when they fail, and that they need neither torch nor ray."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from engine.config import load_config
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.store import Release, object_key, open_reference
from engine.storage import Store
from jobs.releases import COMMANDS, main

REPO = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "ray", "cv2", "nvidia.dali", "smplx", "scipy")
PROGRAM = f"""
import json, sys
from jobs.releases import main
for command in json.loads(sys.argv[1]):
    main(command)
print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))
"""


@pytest.fixture
def root(local_store: Store, make_release: Callable[..., Release]) -> str:
    make_release(local_store)
    make_release(local_store, word="next", shards=2)
    return local_store.url


def _said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    main(list(argv))
    return capsys.readouterr().out


def _refused(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(argv))
    assert exit_.value.code == 2
    return capsys.readouterr()


def test_list_and_show(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, "tag", f"{root}#rel@v1", "paper")
    derive(open_reference(f"{root}#rel"), "good", Expression("score > 0.3", "truth"))
    (good, rel) = json.loads(_said(capsys, "list", root, "--json=true"))
    assert (good["name"], rel["name"], rel["version"], rel["versions"], rel["tags"]) == ("good", "rel", 2, [1, 2], {"paper": 1})
    assert rel["digest"] == open_reference(f"{root}#rel").digest and rel["annotated"] == 8
    table = _said(capsys, "list", root)
    assert "paper (v0001)" in table and "coco/train" in table and "good" in table
    shown = json.loads(_said(capsys, "show", f"{root}#rel@paper", "--json=true"))
    release = open_reference(f"{root}#rel@v1")
    assert (shown["digest"], shown["tags"], shown["lineage"]) == (release.digest, ["paper"], release.manifest.lineage)
    text = _said(capsys, "show", f"{root}#rel@v1")
    for part in (release.digest, "tags       paper", "quarantined: undecodable", "keypoint_similarity", "@misc{rel-v1-", "batch_size"):
        assert part in text
    for command in ("list", "gc"):
        assert "no release store there" in _refused(capsys, command, f"{root}/nothing")[1]
        assert "expected ROOT" in _refused(capsys, command, f"{root}#rel")[1]


def test_one_broken_release_does_not_hide_the_others(root: str, local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    derive(open_reference(f"{root}#rel"), "good", Expression("score > 0.3", "truth"))
    local_store.swap("releases/good/HEAD", local_store.get("releases/good/HEAD"), b"{}")
    out, _ = _refused(capsys, "list", root)
    assert "not a release pointer" in " ".join(out.split()) and "coco/train" in out


def test_log_says_what_changed(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, "tag", f"{root}#rel@v1", "paper")
    newest, first = json.loads(_said(capsys, "log", f"{root}#rel", "--json=true"))
    before, after = (open_reference(f"{root}#rel@v{version}").manifest.lineage["shard_set"][:8] for version in (1, 2))
    assert (newest["version"], newest["head"], newest["changes"]) == (2, True, [f"shard_set: {before} -> {after}"])
    assert (first["version"], first["head"], first["tags"], first["changes"]) == (1, False, ["paper"], [])
    text = _said(capsys, "log", f"{root}#rel")
    assert text.index("v0002") < text.index("v0001") and "(HEAD)" in text and "(paper)" in text
    assert "12 of 15 persons (3 undecodable)" in text
    assert "without a version" in _refused(capsys, "log", f"{root}#rel@v1")[1]


def test_tag(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    digest = open_reference(f"{root}#rel@v1").digest
    assert _said(capsys, "tag", f"{root}#rel@v1", "paper") == f"{root}#rel@paper is v0001 ({digest})\n"
    assert _said(capsys, "tag", f"{root}#rel@v1", "paper").endswith(", as before\n")
    assert "CommitConflict: tag 'paper' of 'rel' means v0001" in _refused(capsys, "tag", f"{root}#rel", "paper")[1]
    assert _said(capsys, "tag", f"{root}#rel", "paper", "--move").endswith("; before, v0001\n")


def test_verify(root: str, local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "verify", f"{root}#rel").endswith("8 persons in 2 shards; every byte was read; sound\n")
    shards = list(open_reference(f"{root}#rel").commits())
    for shard in shards:
        data = local_store.get(object_key(shard.sha256))
        local_store.swap(object_key(shard.sha256), data, data[:-1] + b"x")
    assert "listed, not read; sound" in _said(capsys, "verify", f"{root}#rel", "--deep=false")
    out, _ = _refused(capsys, "verify", f"{root}#rel")
    assert len(out.splitlines()) == 3 and out.endswith("v0002: 2 problems\n") and "pseudo-GT of shard 1" in out
    found = json.loads(_refused(capsys, "verify", f"{root}#rel", "--json=true")[0])
    assert len(found["findings"]) == 2 and found["deep"]
    local_store.swap("releases/rel/HEAD", local_store.get("releases/rel/HEAD"), b"{}")
    (finding,) = json.loads(_refused(capsys, "verify", f"{root}#rel", "--json=true")[0])["findings"]
    assert "not a release pointer" in finding


def test_gc(root: str, local_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "gc", root) == f"{root}: everything is referred to\n"
    key = object_key("ab" + "0" * 62)
    local_store.create(key, b"left behind")
    local_store.create("notes.txt", b"whatever")
    young = json.loads(_said(capsys, "gc", root, "--dry_run=false", "--json=true"))
    assert young["deleted"] == [] and [orphan["key"] for orphan in young["left"]] == [key, "notes.txt"]
    os.utime(local_store.path(key), (1, 1))
    said = _said(capsys, "gc", root)
    assert "would be deleted" in said and "for you to judge" in said and "--dry_run=false deletes" in said
    assert local_store.exists(key)
    assert "left: for you to judge" in _said(capsys, "gc", root, "--dry_run=false")
    assert not local_store.exists(key) and local_store.exists("notes.txt")


def test_copy(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = str(tmp_path / "other")
    _said(capsys, "tag", f"{root}#rel@v1", "paper")
    said = _said(capsys, "copy", f"{root}#rel@paper", other)
    assert f"{other}#rel@v0001: 12 persons" in said and "3 objects copied" in said and "tags: paper" in said
    assert "0 objects copied (0 B), 3 were there" in _said(capsys, "copy", f"{root}#rel@paper", other)
    assert f"{other}#mine@v0001" in _said(capsys, "copy", f"{root}#rel@v1", other, "--as_name=mine")
    _said(capsys, "verify", f"{other}#mine")


def test_the_commands_of_the_documents_are_those_there_are() -> None:
    documents = [*(REPO / "docs").glob("*.md"), REPO / "README.md"]
    lines = [line for path in documents for line in re.findall(r"^\$ python jobs/releases\.py (.*)$", path.read_text(), re.MULTILINE)]
    assert {line.split()[0] for line in lines} >= {"list", "show", "log", "tag", "verify", "gc", "copy", "derive", "diff"}
    for line in lines:
        command, *argv = shlex.split(line)
        module, config, *_ = COMMANDS[command]
        load_config(getattr(import_module(module), config), argv)


def test_no_command_needs_torch_or_ray(root: str, tmp_path: Path) -> None:
    other, ref = str(tmp_path / "other"), f"{root}#rel"
    commands = [["list", root], ["show", ref], ["log", ref], ["tag", ref, "paper"], ["verify", ref], ["gc", root], ["copy", ref, other]]
    commands += [["derive", ref, f"{root}#good", "--filter=score>0.3"]]
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_copy_goes_to_a_root(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--as_name=NAME gives the copy another name" in _refused(capsys, "copy", f"{root}#rel", f"{root}-2#other")[1]
    assert "version 1 is @v1" in _refused(capsys, "show", f"{root}#rel@1")[1]
