"""Cases and oracles of task 4.10: attention and experts of one process, and what must cross."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from drivers_sequence import large_chunk
from llama_cases import U, assert_near
from torch.nn import functional as F
from traffic import around, chunk_sizes, in_words, pieces, sent_bytes

from autograder.testing import assert_equal
from autograder.testing.student import StudentError

WIDTH = {"float64": 8, "float32": 4, "bfloat16": 2}
TENSORS = ("query", "key", "value", "upstream")


def attention_case(
    rng: np.random.Generator, size: int, chunk: int, causal: bool, dtype: str = "float64",
    largest: float = 0.0, transposed: bool = False, batch: int = 2, heads: int = 3, width: int = 5,
) -> dict[str, Any]:  # fmt: skip
    """The whole sequence of `size` chunks; numbers that float32 holds. largest: of |score|, or any."""
    shape = (batch, heads, size * chunk, width)
    case: dict[str, Any] = {name: rng.standard_normal(shape) for name in TENSORS}
    if largest:
        scores = case["query"] @ case["key"].swapaxes(-1, -2) / np.sqrt(width)
        case["query"] *= largest / np.abs(scores).max()
    case = {name: v.astype(np.float32).astype(np.float64) for name, v in case.items()}
    return {**case, "causal": causal, "dtype": dtype, "transposed": transposed, "chunk": chunk}


def chunk_of(case: dict[str, Any], rank: int) -> dict[str, Any]:
    """What rank `rank` is given."""
    place = slice(rank * case["chunk"], (rank + 1) * case["chunk"])
    parts = {name: case[name][:, :, place] for name in TENSORS}
    return {**parts, **{k: case[k] for k in ("causal", "dtype", "transposed")}}


def attention_oracle(case: dict[str, Any]) -> dict[str, tuple[np.ndarray, float]]:
    """{"output" and the gradients: (torch's attention in one process in float64, a bound)}.

    A score is a sum of d products: off by (d + 2)·u·Σ|q||k|·scale ≤ (d + 2)·u·s, and so is the
    exponent after the largest is subtracted; exp turns that into a relative error of the weight. T
    weights are added, and rescaled at most once for each chunk: ε = 4u·(T + (d + 8)·(1 + s)) covers
    both sides. An output is an average of values: ε·max|v|. The slope of a score is p·(dp − D) with
    |dp|, |D| ≤ d·max|up|·max|v|, off by p times 4ε of that; Σ p = 1 over a row for the query's
    gradient, p ≤ 1 and T rows for the key's and the value's.
    """
    query, key, value, upstream = (torch.tensor(case[name]) for name in TENSORS)
    for leaf in (query, key, value):
        leaf.requires_grad_()
    y = F.scaled_dot_product_attention(query, key, value, is_causal=case["causal"])
    y.backward(upstream)
    time, width = query.shape[-2:]
    scale = width**-0.5
    s = float((query.detach().abs() @ key.detach().abs().mT).max()) * scale
    epsilon = 4 * U[case["dtype"]] * (time + (width + 8) * (1 + s))
    q, k, v, up = (float(t.detach().abs().max()) for t in (query, key, value, upstream))
    slope = 8 * epsilon * width * up * v * scale
    bounds = {"output": epsilon * v, "query": slope * k, "key": slope * q * time,
              "value": epsilon * up * time}  # fmt: skip
    found = {"output": y.detach(), "query": query.grad, "key": key.grad, "value": value.grad}
    return {name: (tensor.numpy(), bounds[name]) for name, tensor in found.items()}


def check_attention(
    results: list[dict[str, Any]], case: dict[str, Any], text: str, ranks: list[int] | None = None
) -> None:
    """Each rank's output and gradients against one process's."""
    hints = {
        "output": "rescale what you have (sum and output) whenever the largest score grows",
        "query": "weights are exp(score − log of the sum over all chunks), kept from forward",
        "key": "a chunk's gradient travels with it, every rank adds its share, one step more at the "
        "end brings it home",
        "value": "a chunk's gradient travels with it, and comes home after `size` steps",
    }
    for name, (wanted, bound) in attention_oracle(case).items():
        for rank, result in enumerate(results):
            place = slice(rank * case["chunk"], (rank + 1) * case["chunk"])
            what = "output" if name == "output" else f"gradient of the {name}"
            assert result[name] is not None, f"{text}: rank {rank} has no {what}"
            assert result[name]["dtype"] == case["dtype"], (
                f"{text}: {what} is {result[name]['dtype']}"
            )
            assert_near(result[name]["value"], wanted[:, :, place], bound,
                        f"{text}: {what} on rank {rank}", hints[name])  # fmt: skip
    assert all(result["intact"] for result in results), f"{text}: an input was written into"


def check_large(
    results: list[dict[str, np.ndarray]], seed: int, shape: tuple[int, ...], text: str
) -> None:
    """Two columns of all against torch in float32: far from exact, near enough to be attention."""
    made = [large_chunk(seed, rank, shape) for rank in range(len(results))]
    leaves = [torch.tensor(np.concatenate([parts[i] for parts in made], 2), requires_grad=True)
              for i in range(3)]  # fmt: skip
    y = F.scaled_dot_product_attention(*leaves, is_causal=True)
    y.backward(leaves[0].detach())
    tensors = [y.detach(), *(leaf.grad for leaf in leaves)]
    for name, tensor in zip(("output", "query", "key", "value"), tensors, strict=True):
        wanted = tensor[0, 0, :, :2].numpy()
        got = np.concatenate([np.asarray(result[name]) for result in results])
        assert got.shape == wanted.shape, f"{text}: {name} of shape {got.shape}"
        # Sums of 16,384 products in float32, twice one after the other: 1e-5 of the largest or so.
        assert_near(
            got, wanted, 1e-3 * float(np.abs(wanted).max()), f"{text}: {name} (its gradient)"
        )


def check_ring(group: Any, size: int, cases: list[dict[str, Any]]) -> None:
    """By the switch: to the next rank only, so many bytes, and one chunk at a time."""
    found = pieces(group, size, 2 * len(cases))
    passed = [0] * size
    posted = [0] * size
    for event in group.events:
        if event.kind == "barrier":
            passed[event.rank] += 1
            posted[event.rank] = 0
        elif event.kind in ("send", "receive"):
            case = cases[passed[event.rank] // 2]
            chunk = case["query"][:, :, : case["chunk"]].size * WIDTH[case["dtype"]]
            at_once = (2, 4)[passed[event.rank] % 2] * chunk
            posted[event.rank] += event.size * (1 if event.kind == "receive" else -1)
            assert posted[event.rank] <= at_once, (
                f"rank {event.rank} asks for {posted[event.rank]:,} bytes more than it has passed on;"
                f" what visits at one time is {at_once:,}\nhint: pass keys and values on before the next "
                "ones come: a rank holds its own and those that visit"
            )
    for place, sends in enumerate(found[:-1]):
        case, backward = cases[place // 2], place % 2
        chunk = case["query"][:, :, : case["chunk"]].size * WIDTH[case["dtype"]]
        times = 4 * (size - 1) + 2 if backward else 2 * (size - 1)
        way = "backward" if backward else "forward"
        assert_equal(
            sent_bytes(sends), around([times * chunk] * size),
            name=f"{way}, {in_words(size)}, causal={case['causal']}: bytes from (row) to (column)",
            hint="forward: keys and values take size − 1 steps; backward: they do so again, and their "
            "gradients take size steps",
        )  # fmt: skip
        sizes = [event.size for events in sends for event in events]
        assert all(s <= (2, 4)[backward] * chunk for s in sizes), (
            f"{way}: a message of {max(sizes):,}"
        )
    assert not any(found[-1]), "something was sent after the last backward"


def run_attentions(student: Any, driver: Any, cases: list[dict[str, Any]], size: int) -> Any:
    """The group, its values and traffic checked."""
    each = [{"cases": [chunk_of(case, rank) for case in cases]} for rank in range(size)]
    group = student.group(size, driver, each=each)
    for place, case in enumerate(cases):
        text = f"{'causal' if case['causal'] else 'not causal'}, {in_words(size)}, {case['dtype']}"
        check_attention([result[place] for result in group.results], case, text)
    check_ring(group, size, cases)
    return group


def mixture_case(
    rng: np.random.Generator, tokens: list[int], count: int, top_k: int, hidden: int = 6,
    inner: int = 7, kind: str = "any", needs_grad: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """tokens: of each rank. kind: "any", "ties" (integers, experts in pairs with one router row),
    "one expert" (the last gets all first places), "not rank 0" (its experts get nothing)."""
    shape = (sum(tokens), hidden)
    x, router = rng.standard_normal(shape), rng.standard_normal((count, hidden))
    if kind == "ties":
        x, router = (np.round(t * 2) for t in (x, router))
        router = router[np.arange(count) // 2 * 2]
    elif kind in ("one expert", "not rank 0"):
        x[:, 0] = rng.uniform(1, 2, shape[0])
        router[:, 0] = 0
        barred = chunk_sizes(count, len(tokens))[0]
        if kind == "one expert":
            router[-1, 0] = 100
        else:
            router[:barred, 0] = -100
    experts = {
        str(e): {"gate": rng.standard_normal((inner, hidden)) / np.sqrt(hidden),
                 "up": rng.standard_normal((inner, hidden)) / np.sqrt(hidden),
                 "down": rng.standard_normal((hidden, inner)) / np.sqrt(inner)}
        for e in range(count)
    }  # fmt: skip
    return {"x": x, "upstream": rng.standard_normal(shape), "router": router, "experts": experts,
            "tokens": tokens, "count": count, "top_k": top_k, "inner": inner, "kind": kind,
            "needs_grad": needs_grad}  # fmt: skip


def experts_of(case: dict[str, Any], rank: int) -> range:
    """The experts that a rank has."""
    counts = chunk_sizes(case["count"], len(case["tokens"]))
    start = sum(counts[:rank])
    return range(start, start + counts[rank])


def tokens_of(case: dict[str, Any], rank: int) -> slice:
    """Where a rank's tokens lie among all."""
    start = sum(case["tokens"][:rank])
    return slice(start, start + case["tokens"][rank])


def mixture_args(case: dict[str, Any], rank: int) -> dict[str, Any]:
    """What a rank is given: its tokens (as (1, tokens, hidden)) and its experts."""
    place = tokens_of(case, rank)
    return {
        "x": case["x"][None, place], "upstream": case["upstream"][None, place],
        "experts": {str(e): case["experts"][str(e)] for e in experts_of(case, rank)},
        **{k: case[k] for k in ("router", "count", "top_k", "inner", "needs_grad")},
    }  # fmt: skip


def chosen_experts(logits: np.ndarray, top_k: int) -> np.ndarray:
    """(tokens, experts) bool: those that fewer than top_k others come before. An expert comes before
    another with a larger logit, or with an equal one and a lower number."""
    mine, others = logits[:, :, None], logits[:, None, :]
    lower = np.tri(logits.shape[1], k=-1, dtype=bool)
    return ((others > mine) | ((others == mine) & lower)).sum(-1) < top_k


def check_routes(case: dict[str, Any], found: dict[str, Any]) -> None:
    """The experts in order, their weights by the definition, the gradient by steps into the complex."""
    name = f"top {case['top_k']} of {case['logits'].shape[1]}"
    chosen, rows = np.asarray(found["chosen"]["value"]), np.arange(len(case["logits"]))[:, None]
    allowed = chosen_experts(case["logits"], case["top_k"])
    assert chosen.shape == (len(allowed), case["top_k"]), f"{name}: chosen has shape {chosen.shape}"
    assert chosen.dtype == np.int64 and ((chosen >= 0) & (chosen < allowed.shape[1])).all(), (
        f"{name}: experts are int64 from 0 to {allowed.shape[1] - 1}, got {chosen.dtype} {chosen}"
    )
    hint = "of equal logits the lower expert comes first: a stable sort"
    got = np.zeros_like(allowed)
    got[rows, chosen] = True
    assert_equal(got, allowed, name=f"{name}: whether each token has chosen each expert", hint=hint)
    picked = case["logits"][rows, chosen]
    falls = np.diff(picked) < 0
    assert (falls | ((np.diff(picked) == 0) & (np.diff(chosen) > 0))).all(), (
        f"{name}: the largest logit comes first, got experts {chosen.tolist()}\nhint: {hint}"
    )

    def shares(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits - case["logits"].max()) * allowed
        return (powers / powers.sum(1)[:, None])[rows, chosen]

    near = "a softmax over the chosen logits alone"
    assert_near(found["weights"]["value"], shares(case["logits"]), 1e-14, f"{name}: weights", near)
    wanted = slopes(lambda logits: (shares(logits) * case["upstream"]).sum(), case["logits"])
    assert_near(found["gradient"]["value"], wanted, 1e-13, f"{name}: gradient", near)


def check_balance(case: dict[str, Any], found: dict[str, Any]) -> None:
    """The loss token by token, and its gradient by steps into the complex."""
    tokens, experts = case["logits"].shape

    def loss(logits: np.ndarray) -> Any:
        total = 0.0
        for row in np.exp(logits):
            for expert in case["chosen"].reshape(-1):
                total = total + row[expert] / row.sum()
        return total * experts / tokens / case["chosen"].size

    assert_near(found["loss"]["value"], loss(case["logits"]), 1e-13, "balance loss")
    wanted = case["scale"] * slopes(loss, case["logits"])
    assert_near(found["gradient"]["value"], wanted, 1e-13, "gradient of the balance loss",
                "it flows through the probabilities alone")  # fmt: skip


def slopes(function: Callable[[np.ndarray], Any], at: np.ndarray) -> np.ndarray:
    """The derivative by each element: Im f(x + ih)/h, where nothing cancels however small h is."""
    found = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        moved = at.astype(complex)
        moved[place] += 1e-30j
        found[place] = np.imag(function(moved)) / 1e-30
    return found


def mixture_oracle(case: dict[str, Any]) -> dict[str, Any]:
    """All tokens in one process, expert by expert: outputs, gradients, and who was chosen."""
    x, router = (torch.tensor(case[k]).requires_grad_() for k in ("x", "router"))
    weights = {e: {k: torch.tensor(v).requires_grad_() for k, v in parts.items()}
               for e, parts in case["experts"].items()}  # fmt: skip
    logits = x @ router.T
    allowed = chosen_experts(logits.detach().numpy(), case["top_k"])
    shares = logits.masked_fill(torch.tensor(~allowed), -torch.inf).softmax(-1).nan_to_num()
    y = torch.zeros_like(x)
    for e, w in weights.items():
        done = (F.silu(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T
        y = y + done * shares[:, int(e)][:, None]
    y.backward(torch.tensor(case["upstream"]))
    return {"output": y.detach().numpy(), "x": x.grad.numpy(), "router": router.grad.numpy(),
            "experts": {e: {k: t.grad.numpy() for k, t in w.items()} for e, w in weights.items()},
            "chosen": allowed}  # fmt: skip


def pairs_between(case: dict[str, Any], chosen: np.ndarray) -> np.ndarray:
    """(ranks, ranks): rows that rank r's tokens have for experts of rank s."""
    size = len(case["tokens"])
    home = np.zeros(case["count"], np.int64)
    for rank in range(size):
        home[list(experts_of(case, rank))] = rank
    found = np.zeros((size, size), np.int64)
    for rank in range(size):
        rows = chosen[tokens_of(case, rank)].sum(0)
        found[rank] = np.bincount(home, rows, size).astype(np.int64)
    return found


def check_mixture(
    results: list[dict[str, Any]], case: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Outputs and gradients on each rank.

    Every sum has at most max(hidden, inner, tokens · top_k) ≤ 200 terms, a path has five of them,
    and what cancels inside is at most a hundred times the result's scale: 200 · 5 · 100 · u = 1e-11
    of the largest element; a lost or doubled row is off by a thousandth at least.
    """
    text = f"{case['kind']}, tokens {case['tokens']}, {case['count']} experts, top {case['top_k']}"

    def near(got: Any, right: np.ndarray, name: str, hint: str = "") -> None:
        assert got is not None, f"{text}: no {name}"
        bound = 1e-11 * max(1.0, float(np.abs(right).max(initial=0)))
        assert_near(got["value"], right, bound, f"{text}: {name}", hint)

    for rank, result in enumerate(results):
        place = tokens_of(case, rank)
        near(result["output"], wanted["output"][None, place], f"output on rank {rank}",
             "the weights are a softmax over the chosen logits alone; and rows come back in the order "
             "in which they were sent: by expert, then by token")  # fmt: skip
        if case["needs_grad"]:
            near(result["x"], wanted["x"][None, place], f"input's gradient on rank {rank}",
                 "two ways: through the rows sent to experts, and through the router's weights")  # fmt: skip
        assert set(result["experts"]) == {str(e) for e in experts_of(case, rank)}, text
        for e, parts in result["experts"].items():
            for part, got in parts.items():
                right = wanted["experts"][e][part]
                if got is None and not right.any():
                    continue  # no token came: None is as good as zero
                near(got, right, f"gradient of expert {e}'s {part} on rank {rank}")
    sums = [r["router"]["value"] if r["router"] else np.zeros_like(case["router"]) for r in results]
    near({"value": np.sum(sums, axis=0)}, wanted["router"], "gradient of the router, added over ranks",
         "it flows through the softmax over the chosen logits")  # fmt: skip


def check_mixture_traffic(
    group: Any, cases: list[dict[str, Any]], routed: list[np.ndarray]
) -> None:
    """By the switch: a row for each (token, chosen expert) that is elsewhere, there and back."""
    size = len(group.results)
    found = pieces(group, size, 2 * len(cases))
    for place, sends in enumerate(found[:-1]):
        case, pairs, backward = cases[place // 2], routed[place // 2], place % 2
        rows = pairs + pairs.T if case["needs_grad"] or not backward else pairs
        wanted = rows * case["x"].shape[1] * 8
        if not backward:
            wanted = wanted + 8 * np.array(chunk_sizes(case["count"], size))
        np.fill_diagonal(wanted, 0)
        way = "backward" if backward else "forward"
        assert_equal(
            sent_bytes(sends), wanted,
            name=f"{way} of {case['kind']}, tokens {case['tokens']}, {case['count']} experts, top "
            f"{case['top_k']}: bytes from (row) to (column)",
            hint="a row for each (token, chosen expert) on another rank, there and back, and before "
            "that 8 bytes for each of the receiver's experts: how many rows it gets",
        )  # fmt: skip
    assert not any(found[-1]), "something was sent after the last backward"


def run_mixtures(student: Any, driver: Any, cases: list[dict[str, Any]]) -> tuple[int, float]:
    """Checked in a group. Of all cases together: rows routed elsewhere, and rows that the switch saw
    in the forwards (bytes without the counts, by a row's)."""
    size = len(cases[0]["tokens"])
    each = [{"cases": [mixture_args(case, rank) for case in cases]} for rank in range(size)]
    try:
        group = student.group(size, driver, each=each)
    except StudentError as error:
        if error.title == "deadlock" and "barrier" in error.message:
            error.message += (
                "\nhint: who waits in the barrier has ended its backward and never came to an exchange "
                "of it: where a rank has no experts, nothing there needs a gradient unless you see to it"
            )
        raise
    routed = []
    for place, case in enumerate(cases):
        wanted = mixture_oracle(case)
        check_mixture([result[place] for result in group.results], case, wanted)
        routed.append(pairs_between(case, wanted["chosen"]))
    check_mixture_traffic(group, cases, routed)
    elsewhere = sum(int(pairs.sum() - np.trace(pairs)) for pairs in routed)
    forwards = pieces(group, size, 2 * len(cases))[:-1:2]
    rows = 0.0
    for case, sends in zip(cases, forwards, strict=True):
        counts = 8 * case["count"] * (size - 1)
        rows += (int(sent_bytes(sends).sum()) - counts) / (8 * case["x"].shape[1])
    return elsewhere, rows
