"""Intervals over few repetitions hold the truth, and one arm hardly moves those of the others."""

import math

import numpy as np
import pytest
from scipy import special, stats

from svp_lightning.evaluation.repetitions import ALPHA, Error, Spread, error_of, holm, moderated

LOG_ALPHA = math.log(ALPHA)


def study(rng, arms=1, repetitions=5, *, image=0.01, own=0.01, training=0.01, redraws=100):
    """(S,) and (S, R) differences of each arm from one control, all of them 0 in truth.

    Trainings of an arm and of the control have standard deviations of up to e^±0.5 ``training``.
    """
    control = rng.normal(0, training, repetitions)
    drawn = []
    for spread in training * np.exp(rng.uniform(-0.5, 0.5, arms)):
        observed = rng.normal(0, image) + rng.normal(0, own, repetitions)
        observed = observed + rng.normal(0, spread, repetitions) - control
        noise = rng.normal(0, image, redraws) + rng.normal(0, own, (repetitions, redraws))
        drawn.append((observed, observed[:, None] + noise))
    return drawn


def errors(drawn):
    spreads = moderated([observed for observed, _ in drawn])
    return [error_of(redrawn, one) for (_, redrawn), one in zip(drawn, spreads, strict=True)]


@pytest.mark.parametrize(("arms", "repetitions"), [(1, 3), (1, 8), (4, 5), (11, 5)])
@pytest.mark.parametrize("image", [0.001, 0.02])
def test_95_percent_intervals_cover_95_percent(arms, repetitions, image):
    held, any_found, trials = [], 0, 240
    for trial in range(trials):
        rng = np.random.default_rng([arms, repetitions, trial])
        drawn = study(rng, arms, repetitions, image=image, own=image / 2)
        found = errors(drawn)
        means = [float(observed.mean()) for observed, _ in drawn]
        held += [e.half_width(LOG_ALPHA) >= abs(m) for e, m in zip(found, means, strict=True)]
        any_found += min(holm([e.p_value(m) for e, m in zip(found, means, strict=True)])) <= ALPHA
    # Arms of one study share a control: 3 standard errors of the trials, not of the intervals.
    assert np.mean(held) > 0.95 - 3 * 0.22 / math.sqrt(trials)
    assert any_found / trials < 0.05 + 3 * 0.22 / math.sqrt(trials)


@pytest.mark.parametrize("training", [0.01, 0.1], ids=["another", "a wild one"])
def test_another_arm_hardly_moves_the_intervals_of_the_others(training):
    """The mean of the variances, as a floor, is multiplied by 15 where an arm is wild."""
    moved = []
    for trial in range(100):
        rng = np.random.default_rng(trial)
        before = [observed for observed, _ in study(rng, 6)]
        another = study(rng, 1, training=training)[0][0]
        widths = [
            [math.sqrt(one.variance) * special.stdtrit(one.freedom, 0.975) for one in found]
            for found in (moderated(before), moderated([*before, another])[:-1])
        ]
        moved += np.abs(np.divide(*widths[::-1]) - 1).tolist()
    assert np.median(moved) < (0.05 if training < 0.1 else 0.12)
    assert np.quantile(moved, 0.95) < (0.15 if training < 0.1 else 0.35)


def test_variances_are_shrunk_towards_their_prior_by_what_they_have_in_common():
    rng = np.random.default_rng(0)
    alike = [rng.normal(0, 1, 5) for _ in range(2000)]
    own = np.array([values.var(ddof=1) for values in alike])
    found = np.array([one.variance for one in moderated(alike)])
    assert found.std() < 0.5 * own.std()
    assert (found < own)[own > 1.5].all()
    # The prior, though exact, counts for no more than what one control lets many arms know.
    assert {round(one.freedom, 1) for one in moderated(alike)} == {16.0}
    scales = np.exp(rng.normal(0, 3, 2000))
    unlike = moderated([scale * values for scale, values in zip(scales, alike, strict=True)])
    assert max(one.freedom for one in unlike) < 5
    shrunk = np.array([one.variance for one in unlike]) / (own * scales**2)
    assert np.median(shrunk) == pytest.approx(1, abs=0.1)


def test_the_prior_is_the_one_that_variances_come_from():
    """Scale and degrees of freedom of limma's model, without the limit of few arms."""
    rng = np.random.default_rng(1)
    scales = np.sqrt(2.0 / stats.chi2.rvs(2, size=20_000, random_state=rng) * 9.0)
    drawn = [scale * rng.normal(0, 1, 8) for scale in scales]
    one = moderated(drawn)[0]
    # 3/4 of the chance variation is expected, as for arms of one control: d0 is a little low.
    assert one.freedom == pytest.approx(7 + 2, abs=0.3)
    prior = (one.variance * one.freedom - 7 * drawn[0].var(ddof=1)) / (one.freedom - 7)
    assert prior == pytest.approx(9.0, rel=0.1)


@pytest.mark.parametrize("observed", [[], [[0.1, 0.2, 0.4]], [[0.0] * 4, [0.0] * 4]])
def test_what_has_no_prior_keeps_its_own_variance(observed):
    found = moderated([np.array(one) for one in observed])
    assert found == [Spread(np.var(one, ddof=1), len(one) - 1) for one in observed]


def test_an_arm_that_never_varies_is_no_outlier():
    rng = np.random.default_rng(0)
    drawn = [observed for observed, _ in study(rng, 5)]
    one, *others = moderated([np.full(5, 0.3), *drawn])
    assert one.variance > 0
    for found, before in zip(others, moderated(drawn), strict=True):
        assert found.variance == pytest.approx(before.variance, rel=0.7)


def test_repetitions_alone_give_students_t():
    observed = np.array([0.01, 0.03, 0.05])
    error = error_of(np.repeat(observed[:, None], 50, axis=1), *moderated([observed]))
    expected = stats.ttest_1samp(observed, 0)
    assert error.p_value(0.03) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert error.half_width(LOG_ALPHA) == pytest.approx((high - low) / 2)


def test_images_alone_are_never_averaged_away():
    # All repetitions react alike to a redrawn test set: more of them do not make it larger.
    shared = np.random.default_rng(0).normal(0.02, 0.01, 1000)
    for repetitions in (1, 3, 10):
        spread = Spread(0.0, repetitions - 1) if repetitions > 1 else None
        error = error_of(np.tile(shared, (repetitions, 1)), spread)
        assert error.half_width(LOG_ALPHA) == pytest.approx(
            stats.norm.isf(0.025) * shared.std(ddof=1)
        )


@pytest.mark.parametrize("mean", [0.001, 0.02, 0.2])
def test_the_p_value_is_that_whose_interval_ends_at_0(mean):
    error = Error(images=1e-4, repetitions=2e-4, freedom=5.0)
    assert error.half_width(math.log(error.p_value(mean))) == pytest.approx(mean)


def test_identical_arms_do_not_differ_and_certain_ones_are_not_judged():
    nothing = Error(0.0, 0.0, 4.0)
    assert nothing.p_value(0.0) == 1
    assert nothing.p_value(0.1) is None
    assert 0 < Error(1e-20, 0.0, 4.0).p_value(0.1) < 1e-100


def test_holm_is_the_textbooks():
    # Each p times the number of hypotheses not yet rejected, never falling.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]
