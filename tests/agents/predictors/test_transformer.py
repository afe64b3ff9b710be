from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.predictors.transformer import Block, TransformerPredictor, positions


def test_block__is_that_of_torch():
    block, theirs = Block(8, 2), nn.TransformerEncoderLayer(8, 2, 32, 0.0, nn.GELU(), batch_first=True, norm_first=True)
    state = theirs.state_dict()
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "network.0.",
        "linear2.": "network.2.",
    }
    names |= {"norm1.": "attention_norm.", "norm2.": "norm."}
    block.load_state_dict({new + kind: state[old + kind] for old, new in names.items() for kind in ("weight", "bias")})
    x, mask = torch.randn(3, 5, 8), nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(x), theirs(x, mask, is_causal=True), atol=1e-5, rtol=1e-5)


def test_positions__are_those_of_the_paper():
    found = positions(7, 6)
    assert found.shape == (7, 6)
    assert found[3].tolist() == pytest.approx(
        [torch.tensor(3 / 10000 ** (2 * i / 6)).sin().item() for i in range(3)]
        + [torch.tensor(3 / 10000 ** (2 * i / 6)).cos().item() for i in range(3)]
    )


def test_transformer_predictor__tells_the_order_of_actions():
    predictor, context, actions = TransformerPredictor(6, 2), torch.randn(3, 1, 6), torch.randn(3, 2, 2)
    swapped = predictor(context, actions.flip(1))[:, -1]
    assert not torch.allclose(swapped, predictor(context, actions)[:, -1], atol=1e-3)


@pytest.mark.parametrize("settings", [{"depth": 0}, {"heads": 0}, {"width": 0}, {"heads": -4}], ids=str)
def test_transformer_predictor__refuses_what_is_not_positive(settings):
    with pytest.raises(ValueError, match="depth, heads and width must be positive"):
        TransformerPredictor(6, 2, **settings)


@pytest.mark.parametrize(("width", "heads"), [(10, 4), (9, 3)])
def test_transformer_predictor__refuses_a_width_that_cannot_be_split(width, heads):
    with pytest.raises(ValueError, match=f"even and divisible by heads, got width={width} and heads={heads}"):
        TransformerPredictor(6, 2, heads=heads, width=width)
