"""World models that imagine in 8 bits: with a GRU twice as fast on a CPU without a matrix unit, as exact as bfloat16.

A weight keeps its sign and 7 bits, scaled for each output; an activation the same, scaled for each row, so that a row's
result depends on no other. Products are summed as integers (`torch._int_mm`, VNNI). Only wide layers are replaced, and
the model that uses them stays what it is.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from agents.world_models.core import WorldModel

WIDE = 64  # layers that read or write fewer numbers stay as they are: there is nothing to gain


def has_int8() -> bool:
    """Whether this CPU multiplies 8-bit integers fast: PyTorch does it one by one on those without AVX-512 VNNI."""
    return torch.cpu._is_vnni_supported()


def int8(model: WorldModel) -> WorldModel:
    """A copy of a model whose wide `nn.Linear`, `nn.GRUCell` and `nn.GRU` layers compute in 8 bits.

    It is for imagining: it has no gradients, and encodes and draws worse than the model.

    Raises:
        ValueError: a model that is not on a CPU.
    """
    elsewhere = {x.device.type for x in model.parameters()} - {"cpu"}
    if elsewhere:
        raise ValueError(
            f"8 bits are for models on a CPU, this one is on {sorted(elsewhere)}: choose precision=bf16 or fp32, or "
            f"device=cpu"
        )
    quick = copy.deepcopy(model)
    for module in list(quick.modules()):
        for name, child in module.named_children():
            if (replacement := _replacement(child)) is not None:
                setattr(module, name, replacement)
    return quick.eval()


class Int8Linear(nn.Module):
    """y = x·Wᵀ + b as `nn.Linear` has it: [..., in] -> [..., out], float32.

    x̂ = round(x/s_x), Ŵ = round(W/s_W) with s_x = max|x|/127 for each row, s_W = max|W|/127 for each output;
    y = s_x·s_W·(x̂·Ŵᵀ) + b.

    Raises:
        ValueError: in `forward`, if gradients are asked for.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = _scale(weight.detach().float())  # [out, 1]
        self.register_buffer("weight", (weight.detach().float() / scale).round().to(torch.int8).t())  # [in, out]
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if bias is None else bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        _refuse_gradients(x)
        rows = x.float().flatten(0, -2)  # [R, in]
        scale = _scale(rows)
        product = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight)  # int32 [R, out]
        y = product.mul(scale).mul_(self.scale)
        return (y if self.bias is None else y.add_(self.bias)).unflatten(0, x.shape[:-1])


class Int8GRUCell(nn.Module):
    """`nn.GRUCell`, its product with the state in 8 bits: [R, in], [R, D] -> [R, D].

    r, z = σ(W·x + U·h + b), n = tanh(W_n·x + b_n + r⊙(U_n·h + c_n)), h′ = n + z⊙(h − n).
    """

    inputs: Tensor
    new_bias: Tensor

    def __init__(self, cell: nn.GRUCell) -> None:
        super().__init__()
        size = cell.hidden_size
        zero = torch.zeros(3 * size)
        of_input, of_state = (zero if b is None else b.detach().float() for b in (cell.bias_ih, cell.bias_hh))
        gates = of_input + torch.cat([of_state[: 2 * size], zero[:size]])
        self.hidden_size, self.state = size, Int8Linear(cell.weight_hh, None)
        self.register_buffer("inputs", torch.cat([cell.weight_ih.detach().float(), gates[:, None]], dim=1).t())
        self.register_buffer("new_bias", of_state[2 * size :])

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        _refuse_gradients(x, hidden)
        x, hidden, two = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).float(), hidden.float(), 2 * self.hidden_size
        product = self.state(hidden)  # [R, 3D]; x enters where the gates are, without a pass of its own
        reset, update = product[:, :two].addmm_(x, self.inputs[:, :two]).sigmoid_().chunk(2, dim=1)
        new = product[:, two:].add_(self.new_bias).mul_(reset).addmm_(x, self.inputs[:, two:]).tanh_()
        return torch.lerp(new, hidden, update)


class Int8GRU(nn.Module):
    """A one-layer `nn.GRU` made of an `Int8GRUCell`: [B, T, in], [1, B, D] -> [B, T, D], [1, B, D]."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        cell = nn.GRUCell(gru.input_size, gru.hidden_size, gru.bias)
        cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in gru.state_dict().items()})
        self.cell, self.time = Int8GRUCell(cell), 1 if gru.batch_first else 0

    def forward(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        hidden, states = start[0], []
        for step in x.unbind(dim=self.time):
            hidden = self.cell(step, hidden)
            states.append(hidden)
        return torch.stack(states, dim=self.time), hidden[None]


def _replacement(module: nn.Module) -> nn.Module | None:
    """The module in 8 bits; None if it stays as it is."""
    if type(module) is nn.Linear and min(module.in_features, module.out_features) >= WIDE:
        return Int8Linear(module.weight, module.bias)
    if type(module) is nn.GRUCell and module.hidden_size >= WIDE:
        return Int8GRUCell(module)
    if type(module) is nn.GRU and module.hidden_size >= WIDE and module.num_layers == 1 and not module.bidirectional:
        return Int8GRU(module)
    return None


def _refuse_gradients(*inputs: Tensor) -> None:
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        raise ValueError("a model in 8 bits has no gradients: give a planner that needs them the model itself")


def _scale(rows: Tensor) -> Tensor:
    """What ±127 stands for in each row: [R, D] -> [R, 1]."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / 127
