"""Golden values of task 3.3 from transformers' Llama: `python make_layers.py`, transformers needed.

Writes layers.npz, float32 arrays under "case/name":
    norm: x, weight, eps, value; grad_x and grad_weight for `upstream`;
    norm16: the same with x and weight in bfloat16 (stored as float32), without gradients;
    rope: positions, theta, cos, sin; query and key (batch, heads, time, head_dim) and both turned;
    mlp: x, gate, up, down (weights as of torch.nn.Linear), value; grad_x and grad_gate for `upstream`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

FOLDER = Path(__file__).resolve().parent
BATCH, TIME, WIDTH, HEADS, KV_HEADS, INNER = 2, 5, 24, 3, 1, 40
THETA, EPS = 100_000.0, 1e-5


def main() -> None:
    """Write layers.npz beside this script."""
    torch.set_num_threads(1)
    torch.manual_seed(330)
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, hidden_act="silu", rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
    )  # fmt: skip
    found: dict[str, torch.Tensor] = {}
    x = (3 * torch.randn(BATCH, TIME, WIDTH)).requires_grad_()
    upstream = torch.randn(BATCH, TIME, WIDTH)

    norm = LlamaRMSNorm(WIDTH, EPS)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(WIDTH) + 0.5)
    value = norm(x)
    value.backward(upstream)
    found |= {"norm/x": x, "norm/weight": norm.weight, "norm/eps": torch.tensor(EPS),
              "norm/value": value, "norm/upstream": upstream, "norm/grad_x": x.grad,
              "norm/grad_weight": norm.weight.grad}  # fmt: skip
    norm = copy.deepcopy(norm).to(torch.bfloat16)
    x16 = x.detach().to(torch.bfloat16)
    found |= {"norm16/x": x16, "norm16/weight": norm.weight, "norm16/eps": torch.tensor(EPS),
              "norm16/value": norm(x16)}  # fmt: skip

    positions = torch.tensor([[0, 1, 2, 3, 4], [700, 701, 702, 0, 1]])
    query = torch.randn(BATCH, HEADS, TIME, WIDTH // HEADS)
    key = torch.randn(BATCH, KV_HEADS, TIME, WIDTH // HEADS)
    cos, sin = LlamaRotaryEmbedding(config)(query, positions)
    turned = apply_rotary_pos_emb(query, key, cos, sin)
    found |= {"rope/positions": positions, "rope/theta": torch.tensor(THETA), "rope/cos": cos,
              "rope/sin": sin, "rope/query": query, "rope/key": key,
              "rope/turned_query": turned[0], "rope/turned_key": turned[1]}  # fmt: skip

    mlp = LlamaMLP(config)
    for parameter in mlp.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    x.grad = None
    value = mlp(x)
    value.backward(upstream)
    found |= {"mlp/x": x, "mlp/gate": mlp.gate_proj.weight, "mlp/up": mlp.up_proj.weight,
              "mlp/down": mlp.down_proj.weight, "mlp/value": value, "mlp/upstream": upstream,
              "mlp/grad_x": x.grad, "mlp/grad_gate": mlp.gate_proj.weight.grad}  # fmt: skip
    arrays = {}
    for name, tensor in found.items():
        tensor = tensor.detach()
        arrays[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    np.savez_compressed(FOLDER / "layers.npz", **arrays)


if __name__ == "__main__":
    main()
