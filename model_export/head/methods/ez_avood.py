"""EZ-AVOOD (Liu et al., arXiv 2503.22197, 2025): a classifier for clips of seen classes, else CLIP-CLAP.

    visual, audio ─┬> hidden features ─┬> logits of the seen classes ─> energy ──────────┐
                   │                   └> part outside their principal subspace: length ─┴─> log odds: unseen?
                   └> CLIP-CLAP ─> distances to the unseen classes

A clip is first judged: is its class one of the seen ones? Two scores of the classifier tell, without another
network: the energy of its logits (Liu et al., NeurIPS 2020), which is higher for unseen classes, and the
length of what is left of its hidden features outside the principal subspace of the training clips (as in
ViM, Wang et al., CVPR 2022). Clips judged seen get the classifier's class, the others the nearest unseen
class by CLIP-CLAP.

The authors published no code, and of the paper only the abstract could be read, so no equations are cited.
Our choices are: a classifier of three linear layers, as wide as CLIP-CLAP; a subspace of half as many
dimensions; a logistic regression that weighs both scores, fitted on validation clips; and the schedule of
CLIP-CLAP. `follow` concerns the text branch of CLIP-CLAP only. Text features are those of CLIP and CLAP
side by side.

The judgement becomes part of the distances: the nearest seen class is further away than the nearest unseen
class by the log odds, or nearer where they are negative. So calibrated stacking is the threshold: beta, which
validation chooses and the second stage takes over, is added to the log odds.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from model_export.data.gzsl_data import Reals
from model_export.head.head_config import HeadConfig
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.network import Block, HeadNetwork, unit_columns
from model_export.head.stage_tensors import Clips, StageTensors
from model_export.head.standardisation import Statistics
from model_export.head.training_batches import Batch

SUBSPACE_SHARE: Final = 0.5  # of the dimensions of the hidden features
NO_VARIANCE: Final = 1e-9  # share of the greatest variance that is taken for rounding
LOG_ODDS_OFFSET: Final = 2.5
"""Middle of the betas 0..5 that are tried, so that beta can move the threshold both ways from even odds."""
RIDGE: Final = 1e-3  # keeps weights finite where the scores tell all validation clips apart


class EzAvood(ClipClap):
    """CLIP-CLAP's networks and a classifier; 3,304,862 parameters at 512-d, 1024-d and 30 seen classes.

    Args:
        config: The sizes, the dropout, which text branch of CLIP-CLAP.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.

    Attributes:
        subspace_mean: float32 [h], of the training clips' hidden features.
        outside: float32 [h, h], projects onto what is orthogonal to their principal subspace.
        log_odds: float32 [3], weights of both scores and a constant; chosen on validation.
    """

    not_served: ClassVar[str] = (
        "ez_avood needs a classifier of its training classes; a bundle ranks names by distances alone"
    )
    subspace_mean: Tensor
    outside: Tensor
    log_odds: Tensor

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        h, p = config.hidden_dim, config.dropout
        self.classifier_hidden = nn.Sequential(Block(n_visual + n_audio, h, p), Block(h, h, p))
        self.register_buffer("subspace_mean", torch.zeros(h))
        self.register_buffer("outside", torch.zeros(h, h))
        self.register_buffer("log_odds", torch.zeros(3))

    def add_classifier(self, n_seen: int) -> None:
        """The classifier's last layer."""
        self.classifier_logits = nn.Linear(self.config.hidden_dim, n_seen)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of CLIP-CLAP and, with no weight shared, the cross entropy of the classifier."""
        logits = self.classifier_logits(self._hidden(batch.visual, batch.audio))
        return super().loss_terms(batch) | {"classifier": F.cross_entropy(logits, batch.target)}

    @torch.no_grad()
    def fit(self, stage: StageTensors, statistics: Statistics, first: HeadNetwork | None) -> None:
        """Fit the subspace to the training clips, and the weights of the scores to the validation clips."""

        def hidden(clips: Clips) -> Tensor:
            return self._hidden(*statistics.fill(clips.visual, clips.audio))

        train = hidden(stage.train)
        self.subspace_mean.copy_(train.mean(dim=0))
        self.outside.copy_(outside_of_subspace(train))
        if first is not None:
            self.log_odds.copy_(first.get_buffer("log_odds"))
            return
        scores = (self._scores(hidden(clips)).cpu() for clips in (stage.eval_seen, stage.eval_unseen))
        self.log_odds.copy_(torch.from_numpy(fit_log_odds(*(one.double().numpy() for one in scores))))

    def final_distances(
        self, distances: Tensor, visual: Tensor, audio: Tensor, seen: Tensor, unseen: Tensor
    ) -> Tensor:
        """The classifier's distances to the seen classes, before or behind CLIP-CLAP's nearest unseen one."""
        hidden = self._hidden(visual, audio)
        logits = self.classifier_logits(hidden)  # [n, n_seen], in the order of `seen`
        log_odds = self._scores(hidden) @ self.log_odds[:2] + self.log_odds[2]  # [n]
        nearest_seen = distances[:, unseen].amin(dim=1) + log_odds - LOG_ODDS_OFFSET
        final = distances.clone()
        final[:, seen] = nearest_seen[:, None] + logits.amax(dim=1, keepdim=True) - logits
        return final

    def _hidden(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Hidden features [n, h] of the classifier for clips [n, n_visual], [n, n_audio]."""
        hidden: Tensor = self.classifier_hidden(unit_columns((visual, audio)))
        return hidden

    def _scores(self, hidden: Tensor) -> Tensor:
        """Energy of the logits and distance from the subspace, [n, 2], of hidden features [n, h]."""
        energy = -torch.logsumexp(self.classifier_logits(hidden), dim=1)
        residual = ((hidden - self.subspace_mean) @ self.outside).norm(dim=1)
        return torch.stack([energy, residual], dim=1)


def outside_of_subspace(features: Tensor) -> Tensor:
    """Projector [h, h] onto the complement of the principal subspace of features [n, h].

    The subspace has h / 2 dimensions, or fewer where the features have no variance in so many.
    """
    centred = (features - features.mean(dim=0)).double()
    variance, directions = torch.linalg.eigh((centred.T @ centred).cpu())  # columns, the least first
    varies = variance > NO_VARIANCE * variance[-1]
    varies[: len(variance) - int(SUBSPACE_SHARE * len(variance))] = False
    rest = directions[:, ~varies]
    outside: Tensor = rest @ rest.T
    return outside.float()


def fit_log_odds(seen: Reals, unseen: Reals) -> Reals:
    """Logistic regression of clips of unseen classes against clips of seen ones, each half of the weight.

    A score may only speak for an unseen class, the larger it is: no weight is negative.

    Args:
        seen: [n, 2], scores of clips of seen classes.
        unseen: [m, 2], of clips of unseen classes.

    Returns:
        float64 [3], the weights of both scores and the constant.
    """
    scores = np.concatenate([seen, unseen])
    sign = np.repeat([-1.0, 1.0], [len(seen), len(unseen)])
    weight = np.repeat([0.5 / len(seen), 0.5 / len(unseen)], [len(seen), len(unseen)])
    mean, std = scores.mean(axis=0), scores.std(axis=0) + 1e-12
    standard = (scores - mean) / std

    def loss(parameters: Reals) -> float:
        odds = standard @ parameters[:2] + parameters[2]
        penalty = RIDGE * float(parameters[:2] @ parameters[:2])
        return float(weight @ np.logaddexp(0.0, -sign * odds)) + penalty

    found = minimize(loss, x0=np.zeros(3), bounds=[(0, None), (0, None), (None, None)], method="L-BFGS-B").x
    slopes = found[:2] / std
    return np.array([*slopes, found[2] - slopes @ mean])
