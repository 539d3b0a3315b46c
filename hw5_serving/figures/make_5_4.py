"""Draws the figure of task 5.4: `python figures/make_5_4.py`. Tokens that a step gives, against how often
a guess is kept, and against how much a copy is edited. Measured on this homework's code; in a student's
folder it is the student's own. With --real no figure, but SmolLM2: steps for a copy and for a story."""

from __future__ import annotations

import sys
from typing import Any

from own_code import FOLDER

# isort: split
import engine_cases as cases
import numpy as np
from drivers_engine import verified_often

from autograder.testing import drawing, packaged

SHIPS = (
    "The harbour master wrote down every ship that came in during the storm: the Aurora with salt "
    "and timber, the Brave Anne with nothing but ballast, and the old Meridian, whose captain swore "
    "that he had seen lights under the water. By morning eleven ships lay at the quay, and the "
    "twelfth was never heard of again."
)
QUESTIONS = {
    "a copy": f"Repeat this text word for word, and nothing else:\n{SHIPS}",
    "a story": "Write a short story about a fox who learns to sail.",
}


class Here:
    """Calls a driver in this process."""

    def run_cases(self, driver: Any, questions: list[Any], _label: Any) -> list[Any]:
        """What the driver gives for these cases."""
        return driver(cases=questions)


def tokens_a_step(kept: float, guesses: int) -> float:
    """Measured: a target and a draft that agree on a share `kept` of their probability."""
    target = np.tile([1.0, 0.0], (3, 1))
    draft = np.tile([kept, 1 - kept], (3, 1))
    found = verified_often(target, draft, guesses, True, 1, 1500)
    return float(np.mean([len(tokens) for tokens in found]))


def real_model() -> None:
    """Greedy answers of SmolLM2-135M with and without look-up, ten guesses a step."""
    from serving.config import EngineConfig
    from serving.engine import Engine
    from serving.gguf_loader import load_gguf
    from serving.sequence import SamplingParams
    from serving.speculative import LookupProposer
    from serving.tokenizer import Tokenizer

    path = packaged("smollm2")
    model, tokenizer = load_gguf(path), Tokenizer.from_gguf(path)
    sampling = SamplingParams(max_new_tokens=90, stop_ids=tokenizer.stop_ids)
    for name, question in QUESTIONS.items():
        prompt = tokenizer.chat([{"role": "user", "content": question}])
        answers, steps = [], []
        for proposer in (None, LookupProposer()):
            engine = Engine(model, EngineConfig(num_blocks=64, num_guesses=10), proposer=proposer)
            answers += engine.generate([prompt], sampling)
            steps.append(len(engine.history))
        print(f"{name}: {len(answers[0])} tokens in {steps[0]} steps, with look-up {steps[1]}, "
              f"the same tokens: {answers[0] == answers[1]}")  # fmt: skip


def main() -> None:
    """Left: verification. Right: look-up on copies."""
    drawing.use(FOLDER)
    figure, (left, right) = drawing.charts(2, width=9, height=3.1)
    shares = np.linspace(0, 0.99, 100)
    for guesses, colour in ((2, drawing.ORANGE), (4, drawing.GREEN), (8, drawing.BLUE)):
        left.plot(shares, (1 - shares ** (guesses + 1)) / (1 - shares), color=colour, linewidth=1,
                  label=f"{guesses} guesses")  # fmt: skip
        seen = [0.2, 0.4, 0.6, 0.8, 0.9, 0.95]
        found = [tokens_a_step(kept, guesses) for kept in seen]
        print(guesses, "guesses:", [f"{a}: {b:.2f}" for a, b in zip(seen, found, strict=True)])
        left.plot(seen, found, "o", color=colour, markersize=4)
    left.set(xlabel="share of guesses kept, Σ min(p, q)", ylabel="tokens a step", ylim=(0, 9.2))
    left.set_title("Verified: (1 − aᵏ⁺¹) / (1 − a), and measured")
    left.legend(fontsize=8)
    rng = np.random.default_rng(0)
    edits = [0, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 1.0]
    for guesses, colour in ((4, drawing.GREEN), (10, drawing.PURPLE)):
        found = []
        for share in edits:
            texts = [cases.edited_copy(rng, 120, share) for _ in range(30)]
            found.append(30 * 120 / sum(cases.judged_steps(Here(), texts, guesses)))
        print(guesses, "guesses:", [f"{a}: {b:.2f}" for a, b in zip(edits, found, strict=True)])
        right.plot([100 * share for share in edits], found, "o-", color=colour, markersize=4,
                   linewidth=1, label=f"{guesses} guesses")  # fmt: skip
    right.axhline(2.5, color=drawing.SOFT, linewidth=0.8, linestyle=":")
    right.set(xlabel="tokens of the copy that differ, %", ylabel="tokens a step", ylim=(0, 11.5))
    right.set_xscale("symlog", linthresh=1)
    right.set_xlim(-0.15, 120)
    right.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    right.set_title("Looked up: copies of 120 tokens")
    right.legend(fontsize=8)
    drawing.save(figure, "5_4_tokens", sheet=False)


if __name__ == "__main__":
    real_model() if "--real" in sys.argv else main()
