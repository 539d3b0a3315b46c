"""Drivers of task 5.11: adapters in one batch, versions of the weights, and both in an engine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def segments(slots: list[np.ndarray]) -> list[dict[str, Any]]:
    """By case: the order, and (slot, start, stop) of each segment."""
    import torch

    from serving.lora_batch import token_segments

    found = []
    for own in slots:
        order, parts = token_segments(torch.from_numpy(own))
        found.append({"order": order.numpy(), "segments": [list(map(int, p)) for p in parts]})
    return found


def _adapter(parts: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    import torch

    return {layer: (torch.from_numpy(a), torch.from_numpy(b)) for layer, (a, b) in parts.items()}


def batch_of_adapters(
    weight: np.ndarray, adapters: list[dict[str, Any]], x: np.ndarray, slots: np.ndarray, repeats: int = 1
) -> np.ndarray:  # fmt: skip
    """The layer "q" for tokens with slots; adapters: {"parts", "scale"}, into slots 0, 1, …"""
    import torch

    from serving.lora_batch import BatchedLoRALinear, LoRABank

    tall, wide = weight.shape
    base = torch.nn.utils.skip_init(torch.nn.Linear, wide, tall, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.from_numpy(weight))
        bank = LoRABank({"q": (wide, tall), "v": (wide, 3)}, max(1, len(adapters)))
        for place, adapter in enumerate(adapters):
            bank.load(f"adapter {place}", _adapter(adapter["parts"]), adapter["scale"])
        layer = BatchedLoRALinear(base, bank, "q")
        layer.slots = torch.from_numpy(slots)
        tokens = torch.from_numpy(x)
        for _ in range(repeats):
            out = layer(tokens)
    return out.numpy()


def bank_story(
    events: list[list[Any]], slots: int, wide: int, tall: int, value: float = 1.0
) -> list[dict[str, Any]]:
    """Load, acquire, release, remove: the slot or error of each, the names held, what x = 1 gives.

    load: [name, A rows, B columns, size of the entries]. "sums": by slot the update of a token of ones.
    """
    import torch

    from serving.lora_batch import LoRABank

    bank, found = LoRABank({"q": (wide, tall)}, slots), []
    for kind, *rest in events:
        got: Any = ""
        try:
            if kind == "load":
                name, rank, columns, size = rest
                parts = {"q": (torch.full((rank, columns), size), torch.ones(tall, rank))}
                got = bank.load(name, parts, 2.0)
            else:
                got = getattr(bank, kind)(*rest)
        except (KeyError, ValueError) as error:
            got = type(error).__name__
        except RuntimeError as error:
            if isinstance(error, NotImplementedError):
                raise
            got = "RuntimeError"
        out = torch.zeros(slots, tall)
        bank.add_updates("q", torch.full((slots, wide), value), torch.arange(slots), out)
        found.append(
            {"got": got, "names": [u.name if u else "" for u in bank.use], "sums": out.numpy()}
        )
    return found


def _state(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.tensor(values) for name, values in arrays.items()}


def _model(sizes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from serving.config import LlamaSizes
    from serving.model import Llama

    dtype = _state({"": next(iter(arrays.values()))})[""].dtype
    model = Llama(LlamaSizes(**sizes)).to(dtype)
    model.load_state_dict(_state(arrays))
    return model


def checksums(states: list[dict[str, np.ndarray]], bfloat16: bool = False) -> list[str]:
    """state_checksum of each; matrices also as transposed views of their transposes."""
    import torch

    from serving.versions import state_checksum

    found = []
    for arrays in states:
        state = _state(arrays)
        for name, tensor in state.items():
            if tensor.ndim == 2:
                state[name] = tensor.T.contiguous().T
        if bfloat16:
            state = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
        found.append(state_checksum(state))
    return found


class Versions:
    """VersionedWeights over a small model; after each call what is in memory."""

    def __init__(self, sizes: dict[str, Any], arrays: dict[str, np.ndarray], version: str) -> None:
        from serving.versions import VersionedWeights

        self.sizes = sizes
        self.weights = VersionedWeights(_model(sizes, arrays), version)
        self.sent: dict[str, Any] = {}

    def call(self, what: str, arguments: list[Any]) -> dict[str, Any]:
        """Any method but `stage`: what it gave, or the exception's name and those of its bases."""
        with _caught() as kept:
            kept["got"] = getattr(self.weights, what)(*arguments)
        return {**kept, **self.look()}

    def stage(
        self, version: str, arrays: dict[str, np.ndarray], checksum: str, odd: str = ""
    ) -> dict[str, Any]:
        """stage; odd: a name whose value is sent as a list, no tensor."""
        self.sent = _state(arrays)
        state = {k: v.tolist() if k == odd else v for k, v in self.sent.items()}
        with _caught() as kept:
            kept["got"] = self.weights.stage(version, state, checksum)
        return {**kept, **self.look()}

    def spoil(self) -> None:
        """Write zeros into the tensors of the state that was sent last."""
        for tensor in self.sent.values():
            tensor.zero_()

    def look(self) -> dict[str, Any]:
        """The names, as the properties give them."""
        return {
            "active": self.weights.active, "previous": self.weights.previous or "",
            "versions": list(self.weights.versions),
        }  # fmt: skip

    def arrays(self, version: str) -> dict[str, np.ndarray]:
        """The weights of one version."""
        state = self.weights.model(version).state_dict()
        return {name: tensor.numpy() for name, tensor in state.items()}

    def logits(self, version: str, ids: list[int]) -> np.ndarray:
        """(tokens, vocab_size): what this version says after each token of a text."""
        import torch

        from serving.model import causal_attend

        model = self.weights.model(version)
        with torch.inference_mode():
            hidden = model(torch.tensor(ids), torch.arange(len(ids)), causal_attend)
            return model.compute_logits(hidden).numpy()


def versions(sizes: dict[str, Any], arrays: dict[str, np.ndarray], version: str) -> Versions:
    """A session."""
    return Versions(sizes, arrays, version)


@contextlib.contextmanager
def _caught() -> Iterator[dict[str, Any]]:
    kept: dict[str, Any] = {"got": None, "error": [], "text": ""}
    try:
        yield kept
    except NotImplementedError:
        raise
    except Exception as error:
        kept["error"] = [kind.__name__ for kind in type(error).__mro__]
        kept["text"] = str(error)


class SlowState(Mapping[str, Any]):
    """A state that is read from somewhere slow: its first tensor comes when `go` is set."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.asked, self.go = threading.Event(), threading.Event()

    def __getitem__(self, name: str) -> Any:
        self.asked.set()
        self.go.wait(20)
        return self.state[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


class Serving:
    """An engine over versioned weights, in their own dtype, with a bank of adapters."""

    def __init__(
        self, sizes: dict[str, Any], arrays: dict[str, np.ndarray], version: str,
        config: dict[str, Any], layers: list[str], slots: int,
    ) -> None:  # fmt: skip
        from serving.config import EngineConfig
        from serving.engine import Engine
        from serving.lora_batch import LoRABank
        from serving.model_runner import lora_widths
        from serving.versions import VersionedWeights

        model = _model(sizes, arrays)
        self.dtype = model.norm.weight.dtype
        self.weights = VersionedWeights(model, version)
        widths = {name: size for name, size in lora_widths(model).items() if name in layers}
        self.bank = LoRABank(widths, slots)
        self.engine = Engine(self.weights, EngineConfig(**config), bank=self.bank)
        self.loading: tuple[threading.Thread, SlowState] | None = None

    def submit(self, requests: list[dict[str, Any]]) -> list[Any]:
        """By request its id, or the name of the exception: {"prompt", "count", "adapter", "version"}."""
        from serving.sequence import SamplingParams

        found: list[Any] = []
        for request in requests:
            with _caught() as kept:
                kept["got"] = self.engine.submit(
                    request["prompt"], SamplingParams(max_new_tokens=request["count"]),
                    adapter=request.get("adapter"), version=request.get("version"),
                )  # fmt: skip
            found.append(kept["error"][0] if kept["error"] else kept["got"])
        return found

    def steps(self, count: int) -> list[dict[str, Any]]:
        """At most `count` steps, fewer where nothing is left to do; what each did.

        "plan": (request, first position, tokens); "new": (request, token) in the order of the
        answers; "ended": (request, status, whole answer).
        """
        found = []
        for _ in range(count):
            if not self.engine.busy:
                break
            ended = self.engine.step()
            plan = self.engine.history[-1]
            found.append({
                "plan": [list(entry) for entry in plan.counts],
                "preempted": list(plan.preempted),
                "new": [[key, int(t)] for key, own in self.engine.new_tokens.items() for t in own],
                "ended": [[s.request_id, s.status.value, [int(t) for t in s.answer]] for s in ended],
            })  # fmt: skip
        return found

    def abort(self, request: int) -> bool:
        """Whether there was one."""
        return self.engine.abort(request)

    def stage(self, version: str, arrays: dict[str, np.ndarray], checksum: str) -> list[str]:
        """The names of the exception and its bases, none if the version is there."""
        with _caught() as kept:
            self.weights.stage(version, _state(arrays), checksum)
        return kept["error"]

    def begin_staging(self, version: str, arrays: dict[str, np.ndarray], checksum: str) -> bool:
        """Let a thread stage a state that comes slowly; whether it waits for the first tensor."""
        state = SlowState(_state(arrays))
        thread = threading.Thread(
            target=self.weights.stage, args=(version, state, checksum), daemon=True
        )
        thread.start()
        self.loading = thread, state
        return state.asked.wait(5)

    def steps_beside(self, count: int, seconds: float) -> list[dict[str, Any]]:
        """steps(count) in a thread; [] where they have not come to an end in that time."""
        done: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: done.extend(self.steps(count)), daemon=True)
        thread.start()
        thread.join(seconds)
        return [] if thread.is_alive() else done

    def end_staging(self) -> bool:
        """Let the tensors come; whether the thread is through."""
        assert self.loading is not None, "nothing is being staged"
        thread, state = self.loading
        state.go.set()
        thread.join(10)
        return not thread.is_alive()

    def change(self, what: str, arguments: list[Any]) -> list[str]:
        """activate or rollback through the engine, drop of the weights; the exception's names."""
        with _caught() as kept:
            owner = self.engine if what in ("activate", "rollback") else self.weights
            getattr(owner, what)(*arguments)
        return kept["error"]

    def load_adapter(self, name: str, parts: dict[str, list[np.ndarray]], scale: float) -> int:
        """The slot of an adapter, in the model's dtype."""
        made = {k: (a.to(self.dtype), b.to(self.dtype)) for k, (a, b) in _adapter(parts).items()}
        return self.bank.load(name, made, scale)

    def remove_adapter(self, name: str) -> None:
        """No new requests for it."""
        self.bank.remove(name)

    def state(self) -> dict[str, Any]:
        """Names of versions and adapters, blocks nobody holds."""
        return {
            "active": self.weights.active, "previous": self.weights.previous or "",
            "versions": list(self.weights.versions), "free": int(self.engine.blocks.num_free),
            "adapters": [use.name if use else "" for use in self.bank.use],
        }  # fmt: skip


def serving(
    sizes: dict[str, Any], arrays: dict[str, np.ndarray], version: str, config: dict[str, Any],
    layers: list[str], slots: int = 4,
) -> Serving:  # fmt: skip
    """A session."""
    return Serving(sizes, arrays, version, config, layers, slots)


def swapped_often(rows: int, width: int, swaps: int) -> int:
    """Stage and activate large versions one after the other; each is pinned until the next but one.

    Returns how many versions are in memory at the end.
    """
    import torch

    from serving.config import LlamaSizes
    from serving.model import Llama
    from serving.versions import VersionedWeights, state_checksum

    sizes = LlamaSizes(rows, width, 1, 2, 1, 8)
    weights = VersionedWeights(Llama(sizes), "v0")
    shapes = {name: like.shape for name, like in weights.model("v0").state_dict().items()}
    state = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    checksum = state_checksum(state)
    pinned = [weights.acquire()]
    for number in range(1, swaps + 1):
        weights.stage(f"v{number}", state, checksum)
        weights.activate(f"v{number}")
        pinned.append(weights.acquire())
        if len(pinned) > 2:
            weights.release(pinned.pop(0))
    return len(weights.versions)
