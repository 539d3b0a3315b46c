"""Task 4.10: ring attention and experts against one process, and what crosses the switch."""

from __future__ import annotations

import drivers_sequence as drivers
import numpy as np
import torch
from gradescope_utils.autograder_utils.decorators import number, weight
from llama_cases import assert_near
from sequence_cases import (
    WIDTH,
    attention_case,
    chosen_experts,
    chunk_of,
    mixture_case,
    run_attentions,
    run_mixtures,
)

from autograder.testing import Measure, assert_equal, reported_by_worker

WORLDS = (1, 2, 3, 4)


@number("4.10")
@weight(1.3)
def test_ring_attention_is_attention_of_the_whole_sequence(student, rng):
    """Output and gradients in float64, causal and not, worlds of 1 to 4; bytes to the byte."""
    for size in WORLDS:
        chunk = int(rng.integers(2, 6))
        cases = [
            attention_case(rng, size, chunk, True),
            attention_case(rng, size, chunk, False),
            attention_case(rng, size, 1, True, transposed=True),
            attention_case(rng, size, chunk, True, "float32", transposed=True),
        ]
        group = run_attentions(student, drivers.ring_attentions, cases, size)
    # Of the last world, by the switch: keys, values and their gradients, each as large as a query.
    once = sum(chunk_of(case, 0)["query"].size * WIDTH[case["dtype"]] for case in cases)
    sent = float(group.sent.sum(axis=1).max()) / once
    student.measure(Measure(name="chunks a rank of 4 sends, forward and backward", value=sent))


@number("4.10")
@weight(0.6)
def test_scores_of_ten_thousand(student, rng):
    """exp of anything over 709 is inf: the largest score so far goes off first, on every chunk."""
    for size in (2, 4):
        cases = [attention_case(rng, size, 4, causal, largest=1e4) for causal in (True, False)]
        far = attention_case(rng, size, 4, False)
        far["key"][:, :, -4:] *= 3000.0  # the last chunk's scores are the largest and the smallest
        run_attentions(student, drivers.ring_attentions, [*cases, far], size)


@number("4.10")
@weight(0.6)
@reported_by_worker
def test_one_visiting_chunk_is_held_and_hidden_ones_are_not_computed(student, rng):
    """Six ranks: received memory that is still held, and the matrix products of each rank."""
    size, chunk = 6, 8
    case = attention_case(rng, size, chunk, True)
    group = student.group(
        size, drivers.attention_costs, each=[{"case": chunk_of(case, r)} for r in range(size)]
    )
    bytes_ = case["query"][:, :, :chunk].nbytes
    products = 2 * case["query"][:, :, :chunk].size * chunk  # one (time, width) by (width, time)
    held = max(found["forward"]["held"] for found in group.results)
    student.measure(
        Measure(
            name="tensors of visiting chunks held by one rank of six, forward",
            value=held / bytes_, source="worker-reported",
        )  # fmt: skip
    )
    for rank, found in enumerate(group.results):
        for way, most, each in (("forward", 4, 2), ("backward", 8, 5)):
            held, flops = found[way]["held"], found[way]["flops"]
            assert held <= most * bytes_, (
                f"{way}: rank {rank} of {size} holds {held / bytes_:.1f} received chunk tensors at "
                f"once, {most} are enough\nhint: let go of a chunk as soon as it is passed on"
            )
            assert 0 < flops <= (rank + 1) * each * products, (
                f"{way}: rank {rank} of {size} does {flops:,} operations, {rank + 1} chunks of its "
                f"own and before need {(rank + 1) * each * products:,}\nhint: later chunks are hidden"
            )
        assert found["left"] == 0, (
            f"rank {rank} keeps {found['left']:,} bytes of others' chunks from forward to backward"
            "\nhint: save your own, and let the others come round again"
        )


@number("4.10")
@weight(1.4)
def test_experts_on_ranks_are_experts_in_one_process(student, rng):
    """Outputs, all gradients, and rows moved = rows routed, for uneven tokens and experts."""
    for size in WORLDS:
        tokens = rng.integers(1, 9, size).tolist()
        cases = [
            mixture_case(rng, tokens, 5, 2),
            mixture_case(rng, tokens, size + 1, 1),
            mixture_case(rng, tokens[::-1], 4, 4),
            mixture_case(rng, tokens, 6, 3, kind="ties"),
        ]
        routed, sent = run_mixtures(student, drivers.mixtures, cases)
    if routed:  # of the last world; every token may have found its experts at home
        student.measure(
            Measure(name="rows sent forward, there and back, for each routed elsewhere",
                    value=sent / routed)
        )  # fmt: skip


@number("4.10")
@weight(0.6)
def test_experts_and_ranks_that_get_nothing(student, rng):
    """All tokens to one expert, none to a rank, a rank without tokens, ranks without experts."""
    for size in (2, 4):
        tokens = rng.integers(1, 6, size).tolist()
        idle = [0, *tokens[1:]]
        cases = [
            mixture_case(rng, tokens, 5, 1, kind="one expert"),
            mixture_case(rng, tokens, 6, 2, kind="not rank 0"),
            mixture_case(rng, idle, 5, 2),
            mixture_case(rng, tokens, size - 1, 1),  # the last rank has no expert
        ]
        run_mixtures(student, drivers.mixtures, cases)


@number("4.10")
@weight(0.5)
def test_routes_and_the_balance_loss(student, rng):
    """Ties go to the lower expert; weights are a softmax over those chosen; gradients of both."""
    cases, losses = [], []
    for top_k in (1, 2, 6):
        logits = rng.integers(-2, 3, (9, 6)).astype(np.float64)
        cases.append(
            {"logits": logits, "top_k": top_k, "upstream": rng.standard_normal((9, top_k))}
        )
        chosen = chosen_experts(logits, top_k)
        losses.append({"logits": logits, "chosen": chosen, "scale": 0.3})
    losses.append({"logits": np.zeros((6, 3)), "chosen": np.arange(6)[:, None] % 3, "scale": 1.0})
    for case, found in zip(cases, student.run(drivers.routes, cases=cases), strict=True):
        chosen = chosen_experts(case["logits"], case["top_k"])
        name = f"top {case['top_k']} of 6"
        assert_equal(found["chosen"]["value"], chosen, name=f"{name}: experts chosen",
                     hint="of equal logits the lower expert comes first: a stable sort")  # fmt: skip
        logits = torch.tensor(case["logits"], requires_grad=True)
        weights = logits.gather(1, torch.tensor(chosen)).softmax(-1)
        weights.backward(torch.tensor(case["upstream"]))
        assert_near(found["weights"]["value"], weights.detach().numpy(), 1e-14, f"{name}: weights")
        assert_near(found["gradient"]["value"], logits.grad.numpy(), 1e-13, f"{name}: gradient")
    for case, found in zip(losses, student.run(drivers.balance_losses, cases=losses), strict=True):
        logits = torch.tensor(case["logits"], requires_grad=True)
        share = np.bincount(case["chosen"].reshape(-1), minlength=logits.shape[1])
        loss = (
            logits.shape[1]
            * (torch.tensor(share / case["chosen"].size) * logits.softmax(-1).mean(0)).sum()
        )
        (loss * case["scale"]).backward()
        assert_near(found["loss"]["value"], loss.detach().numpy(), 1e-13, "balance loss")
        assert_near(found["gradient"]["value"], logits.grad.numpy(), 1e-13,
                    "gradient of the balance loss", "it flows through the probabilities alone")  # fmt: skip
