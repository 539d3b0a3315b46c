"""Given: sentences to unit vectors, by MiniLM (Wang et al., 2020; Reimers and Gurevych, 2019).

    encoder = SentenceEncoder.from_folder(FOLDER)        # what `make fetch` brought
    vectors = encoder.encode(["a cat", "a kitten"])      # (2, 384), rows of length 1

The model is BERT (Devlin et al., 2019): all tokens see all others, norms come after the residual sum.
A sentence's vector is the mean over its tokens, made as long as 1, so cosines are dot products.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor
from torch.nn import functional as F

from serving.tensor_file import read_tensors

MAX_TOKENS = 256  # longer ones were not seen in training, though there are 512 positions


class SentenceEncoder:
    """A BERT and its tokenizer. Not changed by use: several threads may encode at once."""

    def __init__(
        self, weights: Mapping[str, Tensor], config: Mapping[str, Any],
        tokenizer: tokenizers.Tokenizer,
    ) -> None:  # fmt: skip
        if config["hidden_act"] != "gelu":
            raise ValueError(f"an encoder with {config['hidden_act']} can't be run, only with gelu")
        self.weights = dict(weights)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.hidden_size: int = config["hidden_size"]
        self.num_layers: int = config["num_hidden_layers"]
        self.num_heads: int = config["num_attention_heads"]
        self.norm_eps: float = config["layer_norm_eps"]

    @classmethod
    def from_folder(cls, folder: str | Path) -> SentenceEncoder:
        """Read model.safetensors, config.json and tokenizer.json. ValueError, OSError."""
        folder = Path(folder)
        weights, _ = read_tensors(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        return cls(weights, config, tokenizers.Tokenizer.from_str(text))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with [CLS] and [SEP]. Raises ValueError for a text of more than MAX_TOKENS of them."""
        found = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        for place, ids in enumerate(found):
            if len(ids) > MAX_TOKENS:
                raise ValueError(
                    f"input {place} has {len(ids)} tokens; the encoder reads at most {MAX_TOKENS}"
                )
        return found

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """(texts, hidden_size) float32, rows of length 1, in the order of the texts."""
        return self.encode_ids(self.tokenize(texts), batch_size)

    @torch.inference_mode()
    def encode_ids(self, texts: Sequence[Sequence[int]], batch_size: int = 32) -> Tensor:
        """The same from `tokenize`'s ids. Texts of like lengths share a batch: little padding.

        Raises ValueError for an id that the vocabulary lacks, and for no or too many ids.
        """
        vocabulary = len(self.weights["embeddings.word_embeddings.weight"])
        for place, row in enumerate(texts):
            if not 0 < len(row) <= MAX_TOKENS:
                raise ValueError(f"input {place} has {len(row)} tokens; 1 to {MAX_TOKENS} are read")
            if not 0 <= min(row) <= max(row) < vocabulary:
                raise ValueError(f"input {place} has a token id outside 0 … {vocabulary - 1}")
        out = torch.empty(len(texts), self.hidden_size)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            rows = [torch.tensor(texts[place]) for place in places]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            lengths = torch.tensor([len(row) for row in rows])
            real = torch.arange(ids.shape[1]) < lengths[:, None]  # (batch, time)
            hidden = self.forward(ids, real).masked_fill(~real[..., None], 0.0)
            out[places] = F.normalize(hidden.sum(1) / lengths[:, None], dim=-1)
        return out

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """ids (batch, time), real (batch, time) bool: no padding -> (batch, time, hidden_size)."""
        part = "embeddings"
        words = F.embedding(ids, self.weights[f"{part}.word_embeddings.weight"])
        places = self.weights[f"{part}.position_embeddings.weight"][: ids.shape[1]]
        kinds = self.weights[f"{part}.token_type_embeddings.weight"][0]
        stream = self._norm(words + places + kinds, f"{part}.LayerNorm")
        for number in range(self.num_layers):
            layer = f"encoder.layer.{number}"
            mixed = self._attend(stream, real, f"{layer}.attention.self")
            mixed = self._linear(mixed, f"{layer}.attention.output.dense")
            stream = self._norm(stream + mixed, f"{layer}.attention.output.LayerNorm")
            inner = F.gelu(self._linear(stream, f"{layer}.intermediate.dense"))
            inner = self._linear(inner, f"{layer}.output.dense")
            stream = self._norm(stream + inner, f"{layer}.output.LayerNorm")
        return stream

    def _attend(self, stream: Tensor, real: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(stream, f"{name}.{part}").unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )  # (batch, heads, time, head_dim)
        mask = real[:, None, None, :]
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, (self.hidden_size,), weight, bias, self.norm_eps)
