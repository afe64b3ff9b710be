"""LARS: layer-wise adaptive rates (You, Gitman & Ginsburg, 2017), as self-supervised learning uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """v ← m·v + λ_w·(g + wd·w), w ← w − lr·v, with λ_w = η‖w‖ / ‖g + wd·w‖.

    Biases and norms (parameters of one dimension) take neither weight decay nor the adaptive rate λ_w.

    Args:
        params: parameters to optimise.
        lr: learning rate; the 2022 paper scales base_lr by batch size / 256.
        momentum: m.
        eta: η, the trust coefficient.
        weight_decay: wd.

    Raises:
        ValueError: a negative setting.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        eta: float = 1e-3,
        weight_decay: float = 1e-6,
    ) -> None:
        for name, value in {"lr": lr, "momentum": momentum, "eta": eta, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "eta": eta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim > 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    weight_norm, update_norm = parameter.norm(), update.norm()
                    rate = group["eta"] * weight_norm / update_norm
                    update = update * torch.where((weight_norm > 0) & (update_norm > 0), rate, 1.0)
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(update)
                parameter.add_(velocity, alpha=-group["lr"])
        return loss
