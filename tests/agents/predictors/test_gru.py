from __future__ import annotations

import torch
from torch import nn

from agents.predictors.gru import GRUPredictor


def test_gru_predictor__is_a_gru_cell_from_the_last_latent_on():
    predictor, cell = GRUPredictor(latent_dim=6, action_dim=2).double(), nn.GRUCell(2, 6).double()
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in predictor.gru.state_dict().items()})
    context, actions = torch.randn(3, 4, 6, dtype=torch.double), torch.randn(3, 5, 2, dtype=torch.double)
    hidden, expected = context[:, -1], []
    for t in range(5):
        hidden = cell(actions[:, t], hidden)
        expected.append(hidden)
    torch.testing.assert_close(predictor(context, actions), torch.stack(expected, dim=1))
