"""Turn distances into probabilities, and into the probability that no label fits."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

from model_export.data.features import Indices
from model_export.head.metrics import Distances, Ranked, Reals


def log_probabilities(distances: Distances, temperature: float) -> Reals:
    """Log of softmax(-distance / temperature) over the columns of distances [n, c], calibration included."""
    result: Reals = log_softmax(-distances.astype(np.float64) / temperature, axis=1)
    return result


def fit_temperature(distances: Distances, target: Indices) -> float:
    """The temperature with the least mean negative log likelihood (Guo et al., ICML 2017).

    Args:
        distances: [n, c] of validation clips to the candidate classes, with beta on the seen ones.
        target: int64 [n], column of the right class.
    """

    def nll(log_temperature: float) -> float:
        log_p = log_probabilities(distances, float(np.exp(log_temperature)))
        return -float(log_p[np.arange(len(target)), target].mean())

    spread = float(distances.std()) + 1e-12
    bounds = (np.log(spread * 1e-3), np.log(spread * 1e2))
    return float(np.exp(minimize_scalar(nll, bounds=bounds, method="bounded").x))


@dataclass(frozen=True)
class UnknownScore:
    """Probability that none of the labels fits: sigmoid((nearest distance - threshold) / scale).

    Attributes:
        threshold: distance to the nearest label at which both are equally likely; without beta.
        scale: how fast the score changes with that distance, above 0.
    """

    threshold: float
    scale: float

    def of(self, nearest_distance: Reals) -> Reals:
        """Score 0..1 of each clip's distance [n] to its nearest label."""
        score: Reals = expit((nearest_distance - self.threshold) / self.scale)
        return score


def with_and_without_own(clips: Ranked, candidates: Indices) -> tuple[Reals, Reals]:
    """Each clip's distance to its nearest candidate, own class included and own class left out."""
    among = clips.distances[:, candidates].astype(np.float64)
    own = candidates[None, :] == clips.class_index[:, None]
    return among.min(axis=1), np.where(own, np.inf, among).min(axis=1)


def fit_unknown(known: Reals, unknown: Reals) -> UnknownScore:
    """Logistic regression on the distance to the nearest label.

    Args:
        known: [n], distances of clips whose class is among the labels.
        unknown: [m], distances of clips whose class is not.
    """
    distance = np.concatenate([known, unknown])
    sign = np.concatenate([np.full(len(known), -1.0), np.full(len(unknown), 1.0)])
    weight = np.concatenate(
        [np.full(len(known), 0.5 / len(known)), np.full(len(unknown), 0.5 / len(unknown))]
    )
    centre, spread = float(distance.mean()), float(distance.std()) + 1e-12
    x = (distance - centre) / spread

    def loss(parameters: Reals) -> float:
        slope, offset = np.exp(parameters[0]), parameters[1]
        return float(np.sum(weight * np.logaddexp(0.0, -sign * slope * (x - offset))))

    log_slope, offset = minimize(loss, x0=np.zeros(2), bounds=[(-7, 7), (-10, 10)], method="L-BFGS-B").x
    return UnknownScore(threshold=centre + spread * float(offset), scale=spread / float(np.exp(log_slope)))
