"""A model that needs no download: random weights, one token a byte. It writes nonsense, but fast."""

from __future__ import annotations

import codecs

import torch

from serving.config import LlamaSizes
from serving.model import Llama

START, END = 256, 257
VOCABULARY = 258


class ByteStream:
    """Text of bytes that come one at a time; bytes that are no UTF-8 become U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Text that is complete now."""
        if token >= START:
            return self.flush()
        return self._decoder.decode(bytes([token]))

    def flush(self) -> str:
        """Half a character at the end, if there is one."""
        return self._decoder.decode(b"", final=True)


class ByteTokenizer:
    """A byte is a token; two more begin and end a turn, and no text makes them."""

    stop_ids = (END,)
    vocab_size = VOCABULARY

    def encode(self, text: str) -> list[int]:
        """UTF-8."""
        return list(text.encode("utf-8"))

    def chat(self, messages: list[dict[str, str]]) -> list[int]:
        """ChatML, and the beginning of the reply."""
        ids: list[int] = []
        for message in messages:
            ids += [START, *self.encode(f"{message['role']}\n{message['content']}"), END, 10]
        return [*ids, START, *self.encode("assistant\n")]

    def decode(self, ids: list[int]) -> str:
        """The text, without the two tokens that are none."""
        return bytes(token for token in ids if token < START).decode("utf-8", "replace")

    def stream(self) -> ByteStream:
        """For tokens that come one at a time."""
        return ByteStream()


def tiny_model(seed: int = 0) -> Llama:
    """Two small layers. Printable bytes and END are all it says: the other rows of lm_head are 0."""
    sizes = LlamaSizes(
        vocab_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2,
        intermediate_size=64, max_positions=1024, tied=False,
    )  # fmt: skip
    model = Llama(sizes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # norms stay 1
                width = 1.0 if name.startswith("embedding") else parameter.shape[1] ** -0.5
                spread = width * (6.0 if name.startswith("lm_head") else 1.5)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
        assert model.lm_head is not None
        silent = [token for token in range(VOCABULARY) if not (32 <= token < 127 or token == END)]
        model.lm_head.weight[silent] = 0
        model.lm_head.weight[END] *= 0.85  # else greedy answers are short
    return model.eval()
