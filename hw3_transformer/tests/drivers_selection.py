"""Drivers of task 3.8: features of examples, and which of them are selected."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def similarity(features: np.ndarray, validation: np.ndarray, k: int) -> np.ndarray:
    """`select_by_similarity`."""
    import torch
    from language_model.selection import select_by_similarity

    return select_by_similarity(torch.tensor(features), torch.tensor(validation), k).numpy()


def centers(cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """`k_center` for each case's embeddings, k and first."""
    import torch
    from language_model.selection import k_center

    return [
        k_center(torch.tensor(case["embeddings"]), case["k"], case["first"]).numpy()
        for case in cases
    ]


def centers_of_many(embeddings: np.ndarray, k: int) -> np.ndarray:
    """`k_center` from the first row on."""
    import torch
    from language_model.selection import k_center

    return k_center(torch.from_numpy(embeddings.copy()), k).numpy()


def without_duplicates(features: np.ndarray, threshold: float) -> np.ndarray:
    """`drop_duplicates`."""
    import torch
    from language_model.selection import drop_duplicates

    return drop_duplicates(torch.tensor(features), threshold).numpy()


def selected(features: np.ndarray, validation: np.ndarray, k: int, threshold: float) -> np.ndarray:
    """`select_examples`."""
    import torch
    from language_model.selection import select_examples

    chosen = select_examples(torch.tensor(features), torch.tensor(validation), k, threshold)
    return chosen.numpy()


def projected(vectors: np.ndarray, dimensions: int, seed: int, columns: int) -> np.ndarray:
    """`random_projection`."""
    import torch
    from language_model.selection import random_projection

    return random_projection(torch.tensor(vectors), dimensions, seed, columns).numpy()


def _adapted(sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int,
             targets: list[str], dropout: float = 0.0) -> Any:  # fmt: skip
    import torch
    from drivers_model import build_model
    from language_model.lora import attach_lora, load_adapter_state

    model = build_model(sizes, weights).train()
    attach_lora(model, rank, 2.0 * rank, targets, dropout)
    if adapter:
        load_adapter_state(model, {n: torch.tensor(a) for n, a in adapter.items()})
    return model


def gradients(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, targets: list[str],
    ids: list[np.ndarray], goals: list[np.ndarray], dropout: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """`example_gradient` of each example, and what it left in the model."""
    import torch
    from language_model.selection import example_gradient

    model = _adapted(sizes, weights, adapter, rank, targets, dropout)
    some = next(p for p in model.parameters() if p.requires_grad)
    some.grad = torch.full_like(some, 7.0)
    rows = [
        example_gradient(model, torch.tensor(i), torch.tensor(g)).numpy()
        for i, g in zip(ids, goals, strict=True)
    ]
    return {
        "gradients": rows, "still training": bool(all(m.training for m in model.modules())),
        "grad kept": bool((some.grad == 7.0).all()),
        "others without": all(p.grad is None for p in model.parameters() if p is not some),
    }  # fmt: skip


def features(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, targets: list[str],
    ids: list[np.ndarray], goals: list[np.ndarray], dimensions: int, seed: int, batch: int = 32,
) -> np.ndarray:  # fmt: skip
    """`gradient_features` of examples that may differ in length."""
    import torch
    from language_model.selection import gradient_features

    model = _adapted(sizes, weights, adapter, rank, targets)
    rows = gradient_features(
        model, [torch.tensor(i) for i in ids], [torch.tensor(g) for g in goals], dimensions, seed,
        batch,
    )  # fmt: skip
    assert not rows.requires_grad, "the features have a graph"
    return rows.numpy()


def select_from_pools(
    sizes: dict[str, Any], weights: Arrays, adapter: Arrays, rank: int, targets: list[str],
    pools: list[dict[str, np.ndarray]], k: int, dimensions: int,
) -> list[np.ndarray]:  # fmt: skip
    """The whole way for each pool: gradients, projection, duplicates, the k most similar."""
    import torch
    from language_model.selection import gradient_features, select_examples

    model = _adapted(sizes, weights, adapter, rank, targets)
    # Gradients of the last block say enough, and end there: backward goes no further down.
    for block in model.blocks[:-1]:
        block.requires_grad_(False)
    result = []
    for place, pool in enumerate(pools):
        given = {name: torch.tensor(array.astype(np.int64)) for name, array in pool.items()}
        mine = gradient_features(model, given["ids"], given["targets"], dimensions, place)
        theirs = gradient_features(
            model, given["validation ids"], given["validation targets"], dimensions, place
        )
        result.append(select_examples(mine, theirs, k).numpy())
    return result
