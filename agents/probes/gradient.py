"""Probes trained by gradient descent: the paper's linear one, and an MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.probes.core import Probe, Samples, moments


class GradientProbe(Probe):
    """A network fitted with Adam on the squared error of standardised targets.

    Args:
        hidden_dims: widths of hidden layers; none gives the paper's linear probe.
        bias: whether layers have biases; the paper's has none.
        standardise: whether features are standardised first; the paper's are not.
        lr, epochs, batch_size: of Adam; the paper's 1e-3 and 30 epochs.
        seed: of the initial weights and the order of samples.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int] = (),
        bias: bool = True,
        standardise: bool = True,
        lr: float = 1e-3,
        epochs: int = 30,
        batch_size: int = 512,
        seed: int = 0,
    ) -> None:
        self.hidden_dims, self.bias, self.standardise = tuple(hidden_dims), bias, standardise
        self.lr, self.epochs, self.batch_size, self.seed = lr, epochs, batch_size, seed

    @torch.inference_mode(False)  # also where all else is for inference alone
    def fit(self, train: Samples, validation: Samples) -> None:
        device = train.features.device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)  # of the CPU alone, where the weights are drawn
            network = self._network(train.features.shape[-1], train.targets.shape[-1]).to(device)
        self.feature_mean, self.feature_std = moments(train.features)
        if not self.standardise:
            self.feature_mean, self.feature_std = torch.zeros_like(self.feature_mean), torch.ones_like(self.feature_std)
        self.target_mean, self.target_std = moments(train.targets)
        x = (train.features - self.feature_mean) / self.feature_std
        y = (train.targets - self.target_mean) / self.target_std
        order = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        with torch.enable_grad():
            for _ in range(self.epochs):
                for chosen in torch.randperm(len(x), generator=order).to(device).split(self.batch_size):
                    optimizer.zero_grad()
                    (network(x[chosen]) - y[chosen]).square().sum(dim=-1).mean().backward()
                    optimizer.step()
        self.network = network.eval().requires_grad_(False)

    def predict(self, features: Tensor) -> Tensor:
        return self.network((features - self.feature_mean) / self.feature_std) * self.target_std + self.target_mean

    def _network(self, inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for hidden in self.hidden_dims:
            layers += [nn.Linear(inputs, hidden, bias=self.bias), nn.ReLU()]
            inputs = hidden
        return nn.Sequential(*layers, nn.Linear(inputs, outputs, bias=self.bias))
