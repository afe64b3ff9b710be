"""Statistics over what might have been: VICReg's variance and covariance, across actions instead of across scenes.

Variance and covariance over a batch, or over time, are satisfied by whatever differs from scene to scene, or changes by
itself. From the same start and under other actions, only what the agent controls comes out different.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.objectives.core import Terms, Views
from agents.objectives.vicreg import covariance_loss


def counterfactual_statistics(outcomes: Tensor, gamma: float = 1.0, epsilon: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Variance and covariance losses of predictions under N ways to act: [N, B, T, D] -> [], [].

    With r_n = ẑ_n − mean_n ẑ_n, the deviations of all starts and steps are one sample, of which Var and Cov are the
    moments (divided by B·T·(N − 1)): mean_j relu(γ − √(Var r_j + ε)) and Σ_{i≠j} Cov(r_i, r_j)² / D.
    """
    deviations = outcomes - outcomes.mean(dim=0)
    unbiased = (len(outcomes) / (len(outcomes) - 1)) ** 0.5 * deviations
    sample = unbiased.flatten(0, 2)  # [N·B·T, D], with mean 0
    variance = torch.relu(gamma - (sample.square().mean(dim=0) + epsilon).sqrt()).mean()
    return variance, covariance_loss(sample)


class Counterfactual(nn.Module):
    """Terms ``counterfactual_variance`` and ``counterfactual_covariance`` of predictions from the same first latents
    under the actions that were taken and those of other sequences; see `counterfactual_statistics`.

    Latents that copy what stays the same, drifts or changes by itself pay the whole hinge: no action makes a difference
    to them. To predictions it does, and an invariance beside this makes latents follow them. It has to weigh more: with
    weights v here and i there, predictions that move while latents stay cost least at a deviation of v/(2i). What no
    action moves may be dropped. It costs ``others`` further rollouts of the predictor.

    Args:
        others: number of other sequences whose actions are tried.
        gamma: standard deviation that every dimension should reach.
        epsilon: added to variances before the root.

    Raises:
        ValueError: others that are not positive; later, a model that cannot imagine, or too small a batch.
    """

    def __init__(self, others: int = 1, gamma: float = 1.0, epsilon: float = 1e-4) -> None:
        super().__init__()
        if others < 1:
            raise ValueError(f"others must be at least 1, got {others!r}")
        self.others, self.gamma, self.epsilon = others, gamma, epsilon

    def forward(self, views: Views) -> Terms:
        outcomes = torch.cat([views.predictions[None, :, 1:], views.counterfactuals(self.others)])
        variance, covariance = counterfactual_statistics(outcomes, self.gamma, self.epsilon)
        return {"counterfactual_variance": variance, "counterfactual_covariance": covariance}
