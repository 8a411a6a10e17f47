"""S3 on its bad days: nothing is lost, nothing happens twice, and what cannot go on says why. A real server behind a faulty proxy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto.s3.models import s3_backends

from engine.backends.s3 import PART_BYTES
from engine.errors import AlreadyExists, CommitConflict, EngineError, MissingInput, StorageError
from engine.storage import Store, split
from tests.chaos.faulty_s3 import Faults, FaultyS3

BAD_DAY = Faults(slow_down=0.2, reset=0.05, stall=0.02, lost_reply=0.02, stall_s=2.5)
MULTIPART = 2 * PART_BYTES + 12345


def _uploads(server: str, store: Store) -> list[str]:
    """Keys of unfinished multipart uploads, asked of the server itself."""
    reply = boto3.client("s3", endpoint_url=server).list_multipart_uploads(Bucket=store.url.split("/")[2])
    return [upload["Key"] for upload in reply.get("Uploads", [])]


def _life(store: Store, number: int) -> None:
    """Everything that may happen to an object, with a check at each step."""
    key, first, second = f"k/{number:04d}", b"first %d" % number, b"second %d" % number
    store.create(key, first)
    assert store.get(key) == first and store.get(key, 2, 5) == first[2:5]
    store.swap(key, first, second)
    with pytest.raises(CommitConflict):
        store.swap(key, first, b"third")
    with pytest.raises(AlreadyExists):
        store.create(key, b"fourth")
    if number % 3 == 0:
        store.delete(key)
    assert store.exists(key) == (number % 3 != 0)


def test_on_a_bad_day_everything_happens_once(s3_url: str, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """And costs at most half as many requests again as on a good one: 29 faults in 100 take 1 / 0.71 tries."""
    monkeypatch.setenv("PSEUDOGT_STORE_TIMEOUT_S", "2")
    store = Store(s3_url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _life(store.child("good"), number), range(40)))
        good_day = proxy.counts["arrived"]
        proxy.faults = BAD_DAY
        proxy.log.clear()
        list(pool.map(lambda number: _life(store.child("bad"), number), range(40)))
        counts, proxy.faults = proxy.counts, Faults()
    alive = [f"k/{number:04d}" for number in range(40) if number % 3]
    for day in ("good", "bad"):
        assert store.child(day).list() == alive
        assert [store.child(day).get(key) for key in alive] == [b"second %d" % int(key[2:]) for key in alive]
    assert min(counts[fault] for fault in ("slow_down", "reset", "stall", "lost_reply")) > 0
    assert counts["arrived"] / good_day <= 1.5


def test_operations_cost_the_requests_they_need(store: Store, proxy: FaultyS3) -> None:
    def cost() -> int:
        count = proxy.counts["arrived"]
        proxy.log.clear()
        return count

    steps = {
        "create": (lambda: store.create("a", b"1"), 1),
        "get": (lambda: store.get("a"), 1),
        "range": (lambda: store.get("a", 0, 1), 1),
        "exists": (lambda: store.exists("a"), 1),
        "swap": (lambda: store.swap("a", b"1", b"2"), 2),
        "delete": (lambda: store.delete("a"), 1),
        "list nothing": (lambda: store.list(), 1),
    }
    for name, (step, requests) in steps.items():
        step()
        assert (name, cost()) == (name, requests)
    bucket = store.url.split("/")[2]
    for number in range(2500):
        s3_backends["123456789012"]["aws"].put_object(bucket, f"root/many/{number:05d}", b"-")
    assert store.list("many") == [f"many/{number:05d}" for number in range(2500)]
    assert cost() == 3


def test_an_outage_is_waited_for_with_pauses_that_differ(store: Store, proxy: FaultyS3) -> None:
    for reader in range(6):
        store.create(f"{reader}", b"here")
    proxy.log.clear()
    proxy.outage(1.5)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda reader: store.get(f"{reader}"), range(6))) == [b"here"] * 6
    firsts, lasts = [], []
    for reader in range(6):
        times = proxy.arrivals("GET", f"/{store.url.removeprefix('s3://')}/{reader}")
        assert 4 <= len(times) <= 20
        firsts.append(times[1] - times[0])
        lasts.append(times[-1] - times[-2])
    assert len({round(last, 3) for last in lasts}) > 1
    assert sum(lasts) > sum(firsts)


def test_a_store_that_stays_away_ends_in_one_clear_error(store: Store, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", "0.5")
    proxy.outage(60)
    brief, name = Store(store.url), f"{store.url}/key"
    for action in (
        lambda: brief.get("key"),
        lambda: brief.create("key", b"x"),
        lambda: brief.exists("key"),
        lambda: brief.delete("key"),
        lambda: brief.swap("key", b"x", b"y"),
    ):
        with pytest.raises(StorageError, match=rf"{name}: .*gave up after \d+ attempts in \d+\.\d s, last error: .*submit the job again"):
            action()


def test_a_body_that_ends_early_is_read_again(store: Store, proxy: FaultyS3) -> None:
    data = os.urandom(300_000)
    store.create("key", data)
    proxy.faults = Faults(cut_body=0.5)
    assert all(store.get("key") == data for _ in range(10))
    assert proxy.counts["cut_body"] > 0


@pytest.mark.parametrize("same_bytes", [False, True])
def test_creators_that_lose_replies_have_one_winner(store: Store, proxy: FaultyS3, same_bytes: bool) -> None:
    proxy.faults = Faults(slow_down=0.1, lost_reply=0.3)

    def create(round_writer: tuple[int, int]) -> bool:
        try:
            store.create(f"race/{round_writer[0]}", b"same" if same_bytes else b"writer %d" % round_writer[1])
            return True
        except AlreadyExists:
            return False

    with ThreadPoolExecutor(8) as pool:
        for i in range(6):
            won = list(pool.map(create, [(i, w) for w in range(8)]))
            assert won.count(True) == 1
            assert store.get(f"race/{i}") == (b"same" if same_bytes else b"writer %d" % won.index(True))
    assert proxy.counts["lost_reply"] > 0


def test_swaps_that_lose_replies_count_right(store: Store, proxy: FaultyS3) -> None:
    """A write that landed and was built upon before its writer asked again is still its writer's."""
    store.create("counter", b"0")
    proxy.faults = Faults(slow_down=0.1, lost_reply=0.25)

    def increment(_: int) -> None:
        while True:
            before = store.get("counter")
            try:
                return store.swap("counter", before, str(int(before) + 1).encode())
            except CommitConflict:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(24)))
    assert store.get("counter") == b"24"
    assert proxy.counts["lost_reply"] > 0


def test_a_create_that_was_built_upon_is_still_its_writers(
    store: Store, proxy: FaultyS3, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reply to the creator is lost until another writer, who has a better line, has swapped twice."""
    store.create("before", b"-")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    other = Store(store.url)
    proxy.faults = Faults(lost_reply=1.0)
    with ThreadPoolExecutor(1) as pool:
        try:
            created = pool.submit(store.create, "HEAD", b"v1")
            while len(proxy.arrivals("PUT", f"/{store.url.removeprefix('s3://')}/HEAD")) < 2:
                time.sleep(0.001)
            other.swap("HEAD", b"v1", b"v2")
            other.swap("HEAD", b"v2", b"v3")
            assert not created.done()
        finally:
            proxy.faults = Faults()
        created.result()
    assert store.get("HEAD") == b"v3"


def test_large_objects_go_up_and_down_in_parts(store: Store, proxy: FaultyS3, tmp_path: Path) -> None:
    data = os.urandom(MULTIPART)
    (tmp_path / "large").write_bytes(data)
    proxy.faults = Faults(slow_down=0.15, reset=0.05, lost_reply=0.1)
    store.create("bytes", data)
    store.create_file("file", tmp_path / "large")
    assert store.get("bytes") == data and store.get("file", 7, MULTIPART - 7) == data[7:-7]
    with open(tmp_path / "down", "w+b") as file:
        assert store.get_into("file", file) == MULTIPART
        assert store.get_into("file", file, PART_BYTES + 1) == PART_BYTES + 1
    assert (tmp_path / "down").read_bytes() == data
    assert {a.path.partition("?")[2].partition("&")[0] for a in proxy.log if a.method == "PUT"} >= {"partNumber=1", "partNumber=3"}
    assert store.list() == ["bytes", "file"]


def test_large_objects_are_create_only(store: Store, proxy: FaultyS3, s3_server: str) -> None:
    """Writers that race upload both, and one completes; a writer that comes later uploads nothing."""

    def create(byte: int) -> bool:
        try:
            store.create("large", bytes([byte]) * MULTIPART)
            return True
        except AlreadyExists:
            return False

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(create, (0, 1)))
    assert won.count(True) == 1
    assert store.get("large") == bytes([won.index(True)]) * MULTIPART
    assert _uploads(s3_server, store) == []
    proxy.log.clear()
    assert not create(2)
    assert [arrival.method for arrival in proxy.log] == ["HEAD"]


def test_an_upload_that_fails_is_aborted(store: Store, proxy: FaultyS3, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store goes away in the middle, and comes back just in time for the abort."""
    monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", "0.5")
    brief = Store(store.url)
    with ThreadPoolExecutor(1) as pool:
        created = pool.submit(brief.create, "key", bytes(MULTIPART))
        while not any(a.method == "PUT" for a in proxy.log):
            time.sleep(0.001)
        proxy.faults = Faults(slow_down=1.0)
        while not created.done() and not any(a.method == "DELETE" for a in proxy.log):
            time.sleep(0.001)
        proxy.faults = Faults()
        with pytest.raises(StorageError, match="gave up after"):
            created.result()
    assert not store.exists("key") and _uploads(s3_server, store) == []


def _upload_forever(url: str) -> None:
    Store(url).create("large", bytes(MULTIPART))


def test_a_killed_upload_is_not_visible_and_is_cleared(store: Store, proxy: FaultyS3, s3_server: str) -> None:
    child = multiprocessing.get_context("fork").Process(target=_upload_forever, args=(store.url,))
    child.start()
    while not any(a.method == "PUT" for a in proxy.log):
        time.sleep(0.002)
    proxy.faults = Faults(slow_down=1.0)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    proxy.faults = Faults()
    assert not store.exists("large") and store.list() == []
    assert _uploads(s3_server, store) == ["root/large"]
    store.create("neighbour", b"-")
    store.child("x").clear("y")
    assert _uploads(s3_server, store) == ["root/large"]
    parent, name = split(store.url)
    parent.clear(name)
    assert _uploads(s3_server, store) == [] and store.list() == []


def _get_in_child(store: Store, results: multiprocessing.Queue) -> None:
    results.put((store.get("key"), Store(store.url).get("key")))


def test_forked_workers_and_threads_share_a_store(store: Store) -> None:
    store.create("key", b"bytes")
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_get_in_child, args=(store, results)) for _ in range(2)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(lambda _: store.get("key"), range(128))) == {b"bytes"}
    assert [results.get(timeout=60) for _ in children] == [(b"bytes", b"bytes")] * 2
    for child in children:
        child.join()
    assert store.get("key") == b"bytes"


SECRET, KEY_ID = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AKIAIOSFODNN7EXAMPLE"


def _attempts(url: str) -> list[str]:
    store, messages = Store(url), []
    for action in (
        lambda: store.get("key"),
        lambda: store.create("key", b"x"),
        lambda: store.swap("key", b"x", b"y"),
        lambda: store.list(),
        lambda: store.exists("key"),
    ):
        with pytest.raises(EngineError) as error:
            action()
        messages.append(str(error.value))
    return messages


@pytest.mark.parametrize("fault", ["denied", "reset"])
def test_credentials_are_never_in_a_message(store: Store, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Not those of the environment, though the server repeats them, and not those in the endpoint's URL."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token-of-some-length")
    monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", "0.2")
    proxy.faults = Faults(denied=1.0) if fault == "denied" else Faults(reset=1.0)
    messages = _attempts(store.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("//", "//someone:password@"))
    messages += _attempts(store.url)
    for message in messages:
        assert message.startswith(store.url)
        assert not any(secret in message for secret in (SECRET, KEY_ID, "a-session-token", "password"))


def test_a_refusal_is_raised_at_once(store: Store, proxy: FaultyS3) -> None:
    proxy.faults = Faults(denied=1.0)
    for message in _attempts(store.url):
        assert "AccessDenied" in message or "403" in message
        assert "check that these credentials may do that" in message
    assert proxy.counts["arrived"] == proxy.counts["denied"] == 5


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_ENDPOINT_URL": "no endpoint"}, "Invalid endpoint: no endpoint; check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "https://"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "give credentials: AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "nosuchprofile"}, "nosuchprofile"),
    ],
)
def test_a_wrong_environment_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for found in _attempts(store.url):
        assert message in found and "gave up" not in found


def test_tls_where_there_is_none_is_not_waited_for(store: Store, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("http:", "https:"))
    with pytest.raises(StorageError, match=r"cannot get object: SSLError.*check AWS_ENDPOINT_URL"):
        Store(store.url).get("key")


def test_a_bucket_that_is_not_there_is_named(proxy: FaultyS3) -> None:
    store = Store("s3://no-such-bucket/root")
    for action in (lambda: store.get("key"), lambda: store.create("key", b"x"), lambda: store.list()):
        with pytest.raises(MissingInput, match=r"s3://no-such-bucket/root.*: no such bucket; create it"):
            action()
    with pytest.raises(StorageError, match="Bad_Bucket!"):
        Store("s3://Bad_Bucket!/root").get("key")
