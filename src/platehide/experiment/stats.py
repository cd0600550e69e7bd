"""Estimates and intervals for experiments whose unit is a seller. Pure NumPy and SciPy.

Photos of one seller are not independent, so every variance here is one between sellers: a
ratio metric is ``sum(numerator) / sum(denominator)`` with the delta method over sellers (Deng,
Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018), a quantile is
bootstrapped by drawing sellers. Leading axes are experiments, so that a simulation of thousands
runs through the same code as one analysis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

COLUMNS = ("numerator", "denominator", "covariate_numerator", "covariate_denominator")


@dataclass(frozen=True)
class Moments:
    """What an arm's sellers add up to.

    Attributes:
        count: ``(...)`` sellers.
        mean: ``(..., 4)`` mean of each of ``COLUMNS`` over sellers.
        cov: ``(..., 4, 4)`` unbiased covariance between sellers.
    """

    count: Floats
    mean: Floats
    cov: Floats

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Moments of ``values`` ``(..., sellers, 4)``, columns as ``COLUMNS``."""
        values = np.asarray(values, dtype=np.float64)
        n = values.shape[-2]
        if n < 2:
            raise ValueError(f"an arm needs two sellers or more, got {n}")
        mean = values.mean(axis=-2)
        centred = values - mean[..., None, :]
        cov = np.swapaxes(centred, -1, -2) @ centred / (n - 1)
        return cls(np.full(mean.shape[:-1], float(n)), mean, cov)

    @classmethod
    def of_sums(cls, count: Floats, total: Floats, products: Floats) -> Moments:
        """Moments from the sum ``(..., 4)`` and the sum of outer products ``(..., 4, 4)``."""
        n = np.asarray(count, dtype=np.float64)
        mean = total / n[..., None]
        outer = mean[..., :, None] * mean[..., None, :]
        cov = (products - n[..., None, None] * outer) / (n[..., None, None] - 1.0)
        return cls(n, mean, cov)


@dataclass(frozen=True)
class Effect:
    """The difference between two arms; every array has the experiments' shape ``(...)``.

    Attributes:
        control, treatment: the metric in each arm (adjusted where a covariate is used).
        difference: treatment − control.
        se: standard error of ``difference``.
        df: Welch–Satterthwaite degrees of freedom.
        units: sellers in both arms together.
        log_se: standard error of ``log(treatment / control)``; NaN where a value is not positive.
        variance_reduction: share of the variance that the covariate took away.
    """

    control: Floats
    treatment: Floats
    difference: Floats
    se: Floats
    df: Floats
    units: Floats
    log_se: Floats
    variance_reduction: Floats


def _gradient(mean_num: Floats, mean_den: Floats) -> Floats:
    """Gradient ``(..., 2)`` of numerator / denominator."""
    return np.stack([1.0 / mean_den, -mean_num / mean_den**2], axis=-1)


def _form(left: Floats, cov: Floats, right: Floats) -> Floats:
    out: Floats = np.einsum("...i,...ij,...j->...", left, cov, right)
    return out


def ratio_effect(control: Moments, treatment: Moments, *, covariate: bool = False) -> Effect:
    """Effect on a ratio of sums, by the delta method over sellers.

    With ``covariate`` the estimate is CUPED (Deng, Xu, Kohavi and Walker, WSDM 2013) on the
    linearised ratio: the arm's covariate ratio, times the regression coefficient within arms,
    is subtracted. The covariate must be fixed before the exposure.
    """
    ratios, var_plain, gradients = [], [], []
    with np.errstate(divide="ignore", invalid="ignore"):
        for arm in (control, treatment):
            g = _gradient(arm.mean[..., 0], arm.mean[..., 1])
            gradients.append(g)
            ratios.append(arm.mean[..., 0] / arm.mean[..., 1])
            var_plain.append(_form(g, arm.cov[..., :2, :2], g) / arm.count)
        variances = list(var_plain)
        if covariate:
            ratios, variances = _adjust(control, treatment, ratios, gradients)
        n_c, n_t = control.count, treatment.count
        total = variances[0] + variances[1]
        df = total**2 / (variances[0] ** 2 / (n_c - 1) + variances[1] ** 2 / (n_t - 1))
        positive = (ratios[0] > 0) & (ratios[1] > 0)
        log_var = variances[0] / ratios[0] ** 2 + variances[1] / ratios[1] ** 2
        reduction = 1.0 - total / (var_plain[0] + var_plain[1])
    return Effect(
        control=ratios[0],
        treatment=ratios[1],
        difference=ratios[1] - ratios[0],
        se=np.sqrt(np.maximum(total, 0.0)),
        df=df,
        units=n_c + n_t,
        log_se=np.where(positive, np.sqrt(np.maximum(log_var, 0.0)), np.nan),
        variance_reduction=reduction if covariate else np.zeros_like(total),
    )


def _adjust(
    control: Moments, treatment: Moments, ratios: list[Floats], gradients: list[Floats]
) -> tuple[list[Floats], list[Floats]]:
    """CUPED: adjusted ratios and their variances, by arm."""
    arms = (control, treatment)
    units = control.count + treatment.count
    # One linearisation point for the covariate: it is the same population in both arms.
    weights = [(arm.count / units)[..., None] for arm in arms]
    pooled = control.mean[..., 2:] * weights[0] + treatment.mean[..., 2:] * weights[1]
    centre = pooled[..., 0] / pooled[..., 1]
    g_x = _gradient(pooled[..., 0], pooled[..., 1])
    shared = sum(
        _form(g, arm.cov[..., :2, 2:], g_x) * (arm.count - 1)
        for arm, g in zip(arms, gradients, strict=True)
    )
    spread = sum(_form(g_x, arm.cov[..., 2:, 2:], g_x) * (arm.count - 1) for arm in arms)
    theta = np.where(spread > 0, shared / np.where(spread > 0, spread, 1.0), 0.0)
    adjusted, variances = [], []
    for arm, ratio, g in zip(arms, ratios, gradients, strict=True):
        moved = (arm.mean[..., 2] - centre * arm.mean[..., 3]) / pooled[..., 1]
        adjusted.append(ratio - theta * moved)
        h = np.concatenate([g, -theta[..., None] * g_x], axis=-1)
        variances.append(_form(h, arm.cov, h) / arm.count)
    return adjusted, variances


def fixed_critical(alpha: float, df: Floats | float = math.inf) -> Floats:
    """Two-sided critical value of one look at a fixed horizon (Student, Welch's ``df``)."""
    out: Floats = np.asarray(stats.t.ppf(1.0 - alpha / 2.0, df), dtype=np.float64)
    return out


def _mixture(alpha: float, fraction: Floats | float) -> Floats:
    """``t · rho²`` of the confidence sequence when ``fraction`` of the horizon has come in.

    ``rho`` makes the interval tightest at the horizon (Waudby-Smith et al., appendix B.2:
    ``rho² = (−2 log α + log(−2 log α) + 1) / t``).
    """
    best = -2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha)) + 1.0
    return best * np.asarray(fraction, dtype=np.float64)


def sequence_critical(alpha: float, fraction: Floats | float) -> Floats:
    """Multiplier of the standard error that holds at every look at once.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
    Statistics 2024, theorem 2.2), written as a multiple of the standard error.

    Args:
        alpha: probability that any interval of the whole sequence misses the truth.
        fraction: sellers so far ÷ sellers planned; above 1 is allowed.
    """
    k = _mixture(alpha, fraction)
    out: Floats = np.sqrt(2.0 * (k + 1.0) / k * np.log(np.sqrt(k + 1.0) / alpha))
    return out


def sequence_p_value(z: Floats | float, alpha: float, fraction: Floats | float) -> Floats:
    """Always-valid p-value: the smallest level whose sequence excludes zero at this look."""
    k = _mixture(alpha, fraction)
    square = np.asarray(z, dtype=np.float64) ** 2
    out: Floats = np.minimum(1.0, np.sqrt(k + 1.0) * np.exp(-square * k / (2.0 * (k + 1.0))))
    return out


def fixed_p_value(z: Floats | float, df: Floats | float = math.inf) -> Floats:
    """Two-sided p-value of one look at a fixed horizon."""
    out: Floats = np.asarray(2.0 * stats.t.sf(np.abs(z), df), dtype=np.float64)
    return out


def sample_ratio_p_value(
    counts: Sequence[int], shares: Sequence[float], *, peeking: bool = False
) -> float:
    """How well the sellers in each arm fit the planned shares.

    Pearson's chi-squared test at a fixed horizon; with ``peeking`` the always-valid multinomial
    test of Lindon and Malek ("Anytime-Valid Inference for Multinomial Count Data", NeurIPS
    2022), a Bayes factor against a flat Dirichlet.
    """
    seen = np.asarray(counts, dtype=np.float64)
    theta = np.asarray(shares, dtype=np.float64)
    if seen.sum() == 0:
        return 1.0
    if ((theta == 0) & (seen > 0)).any():
        return 0.0
    seen, theta = seen[theta > 0], theta[theta > 0]
    if not peeking:
        return float(stats.chisquare(seen, seen.sum() * theta).pvalue)
    log_bayes = (
        special.gammaln(len(seen))
        - special.gammaln(len(seen) + seen.sum())
        + special.gammaln(1.0 + seen).sum()
        - (seen * np.log(theta)).sum()
    )
    return float(min(1.0, math.exp(min(0.0, -log_bayes))))


def quantile(values: Floats, q: float) -> float:
    """Smallest value with at least ``q`` of the values at or below it."""
    return float(np.quantile(values, q, method="inverted_cdf"))


@dataclass(frozen=True)
class QuantileEffect:
    """Quantiles of both arms and what sellers drawn with replacement make of them.

    Attributes:
        differences, log_ratios: ``(replicates,)``; log ratios are NaN where a value is not
            positive.
    """

    control: float
    treatment: float
    differences: Floats
    log_ratios: Floats


def quantile_bootstrap(
    control: tuple[Floats, NDArray[np.int64]],
    treatment: tuple[Floats, NDArray[np.int64]],
    q: float,
    *,
    replicates: int,
    rng: np.random.Generator,
) -> QuantileEffect:
    """Cluster bootstrap of a quantile: each replicate draws sellers, with all their values.

    Args:
        control: values ``(n,)`` and the index (0…) of the seller of each value.
        treatment: the same for the other arm.
        q: the quantile, 0…1.
        replicates: how many times sellers are drawn.
        rng: source of the draws.
    """
    draws = [_quantile_draws(*arm, q, replicates, rng) for arm in (control, treatment)]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratios = np.where(
            (draws[0] > 0) & (draws[1] > 0), np.log(draws[1]) - np.log(draws[0]), np.nan
        )
    return QuantileEffect(
        quantile(control[0], q), quantile(treatment[0], q), draws[1] - draws[0], log_ratios
    )


def _quantile_draws(
    values: Floats, sellers: NDArray[np.int64], q: float, replicates: int, rng: np.random.Generator
) -> Floats:
    order = np.argsort(values, kind="stable")
    ranked, owner = values[order], sellers[order]
    n = int(sellers.max()) + 1
    out = np.empty(replicates)
    for i in range(replicates):
        times = np.bincount(rng.integers(0, n, n), minlength=n)
        weight = np.cumsum(times[owner])
        out[i] = ranked[np.searchsorted(weight, q * weight[-1], side="left")]
    return out


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (family-wise), in the order given."""
    order = np.argsort(p_values)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = highest
    return adjusted
