"""Writes scipy-figures.json, the figures that the statistics are checked against: python3 scipy-figures.py > scipy-figures.json"""

import json

import numpy
import scipy
from scipy import stats

# Two judges of eight systems; ties in both.
X = [112, 98.5, 98.5, 130, 45, 71, 60, 112]
Y = [101, 96, 90, 120, 52, 52, 70, 99]
# Prompt scores of a weak system: mostly zeros.
SCORES = [0] * 34 + [1] * 6 + [2] * 6 + [3] * 4
# Paired differences, ties and zeros among them.
DIFFERENCES = [3, 0, -1, 2, 2, 0, 1, -2, 3, 1, 0, 1, -1, 2]
HALVES = [0.5, 1.5, -0.5, 2, 0, 1, -1, 0.5]


def correlation(result):
    return float(result.statistic)


def pearson_interval():
    low, high = stats.pearsonr(X, Y).confidence_interval(0.95)
    return [float(low), float(high)]


def sign_flip(differences):
    result = stats.permutation_test(
        (numpy.array(differences),), numpy.sum, permutation_type="samples", n_resamples=numpy.inf, vectorized=False
    )
    return float(result.pvalue)


def bca(values):
    result = stats.bootstrap(
        (numpy.array(values),), numpy.mean, method="BCa", n_resamples=400_000, batch=20_000, rng=numpy.random.default_rng(1)
    )
    interval = result.confidence_interval
    return [float(interval.low) * len(values), float(interval.high) * len(values)]


def wilson(successes, trials):
    interval = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]


print(
    json.dumps(
        {
            "origin": f"SciPy {scipy.__version__}, NumPy {numpy.__version__}, by scipy-figures.py",
            "normal": [[x, float(stats.norm.cdf(x))] for x in (-6, -3, -1.96, -0.1, 0, 0.5, 1, 2.5, 4, 7)],
            "correlation": {
                "x": X,
                "y": Y,
                "pearson": correlation(stats.pearsonr(X, Y)),
                "pearsonInterval": pearson_interval(),
                "spearman": correlation(stats.spearmanr(X, Y)),
                "kendall": correlation(stats.kendalltau(X, Y, variant="b")),
                "ranks": [float(rank) for rank in stats.rankdata(X)],
            },
            "signFlip": [{"differences": d, "p": sign_flip(d)} for d in (DIFFERENCES, HALVES)],
            "bca": {"values": SCORES, "interval": bca(SCORES)},
            "wilson": [{"successes": s, "trials": n, "interval": wilson(s, n)} for s, n in ((29, 50), (50, 50), (0, 7))],
        },
        indent=2,
    )
)
