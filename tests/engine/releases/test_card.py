"""The card says what its manifest says, its programs run, and one in other words is told from one that was edited."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.errors import CommitConflict, ReleaseError
from engine.exchange.registry import FORMATS
from engine.releases.card import check_card, write_card
from engine.releases.card_usage import EXPORT_FORMATS, bibtex
from engine.releases.derive import derive
from engine.releases.expressions import Expression
from engine.releases.publish import publish
from engine.releases.store import Release
from engine.storage import Store
from schemas.records import sha256_hex
from tests.engine.releases.conftest import commit_all, make_plan


def test_the_card_is_a_function_of_manifest_and_digest(store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(store)
    card = store.get("releases/rel/v0001/README.md")
    again = release.manifest.from_bytes(release.manifest.to_bytes())
    assert card.decode() == write_card(again, release.digest)
    check_card(card, again, release.digest)
    for digest in release.manifest.lineage.values():
        assert digest in card.decode()


def test_the_card_names_every_format() -> None:
    assert sorted(EXPORT_FORMATS) == sorted(FORMATS)


@pytest.mark.parametrize("derived", [False, True])
def test_the_programs_of_the_card_read_the_release(local_store: Store, make_release: Callable[..., Release], derived: bool) -> None:
    release = make_release(local_store)
    if derived:
        release = derive(release, "good", Expression("score > 0.3", "truth"))
    programs = re.findall(r"```python\n(.*?)```", write_card(release.manifest, release.digest), re.DOTALL)
    assert len(programs) == 2
    shown = "print(rows['key'].to_pylist(), rows['annotation_id'].to_pylist())"
    rows = release.table()
    for program in programs:
        program = program.replace("ROOT", local_store.url) + shown
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{rows['key'].to_pylist()} {rows['annotation_id'].to_pylist()}\n"


def test_the_citation_names_version_digest_and_date(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    m = release.manifest.model_copy(
        update={"name": "a_b", "version": 3, "dataset": "50 % {x}\\", "created_at": "2026-02-03T04:05:06+00:00"}
    )
    lines = bibtex(m, release.digest)
    assert lines[0] == f"@misc{{a-b-v3-{release.digest[:8]}," and lines[-1] == "}"
    fields = dict(re.fullmatch(r"  (\w+) += \{(.*)\},", line).groups() for line in lines[1:-1])
    assert fields["title"] == r"{a\_b, version 3: 3D pseudo-ground-truth of 50 \% \{x\}\textbackslash{} train}"
    assert (fields["version"], fields["year"], fields["date"]) == ("v0003", "2026", "2026-02-03")
    assert release.digest in fields["note"]
    assert "year" not in "".join(bibtex(m.model_copy(update={"created_at": "never"}), release.digest))


def _sealed(text: str) -> bytes:
    return f"{text}<!-- sha256 of the text above: {sha256_hex(text.encode())} -->\n".encode()


def test_a_card_in_other_words_is_one_but_an_edited_one_is_none(local_store: Store, make_release: Callable[..., Release]) -> None:
    release = make_release(local_store)
    m, digest = release.manifest, release.digest
    text, _, seal = write_card(m, digest).rpartition("<!--")
    facts = text.partition("\n## How to load it")[0]
    check_card(facts.encode(), m, digest)  # all that a card had before it had a digest of its own
    check_card(_sealed(text.replace("## Quality", "## How good")), m, digest)
    other = {"digest": "0" * 64, "created_at": "2020"}
    edited = [
        text.replace("## Quality", "## How good") + "<!--" + seal,
        facts.replace("persons", "people"),
        text,
        "",
        _sealed(text.replace("# rel v0001", "# rel v0002")).decode(),
        _sealed(text.replace(digest, other["digest"])).decode(),
        _sealed(text.replace(m.created_at, other["created_at"])).decode(),
    ]
    for card in edited:
        with pytest.raises(ReleaseError, match="expected the card of its manifest"):
            check_card(card.encode(), m, digest)


def test_a_publication_that_another_version_of_the_program_began_is_completed(local_store: Store) -> None:
    draft = commit_all(local_store, make_plan())
    publish(local_store, draft)
    card = local_store.get("releases/rel/v0001/README.md")
    text = card.decode().rpartition("<!--")[0]
    for found, well in ((_sealed(text + "More.\n"), True), (b"something else\n", False)):
        local_store.swap("releases/rel/v0001/README.md", local_store.get("releases/rel/v0001/README.md"), found)
        local_store.delete("releases/rel/HEAD")
        if well:
            assert publish(local_store, draft).manifest.version == 1
            assert local_store.exists("releases/rel/HEAD")
        else:
            with pytest.raises(CommitConflict, match=r"README\.md: holds other bytes .*expected the card of its manifest"):
                publish(local_store, draft)


def test_a_manifest_without_the_figures_of_every_release_has_no_card(local_store: Store) -> None:
    draft = commit_all(local_store, make_plan())
    manifest = draft.manifest.model_copy(update={"figures": {}})
    with pytest.raises(ReleaseError, match="has no figure 'score'"):
        write_card(manifest, replace(draft, manifest=manifest).manifest.digest())
