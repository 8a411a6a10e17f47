import numpy as np
from scipy.stats import ks_1samp, norm, uniform

from engine.loading.augmentation import Augmentation, AugmentConfig, draw
from engine.loading.counter_rng import stable_key

KEYS = np.array([stable_key("x", i) for i in range(20_000)], dtype=np.uint64)


def test_draws_follow_pose2pose():
    drawn = draw(AugmentConfig(shift=0.1), KEYS)
    assert drawn.scale_B.min() == 0.75 and drawn.scale_B.max() == 1.25
    assert abs((drawn.scale_B == 1.25).mean() - 0.1587) < 0.01  # P(N > 1)
    assert abs((drawn.rotation_B != 0).mean() - 0.6) < 0.02
    assert np.isclose(np.abs(drawn.rotation_B).max(), np.deg2rad(60))
    assert abs(np.rad2deg(drawn.rotation_B[drawn.rotation_B != 0]).std() - 28.8) < 1  # N(0, 30 deg) clipped at two sigmas
    assert abs(drawn.flip_B.mean() - 0.5) < 0.02
    assert drawn.colour_B3.min() >= 0.8 and drawn.colour_B3.max() <= 1.2 and abs(drawn.colour_B3.mean() - 1) < 0.01
    assert np.abs(drawn.shift_B2).max() <= 0.1 and np.abs(drawn.shift_B2).max() > 0.099


def test_scale_and_rotation_are_clipped_normals_and_gains_uniform():
    """Between the clips the draws have the normal's distribution, on the clips its tails' mass."""
    drawn = draw(AugmentConfig(), KEYS)
    scale, turned = (drawn.scale_B - 1) / 0.25, drawn.rotation_B[drawn.rotation_B != 0] / np.deg2rad(30)
    for values, clip in ((scale, 1.0), (turned, 2.0)):
        inner = values[np.abs(values) < clip - 1e-9]
        tail = norm.cdf(-clip)
        assert ks_1samp(inner, lambda x, c=clip, t=tail: (norm.cdf(np.clip(x, -c, c)) - t) / (1 - 2 * t)).pvalue > 1e-3
        for side in (-1, 1):
            assert abs(np.isclose(values, side * clip).mean() - tail) < 0.01
    assert all(ks_1samp(gain, uniform(0.8, 0.4).cdf).pvalue > 1e-3 for gain in drawn.colour_B3.T)


def test_the_kinds_are_drawn_independently():
    drawn = draw(AugmentConfig(shift=0.1), KEYS)
    columns = [drawn.scale_B, drawn.rotation_B, drawn.rotation_B != 0, drawn.flip_B, *drawn.colour_B3.T, *drawn.shift_B2.T]
    correlation = np.corrcoef(np.array(columns, dtype=float)) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.03  # 20,000 draws: 4 sigma


def test_off_is_identity():
    drawn, none = draw(AugmentConfig.off(), KEYS[:50]), Augmentation.identity(50)
    for name in ("scale_B", "rotation_B", "flip_B", "colour_B3", "shift_B2"):
        assert (getattr(drawn, name) == getattr(none, name)).all()


def test_a_draw_belongs_to_its_key_and_not_to_its_batch():
    together, alone = draw(AugmentConfig(shift=0.1), KEYS[:9]), draw(AugmentConfig(shift=0.1), KEYS[4:5])
    for name in ("scale_B", "rotation_B", "flip_B", "colour_B3", "shift_B2"):
        assert (getattr(together, name)[4] == getattr(alone, name)[0]).all()


def test_one_kind_does_not_move_the_others():
    with_flip, without = draw(AugmentConfig(), KEYS), draw(AugmentConfig(flip_probability=0, rotation_probability=0), KEYS)
    assert (with_flip.scale_B == without.scale_B).all() and (with_flip.colour_B3 == without.colour_B3).all()
