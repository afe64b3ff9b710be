"""Another objective, of some of the latent's dimensions."""

from __future__ import annotations

from torch import nn

from agents.objectives.core import Terms, Views


class Part(nn.Module):
    """The terms of another objective with the prefix ``<name>_``, for the dimensions ⌊first·D⌉ … ⌊last·D⌉ − 1.

    Several parts give the dimensions of one latent several tasks. An objective inside that is built for a size D has to
    be given that of the part, in configurations ``latent_dim: ${share:${model.latent_dim},0.5,1}``.

    `Views.decode` needs the whole latent: inside a part there is none.

    Args:
        objective: from `Views` to terms.
        first, last: where the part begins and ends, as shares of the dimensions, 0 ≤ first < last ≤ 1.
        name: what its terms are named after.

    Raises:
        ValueError: shares that are no range, or no name; later, a latent so small that the part has no dimension.
    """

    def __init__(self, objective: nn.Module, first: float, last: float, name: str) -> None:
        super().__init__()
        if not 0 <= first < last <= 1:
            raise ValueError(f"first and last must be shares, 0 ≤ first < last ≤ 1, got {first!r} and {last!r}")
        if not name.isidentifier():
            raise ValueError(f"name must be a word, such as 'slow', got {name!r}")
        self.objective, self.first, self.last, self.name = objective, first, last, name

    def forward(self, views: Views) -> Terms:
        dim = views.latents.shape[-1]
        first, last = round(self.first * dim), round(self.last * dim)
        if first == last:
            raise ValueError(
                f"part {self.name!r} is empty: dimensions {self.first}·D to {self.last}·D of D = {dim}; "
                f"model.latent_dim must be larger"
            )
        terms = self.objective(views.changed(lambda latents: latents[..., first:last]))
        return {f"{self.name}_{name}": term for name, term in terms.items()}
