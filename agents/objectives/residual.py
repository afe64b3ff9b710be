"""Another objective, of what changes within a sequence."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Terms, Views


class Residual(nn.Module):
    """The terms of another objective with the prefix ``residual_``, for z − z̄ and ẑ − z̄, where z̄ = mean_t z.

    What stays the same within a sequence is zero in residuals: it satisfies none of their statistics, and latents may
    drop it. Predictions lose the mean of the *latents*: if they lost their own, they would be forgiven any constant
    error. As ẑ − z̄ and z − z̄ differ by ẑ − z, an invariance is the same with residuals as without.

    Gradients flow through the mean. `Views.decode` knows nothing of residuals: there is none.

    Args:
        objective: from `Views` to terms.
    """

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, views: Views) -> Terms:
        mean = views.latents.mean(dim=1, keepdim=True)  # [B, 1, D]
        terms = self.objective(views.changed(lambda latents: latents - mean))
        return {f"residual_{name}": term for name, term in terms.items()}
