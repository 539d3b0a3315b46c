"""Golden values of SmolLM2-135M: `python make_smollm2.py FILE.gguf`, with transformers and gguf.

Writes smollm2.npz:
    ids: a prompt in the model's chat format, int64;
    following: the 100 tokens that transformers' greedy `generate` answers, none of them a stop;
    columns: 64 token ids, spread over the vocabulary; logits: (all positions, 64), float32, theirs,
        of the prompt and the answer in one forward pass;
    highest, logsumexp: (all positions,), the argmax and the logsumexp of each row of all logits;
    margin: the least distance, over the 100 steps, of the best logit from the second.
Of the QUESTIONS the first is taken that has no near tie on its way, so that rounding can't turn it.

And hidden/smollm2_random.npz, the same columns for RANDOM_ROWS rows of random ids: (rows, positions,
64). A submission that answers from the released file has nothing to say to them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).resolve().parent
QUESTIONS = (
    "Why is the sky blue?",
    "Write a short story about a lighthouse keeper and a whale.",
    "Explain how bread is made, step by step.",
    "What should I see on a first visit to Rome?",
    "Describe the life of a honey bee.",
)
NEW_TOKENS, COLUMNS = 100, 64
RANDOM_ROWS, RANDOM_TIME = 4, 20
HIDDEN = FOLDER.parents[1] / "hidden"


def main(path: Path) -> None:
    """Write smollm2.npz beside this script."""
    torch.set_num_threads(1)
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    # Digits are split wrongly by this conversion of the tokenizer: the questions have none.
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    for question in QUESTIONS:
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            answer = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
            rows = model(answer.sequences).logits[0]
        best = torch.cat(answer.logits).topk(2).values
        margin = float((best[:, 0] - best[:, 1]).min())
        following = answer.sequences[0, ids.shape[1] :]
        print(question, ids.shape[1], len(following), f"margin {margin:.4f}")
        print(tokenizer.decode(following))
        if len(following) == NEW_TOKENS and margin > 0.01:
            break
    else:
        raise SystemExit("every question has a near tie or a short answer: add others")
    columns = np.linspace(0, rows.shape[1] - 1, COLUMNS).astype(np.int64)
    np.savez_compressed(
        FOLDER / "smollm2.npz", ids=ids[0].numpy(), following=following.numpy(), columns=columns,
        logits=rows[:, columns].numpy(), highest=rows.argmax(1).numpy(),
        logsumexp=rows.logsumexp(1).numpy(), margin=np.float32(margin),
    )  # fmt: skip
    if HIDDEN.is_dir():
        drawn = np.random.default_rng().integers(0, rows.shape[1], (RANDOM_ROWS, RANDOM_TIME))
        with torch.no_grad():
            logits = model(torch.tensor(drawn)).logits[..., columns]
        np.savez_compressed(
            HIDDEN / "smollm2_random.npz", ids=drawn, columns=columns, logits=logits.numpy()
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
