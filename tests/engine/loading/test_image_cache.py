import numpy as np

from engine.loading.image_cache import ImageCache


def test_the_least_recently_used_image_leaves_first():
    cache = ImageCache(capacity_bytes=250)
    images = {name: np.full(100, i, dtype=np.uint8) for i, name in enumerate("abc")}
    cache.put("a", images["a"])
    cache.put("b", images["b"])
    assert cache.get("a") is not None
    cache.put("c", images["c"])
    assert cache.get("b") is None and (cache.get("a") == 0).all() and (cache.get("c") == 2).all()


def test_what_is_kept_is_a_copy_and_what_is_too_large_is_not_kept():
    cache = ImageCache(capacity_bytes=100)
    lent = np.zeros(100, dtype=np.uint8)
    cache.put("a", lent)
    cache.put("a", lent)
    lent[:] = 9
    assert (cache.get("a") == 0).all()
    cache.put("b", np.zeros(101, dtype=np.uint8))
    assert cache.get("b") is None and cache.get("a") is not None
