"""The models that task 1.13 trains, written with your library. Given."""

from __future__ import annotations

import math

import numpy as np

from autodiff import nn
from autodiff.function import no_grad
from autodiff.tensor import Tensor


def digit_classifier(
    rng: np.random.Generator, hidden: int = 64, dropout: float = 0.1
) -> nn.Sequential:
    """Images of 8×8 pixels, flattened (batch, 64), -> logits of ten digits (batch, 10)."""
    return nn.Sequential(
        nn.Linear(64, hidden, rng=rng),
        nn.ReLU(),
        nn.Dropout(dropout, rng),
        nn.Linear(hidden, hidden, rng=rng),
        nn.ReLU(),
        nn.Linear(hidden, 10, rng=rng),
    )


class CausalSelfAttention(nn.Module):
    """Every position mixes the values of itself and the positions before it, in several heads.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.
    """

    def __init__(self, width: int, heads: int, rng: np.random.Generator) -> None:
        if width % heads:
            raise ValueError(f"a width of {width} can't be split over {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False, rng=rng)
        self.key = nn.Linear(width, width, bias=False, rng=rng)
        self.value = nn.Linear(width, width, bias=False, rng=rng)
        self.output = nn.Linear(width, width, bias=False, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, time, width)."""
        batch, time, width = x.shape
        query = self._split(self.query(x) * (1.0 / math.sqrt(width // self.heads)))
        key, value = self._split(self.key(x)), self._split(self.value(x))
        future = np.triu(np.full((time, time), -np.inf, x.dtype), k=1)
        scores = query @ key.transpose() + Tensor(future)  # (batch, heads, time, time)
        mixed = scores.softmax(axis=-1) @ value  # (batch, heads, time, head_dim)
        return self.output(mixed.permute(0, 2, 1, 3).reshape(batch, time, width))

    def _split(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, heads, time, head_dim), without a copy."""
        batch, time, width = x.shape
        return x.reshape(batch, time, self.heads, width // self.heads).permute(0, 2, 1, 3)


class Block(nn.Module):
    """Attention, then a two-layer network at every position, each normalised first and added on."""

    def __init__(self, width: int, heads: int, dropout: float, rng: np.random.Generator) -> None:
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, heads, rng)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width, rng=rng), nn.GELU(), nn.Linear(4 * width, width, rng=rng)
        )
        self.dropout = nn.Dropout(dropout, rng)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) -> (batch, time, width)."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class ByteLanguageModel(nn.Module):
    """A GPT over the 256 bytes: predicts each next byte from at most `context` bytes before it.

    tied: the output layer uses the embedding table as its weights (one parameter, two uses).
    Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        context: int = 32,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        self.context = context
        self.embedding = nn.Embedding(256, width, rng)
        self.position = nn.Parameter(rng.standard_normal((context, width), dtype=np.float32))
        for table in (self.embedding.weight, self.position):
            table.data *= 0.05 if tied else 0.3
        self.blocks = [Block(width, heads, dropout, rng) for _ in range(layers)]
        self.norm = nn.LayerNorm(width)
        self.head = None if tied else nn.Linear(width, 256, bias=False, rng=rng)

    def forward(self, ids: np.ndarray) -> Tensor:
        """Bytes (batch, time ≤ context) as integers -> logits (batch, time, 256)."""
        time = ids.shape[1]
        if time > self.context:
            raise ValueError(f"{time} bytes do not fit a context of {self.context}")
        x = self.embedding(ids) + self.position[:time]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x @ self.embedding.weight.transpose() if self.head is None else self.head(x)


def generate(
    model: ByteLanguageModel,
    prompt: bytes,
    length: int,
    rng: np.random.Generator,
    temperature: float = 0.8,
) -> bytes:
    """`prompt` continued by `length` bytes drawn from the model, one at a time.

    temperature: logits are divided by it; towards 0 the likeliest byte is taken. The prompt may not
    be empty. Every byte costs a full forward pass: homework 3 has a cache for that.
    """
    if not prompt:
        raise ValueError("the prompt needs at least one byte")
    text = list(prompt)
    was_training = model.training
    model.eval()
    with no_grad():
        for _ in range(length):
            window = np.array([text[-model.context :]], np.int64)
            logits = model(window).data[0, -1].astype(np.float64) / temperature
            weights = np.exp(logits - logits.max())
            text.append(int(rng.choice(256, p=weights / weights.sum())))
    model.train(was_training)
    return bytes(text)
