"""Tags: a word means one version until it is moved on purpose; of two at once, one is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from engine.errors import CommitConflict, ConfigError, EngineError, ReleaseError
from engine.releases.fsck import collect_garbage, find_orphans
from engine.releases.store import Release, open_reference, tag_key
from engine.releases.tags import read_tags, set_tag
from engine.releases.verify import verify_release
from engine.storage import Store

REPO = Path(__file__).resolve().parents[3]


def _two(store: Store, make_release: Callable[..., Release]) -> tuple[Release, Release]:
    return make_release(store, shards=1), make_release(store, shards=1, word="next")


def test_a_tag_means_its_version_until_it_is_moved(store: Store, make_release: Callable[..., Release]) -> None:
    first, second = _two(store, make_release)
    assert set_tag(first, "paper") is None and set_tag(second, "next_one") is None
    assert open_reference(f"{store.url}#rel@paper").digest == first.digest
    assert open_reference(f"{store.url}#rel@v2").digest == open_reference(f"{store.url}#rel").digest == second.digest
    assert set_tag(first, "paper").version == 1  # again: nothing happens
    with pytest.raises(CommitConflict, match=r"tag 'paper' of 'rel' means v0001 .*, not v0002; nothing was changed; --move"):
        set_tag(second, "paper")
    assert set_tag(second, "paper", move=True).version == 1
    assert open_reference(f"{store.url}#rel@paper").digest == second.digest
    assert {tag: pointer.version for tag, pointer in read_tags(store, "rel").items()} == {"next_one": 2, "paper": 2}
    assert find_orphans(store) == [] and collect_garbage(store, 0, dry_run=False) == []
    verify_release(first), verify_release(second)
    with pytest.raises(ReleaseError, match=r"no tag 'other' .tags there: next_one, paper"):
        open_reference(f"{store.url}#rel@other")


@pytest.mark.parametrize("tag", ["v3", "V12", "HEAD", "head", "x.lock", "", "a/b", "..", ".hidden", "-x", "a" * 101, "é"])
def test_words_that_cannot_be_tags(local_store: Store, make_release: Callable[..., Release], tag: str) -> None:
    with pytest.raises(ConfigError, match="expected up to 100 letters"):
        set_tag(make_release(local_store, shards=1), tag)
    assert read_tags(local_store, "rel") == {}


def test_a_tag_whose_manifest_is_another_is_an_error(local_store: Store, make_release: Callable[..., Release]) -> None:
    first, second = _two(local_store, make_release)
    set_tag(first, "paper")
    key = tag_key("rel", "paper")
    data = local_store.get(key)
    for damaged in (data.replace(first.digest.encode(), second.digest.encode()), data.replace(b"v0001", b"v0002")):
        local_store.swap(key, data, damaged)
        with pytest.raises(ReleaseError, match=f"the tag 'paper' expects the digest .* found {first.digest}"):
            open_reference(f"{local_store.url}#rel@paper")
        with pytest.raises(ReleaseError, match=r"tags/paper: expected version, digest and path of v0001, found .*--move. sets it anew"):
            verify_release(first)
        local_store.swap(key, damaged, data)
    local_store.swap(key, data, b"garbage")
    with pytest.raises(ReleaseError, match=r"not a release pointer.*--move sets it anew"):
        set_tag(first, "paper")
    assert set_tag(first, "paper", move=True) is None
    assert local_store.get(key) == data


@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("move", [False, True])
def test_of_two_at_once_one_wins_and_the_other_is_told(
    kind: str, move: bool, tmp_path: Path, request: pytest.FixtureRequest, make_release: Callable[..., Release]
) -> None:
    store = Store(f"{tmp_path}/root" if kind == "file" else request.getfixturevalue("s3_url"))
    first, second = _two(store, make_release)
    third = make_release(store, shards=1, word="third")
    rivals = [first, second]
    for attempt in range(3):
        tag, together = f"paper{attempt}", Barrier(2)

        class Together(Store):
            """Both have read the tag before either writes it."""

            def swap(self, key: str, expected: bytes | None, data: bytes, together: Barrier = together) -> None:
                together.wait(20)
                super().swap(key, expected, data)

        def rival(release: Release, tag: str = tag, made: type[Store] = Together) -> str | int:
            try:
                set_tag(Release(made(store.url), release.manifest, release.digest), tag, move)
                return release.manifest.version
            except EngineError as error:
                return f"{type(error).__name__}: {error}"

        if move:
            set_tag(third, tag)
        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(rival, rivals))
        (winner,) = (answer for answer in told if isinstance(answer, int))
        (loser,) = (answer for answer in told if isinstance(answer, str))
        assert loser.startswith(f"CommitConflict: tag '{tag}' of 'rel': somebody else set it at the same time; it means v000{winner} ")
        assert open_reference(f"{store.url}#rel@{tag}").manifest.version == winner


RACER = """
import sys, time
from engine.errors import CommitConflict
from engine.releases.store import open_reference
from engine.releases.tags import set_tag

root, version, tags = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
release = open_reference(f"{root}#rel@{version}")
print("ready", flush=True)
sys.stdin.readline()
for tag in tags:
    try:
        set_tag(release, tag)
        print(tag)
    except CommitConflict:
        pass
"""


def test_two_processes_that_tag_at_once_agree_who_won(local_store: Store, make_release: Callable[..., Release]) -> None:
    _two(local_store, make_release)
    tags = [f"t{number}" for number in range(50)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, local_store.url, version, ",".join(tags)],
            cwd=REPO,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in ("v1", "v2")
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [set(racer.communicate(timeout=60)[0].split()) for racer in racers]
    assert won[0] | won[1] == set(tags) and not won[0] & won[1]
    assert {tag for tag, pointer in read_tags(local_store, "rel").items() if pointer.version == 1} == won[0]
