"""Two arms, compared by their answers to the same tested samples."""

# S tested samples, K classes, R draws

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sar1m.store.errors import ConfigError
from sarmae.evaluate.scores import Answers
from sarmae.evaluate.uncertainty import F64, SampledDifference, bootstrap_difference


def paired_by_sample(
    a: Mapping[int, Answers], b: Mapping[int, Answers], protocol: str, *, draws: int, seed: int
) -> SampledDifference | None:
    """Interval over the tested samples of the difference in balanced accuracy, a - b, by the paired bootstrap.

    a, b: answers by seed. The difference is the mean over the seeds that both have, as sarmae.evaluate.uncertainty.
    paired_difference takes it; every draw takes the same samples for both arms and all seeds. A class without a sample
    in a draw does not count in it. Groups of near-copies are drawn whole. The trained models stay as they are: what
    another training would change is not in this interval.
    draws, seed: of the bootstrap.
    Returns None without a common seed that has answers of the protocol, and where bootstrap_difference does. Raises
    ConfigError where the samples of the arms are not the same.
    """
    common = [
        key for key in sorted(a.keys() & b.keys()) if protocol in a[key].predicted and protocol in b[key].predicted
    ]
    if not common:
        return None
    truth, groups = a[common[0]].truth, a[common[0]].groups
    gains = np.zeros(len(truth))
    for key in common:
        for answers, sign in ((a[key], 1), (b[key], -1)):
            _check_same(a[common[0]], answers)
            gains += sign * (answers.predicted[protocol] == truth)
    classes = np.eye(int(truth.max(initial=-1)) + 1)[truth]
    contributions = np.concatenate([classes * (gains / len(common))[:, None], classes], axis=1)
    return bootstrap_difference(contributions, _mean_over_classes, groups, draws=draws, seed=seed)


def _mean_over_classes(sums: F64) -> F64:
    """(R,) means over the classes that were drawn of their mean gain. sums: (R, 2 K), gains and numbers of samples."""
    gains, counts = np.split(sums, 2, axis=1)
    drawn = counts > 0
    means: F64 = np.where(drawn, gains / np.where(drawn, counts, 1), 0).sum(axis=1) / drawn.sum(axis=1)
    return means


def _check_same(one: Answers, other: Answers) -> None:
    if not (np.array_equal(one.truth, other.truth) and np.array_equal(one.groups, other.groups)):
        raise ConfigError(
            f"{len(one.truth)} samples were tested, and other {len(other.truth)} in another cell of the task; the same "
            "samples in the same order expected. The images changed between two runs of the study: give it another "
            "folder, so that all arms are tested anew."
        )
