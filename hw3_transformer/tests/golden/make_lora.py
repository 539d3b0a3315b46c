"""Golden values of task 3.8 from peft: `python make_lora.py`, with transformers and peft installed.

A tiny Llama of transformers gets peft adapters with random A and B. Writes lora.npz: the weights
under the names of `Llama.state_dict()`, ids, and for each of the CASES every A and B as
"case/blocks.0.attention.query.lora_a", and the logits as "case/logits".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))

from tiny_model import Sizes, random_weights  # noqa: E402

SIZES = Sizes(
    vocab_size=29, hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=40
)
THEIRS = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
    "output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip
CASES = {
    "attention": {"rank": 3, "alpha": 7.0, "targets": ["query", "value"]},
    "everything": {"rank": 2, "alpha": 1.0, "targets": list(THEIRS)},
}


def their_name(name: str) -> str:
    """Our parameter's name in transformers."""
    outer = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    if name in outer:
        return outer[name]
    _, layer, *rest = name.split(".")
    norms = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    inner = norms.get(rest[0]) or THEIRS[rest[1]]
    return f"model.layers.{layer}.{inner}.weight"


def plain_model(weights: dict[str, np.ndarray]) -> LlamaForCausalLM:
    """transformers' Llama with these weights."""
    config = LlamaConfig(
        vocab_size=SIZES.vocab_size, hidden_size=SIZES.hidden_size,
        num_hidden_layers=SIZES.num_layers, num_attention_heads=SIZES.num_heads,
        num_key_value_heads=SIZES.num_kv_heads, intermediate_size=SIZES.intermediate_size,
        rms_norm_eps=SIZES.norm_eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": SIZES.rope_theta},
        attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    state = {their_name(name): torch.tensor(array) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    return model.eval()


def adapted(
    weights: dict[str, np.ndarray], ids: torch.Tensor, rng: np.random.Generator, rank: int,
    alpha: float, targets: list[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """A, B and logits of one case."""
    names = [THEIRS[target].split(".")[1] for target in targets]
    model = get_peft_model(
        plain_model(weights),
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, task_type="CAUSAL_LM"),
    ).eval()
    found: dict[str, np.ndarray] = {}
    ours = {theirs: name for name, theirs in THEIRS.items()}
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            continue
        layer, part, linear, matrix = name.split(".layers.")[1].split(".")[:4]
        array = rng.normal(0, 0.4, tuple(parameter.shape)).astype(np.float32)
        parameter.data = torch.tensor(array)
        own = ours[f"{part}.{linear}"]
        room = "attention" if part == "self_attn" else "ffn"
        found[f"blocks.{layer}.{room}.{own}.{matrix.lower()}"] = array
    with torch.no_grad():
        found["logits"] = model(ids).logits.numpy()
    return found


def main() -> None:
    """Write lora.npz beside this script."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(380)
    weights = random_weights(rng, SIZES)
    ids = rng.integers(0, SIZES.vocab_size, (2, 9))
    arrays = {**weights, "ids": ids, "sizes": np.array(json.dumps(SIZES.fields())),
              "cases": np.array(json.dumps(CASES))}  # fmt: skip
    for name, case in CASES.items():
        found = adapted(weights, torch.tensor(ids), rng, **case)
        assert len(found) == 4 * len(case["targets"]) + 1
        arrays |= {f"{name}/{key}": array for key, array in found.items()}
    np.savez_compressed(FOLDER / "lora.npz", **arrays)


if __name__ == "__main__":
    main()
