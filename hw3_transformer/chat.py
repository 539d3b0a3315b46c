"""Talk to SmolLM2-135M-Instruct on your tokenizer, model, cache and samplers.

    python chat.py                                # the weights that `make fetch` brought
    python chat.py --model PATH.gguf --bf16 --temperature 0.7
    echo "What is the capital of France?" | python chat.py --temperature 0

The conversation stays in the KV cache: of each turn only what is new runs through the model.
/reset forgets it, /quit (or Ctrl-D) ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch

from language_model.cache import KVCache
from language_model.experiment import JsonLog, find_data, run_script
from language_model.generation import stream
from language_model.gguf_loader import load_gguf
from language_model.tokenizer import END, START, Tokenizer


class Conversation:
    """A model, its tokenizer, and all tokens said so far, as ids and in the cache."""

    def __init__(
        self, model: Any, tokenizer: Tokenizer, capacity: int, system: str | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.capacity, self.system = capacity, system
        self.stop_ids = [tokenizer.special_tokens[END]]
        self.sampling: dict[str, Any] = {}
        self.prefilled = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        weight = self.model.embedding.weight
        self.history: list[int] = []
        self.cache = KVCache(self.model.config, 1, self.capacity, weight.dtype, weight.device)

    def ask(self, text: str, max_new_tokens: int) -> Iterator[str]:
        """Pieces of the reply as they become certain; half a character is never among them.

        What the user typed is encoded without special tokens: a typed "<|im_end|>" is text, not the
        end of the turn. Raises ValueError where the conversation does not fit into the cache.
        """
        messages = [{"role": "user", "content": text}]
        if self.history:
            # After the first turn: no system prompt again, and the reply before may lack its end.
            fresh = [*self._end_of_reply(), *self._without_system(messages)]
        else:
            system = [{"role": "system", "content": self.system}] if self.system else []
            fresh = self.tokenizer.encode_chat([*system, *messages])
        prompt = [*self.history, *fresh]
        if len(prompt) >= self.capacity:
            raise ValueError(self._no_room(len(prompt), messages))
        self.history = prompt
        self.prefilled = len(prompt) - int(self.cache.lengths[0])
        decoder = self.tokenizer.stream()
        tokens = stream(self.model, prompt, max_new_tokens, stop_ids=self.stop_ids,
                        cache=self.cache, **self.sampling)  # fmt: skip
        for token in tokens:
            self.history.append(token)
            if piece := decoder.push(token):
                yield piece
        if piece := decoder.finish():
            yield piece

    def _no_room(self, tokens: int, messages: list[dict[str, str]]) -> str:
        """What to do about a prompt of `tokens`: forgetting helps only where there is a history."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        alone = len(self.tokenizer.encode_chat([*system, *messages]))
        helps = bool(self.history) and alone < self.capacity
        remedy = "/reset forgets the turns before" if helps else "start with a larger --context"
        return f"{tokens} tokens do not fit a context of {self.capacity}: {remedy}"

    def _end_of_reply(self) -> list[int]:
        """END and newline after a reply: the model's END is a stop token and not in the history."""
        return [*self.stop_ids, *self.tokenizer.encode("\n")]

    def _without_system(self, messages: list[dict[str, str]]) -> list[int]:
        """ChatML of a later turn: what `encode_chat` writes from the user's START on."""
        ids = self.tokenizer.encode_chat(messages)
        start = self.tokenizer.special_tokens[START]
        user = [place for place, token in enumerate(ids) if token == start][1]
        return ids[user:]


def talk(conversation: Conversation, log: JsonLog, max_new_tokens: int) -> None:
    """Read lines, write replies as they come, until the input ends."""
    asked = sys.stdin.isatty()
    while True:
        try:
            text = input("\nyou: " if asked else "")
        except (EOFError, KeyboardInterrupt):
            return
        if text.strip() == "/quit":
            return
        if text.strip() == "/reset":
            conversation.reset()
            continue
        if not text.strip():
            continue
        started, first, reply = time.perf_counter(), 0.0, ""
        said = len(conversation.history)
        try:
            for piece in conversation.ask(text, max_new_tokens):
                first = first or time.perf_counter() - started
                reply += piece
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pass  # the reply so far stays in the conversation
        except ValueError as error:
            print(error, end="")
        print()
        seconds = time.perf_counter() - started
        made = len(conversation.history) - said - conversation.prefilled
        log.write(user=text, reply=reply, prefilled=conversation.prefilled, tokens=max(made, 0),
                  seconds=round(seconds, 3), first=round(first, 3))  # fmt: skip


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--model", "path", type=click.Path(exists=True, path_type=Path), help="A GGUF file.")
@click.option("--system", help="A system prompt; the model's own by default.")
@click.option("--temperature", default=0.7, show_default=True, help="0 is greedy.")
@click.option("--top-k", default=0, show_default=True, help="0: all.")
@click.option("--top-p", default=0.95, show_default=True)
@click.option("--seed", type=int, help="For the same replies again.")
@click.option("--max-new-tokens", default=400, show_default=True, help="In a reply.")
@click.option("--context", default=2048, show_default=True, help="Tokens of conversation.")
@click.option("--bf16", is_flag=True, help="Weights in bfloat16: half the memory, faster.")
@click.option("--log", type=click.Path(path_type=Path), default=Path("runs/chat/log.jsonl"),
              show_default=True)  # fmt: skip
def main(
    path: Path | None, system: str | None, temperature: float, top_k: int, top_p: float,
    seed: int | None, max_new_tokens: int, context: int, bf16: bool, log: Path,
) -> None:  # fmt: skip
    """Load, then talk."""
    if path is None:
        found = find_data("SmolLM2-135M-Instruct*.gguf")
        if not found:
            raise click.UsageError("no weights: run `make fetch`, or name a GGUF file by --model")
        path = found[0]
    click.echo(f"loading {path.name} …", err=True)
    model = load_gguf(path, torch.bfloat16 if bf16 else torch.float32)
    conversation = Conversation(model, Tokenizer.from_gguf(path), context, system)
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    conversation.sampling = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator,
    }  # fmt: skip
    talk(conversation, JsonLog(log), max_new_tokens)


if __name__ == "__main__":
    run_script(main)
