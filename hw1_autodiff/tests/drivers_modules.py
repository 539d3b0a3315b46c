"""Drivers of tasks 1.10 to 1.12. The student's package is imported inside each."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np


def layer_gradients(
    layer: str, options: dict, parameters: dict, x: np.ndarray, upstream: np.ndarray,
    transposed: bool = False, frozen: list | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A layer with the given parameters: its value, and the gradients of x and the parameters.

    transposed: x lies in memory with its axes reversed.
    """
    from autodiff import Tensor, nn

    made = getattr(nn, layer)(**options)
    for name, array in parameters.items():
        parameter = getattr(made, name)
        parameter.data, parameter.requires_grad = array.copy(), name not in (frozen or [])
    leaf = Tensor(np.array(x.T, order="C").T if transposed else x.copy(), requires_grad=True)
    value = made(leaf)
    value.backward(upstream)
    gradients = {name: getattr(made, name).grad for name in parameters}
    return {"value": value.data, "x": leaf.grad, **gradients}


def tied_linear_gradients(x: np.ndarray, weight: np.ndarray, upstream: np.ndarray) -> list[Any]:
    """Two Linear layers with one weight: how many parameters, and the weight's gradient."""
    from autodiff import Tensor, nn

    first, second = (nn.Linear(*weight.shape, bias=False) for _ in range(2))
    first.weight.data, second.weight = weight.copy(), first.weight
    model = nn.Sequential(first, nn.GELU(), second)
    model(Tensor(x)).backward(upstream)
    return [len(model.parameters()), first.weight.grad]


def dropout_passes(
    x: np.ndarray, p: float, training: list, seed: int, upstream: np.ndarray
) -> list[list[Any]]:
    """[value, gradient] of one Dropout for each pass; `training` gives each pass its mode."""
    from autodiff import Tensor, nn

    layer = nn.Dropout(p, np.random.default_rng(seed))
    model = nn.Sequential(nn.Sequential(layer))
    seen = []
    for mode in training:
        model.train() if mode else model.eval()
        leaf = Tensor(x.copy(), requires_grad=True)
        value = model(leaf)
        value.backward(upstream)
        seen.append([value.data, leaf.grad])
    return seen


def _tree(seed: int) -> Any:
    """A module with lists in lists, shared and frozen parameters, and things that are no member."""
    from autodiff import Tensor, nn

    rng = np.random.default_rng(seed)

    class Leaf(nn.Module):
        def __init__(self) -> None:
            self.scale = nn.Parameter(rng.standard_normal((2, 3)))
            self.label = "not a member"

    class Tree(nn.Module):
        def __init__(self) -> None:
            self.first = Leaf()
            self.cache = Tensor(np.ones(3), requires_grad=True)
            self.groups = [[Leaf(), nn.Linear(3, 4, rng=rng)], (nn.Dropout(0.5), Leaf())]
            self.frozen = nn.Parameter(np.arange(4.0), requires_grad=False)
            self.again = self.first
            self.groups[1][1].scale = self.groups[0][0].scale
            self.bias = nn.Parameter(np.zeros(0))
            self.twin = nn.Parameter(np.arange(4.0))  # equal to frozen, yet another parameter
            self.nothing = None

    return Tree()


def tree_names(seed: int) -> dict[str, Any]:
    """Names and shapes of the tree's parameters, and whether `parameters` are the same objects."""
    named = list((tree := _tree(seed)).named_parameters())
    same = [id(p) for p in tree.parameters()] == [id(p) for _, p in named]
    wanted = {name: p.requires_grad for name, p in named}
    shapes = [list(p.shape) for _, p in named]
    return {"names": [name for name, _ in named], "shapes": shapes, "same": same, "wanted": wanted}


def tree_modes(seed: int) -> list[list[bool]]:
    """`training` of every module in the tree: at first, after eval(), after train()."""
    tree = _tree(seed)
    tree.first.parent = tree  # a circle
    inside = [tree, tree.first, *tree.groups[0], *tree.groups[1]]
    modes = [[m.training for m in inside]]
    chained = True
    for switch in (tree.eval, tree.train):
        chained = switch() is tree and chained
        modes.append([m.training for m in inside])
    visited = [id(m) for m in tree.modules()]
    return [*modes, [chained, sorted(visited) == sorted(id(m) for m in inside)]]


def state_round_trip(seed: int) -> dict[str, Any]:
    """The state of one tree loaded into another, and what later changes do to either."""
    source, target = _tree(seed), _tree(seed + 1)
    other = {name: array.copy() for name, array in target.state_dict().items()}
    state = source.state_dict()
    taken = {name: array.copy() for name, array in state.items()}
    arrays = [p.data for p in target.parameters()]
    target.load_state_dict(state)
    loaded = target.state_dict()
    same_arrays = all(p.data is a for p, a in zip(target.parameters(), arrays, strict=True))
    for parameter in source.parameters():
        parameter.data += 1.0
    source_changed = {name: array.copy() for name, array in state.items()}
    for array in state.values():
        array += 1.0
    return {
        "taken": taken, "other": other, "loaded": loaded, "in place": same_arrays,
        "after training on": source_changed, "after writing": target.state_dict(),
    }  # fmt: skip


def load_wrong_state(seed: int, wrong: str, swallow: bool = False) -> Any:
    """Load a state that does not fit; with `swallow`, the tree's state before and after."""
    tree = _tree(seed)
    state = {name: array + 1.0 for name, array in tree.state_dict().items()}
    before = tree.state_dict()
    name = next(reversed([n for n in state if n.startswith("groups")]))
    if wrong == "missing":
        del state[name]
    elif wrong == "unexpected":
        state["groups.7.bias"] = np.zeros(3)
    elif wrong == "shape":
        state[name] = state[name][:1]
    if not swallow:
        return tree.load_state_dict(state)
    try:
        tree.load_state_dict(state)
    except (KeyError, ValueError):
        pass
    return [before, tree.state_dict()]


# --- 1.11: optimizers ------------------------------------------------------------------------


def _gradient(given: Any) -> Any:
    """None, an array, or a RowSparseGradient from {"rows", "values", "shape"}."""
    if given is None or isinstance(given, np.ndarray):
        return None if given is None else given.copy()
    from autodiff.embedding import RowSparseGradient

    return RowSparseGradient(given["rows"].copy(), given["values"].copy(), tuple(given["shape"]))


def _leaves(arrays: list, transposed: bool = False) -> list[Any]:
    from autodiff import Tensor

    own = [np.array(a.T, order="C").T if transposed else a.copy() for a in arrays]
    return [Tensor(a, requires_grad=True) for a in own]


def optimize(
    optimizer: str, options: dict, parameters: list, gradients: list, twice: bool = False,
    transposed: bool = False, rates: list | None = None, interrupt: int = -1,
) -> list[Any]:  # fmt: skip
    """The parameters after each step; gradients[step][place] may be None or row-sparse.

    twice: the first parameter is listed twice; rates: learning rates set before each step;
    interrupt: before this step the optimizer is replaced by a new one that loads its state.
    """
    from autodiff import optim

    leaves = _leaves(parameters, transposed)
    listed = [*leaves, leaves[0]] if twice else leaves
    make = lambda **more: getattr(optim, optimizer)(listed, **{**options, **more})  # noqa: E731
    made = make()
    seen, handed = [], []
    for step, row in enumerate(gradients):
        if step == interrupt:
            state = made.state_dict()
            kept = {name: np.array(array) for name, array in state.items()}
            made.step()  # training on must not change the state that was taken
            for leaf, array in zip(leaves, seen[-1], strict=True):
                leaf.data[...] = array
            made = make(learning_rate=123.0)
            made.load_state_dict(kept)
            if not all(np.array_equal(kept[name], state[name]) for name in kept):
                raise AssertionError("a later step changed a state that was taken before")
        for leaf, given in zip(leaves, row, strict=True):
            leaf.grad = _gradient(given)
        if rates is not None:
            made.learning_rate = rates[step]
        made.step()
        handed += [(leaf.grad, g) for leaf, g in zip(leaves, row, strict=True) if g is not None]
        seen.append([leaf.data.copy() for leaf in leaves])
    if any(isinstance(g, np.ndarray) and not np.array_equal(mine, g) for mine, g in handed):
        raise AssertionError("step() wrote into a gradient, at once or at a later step")
    return seen


def clipped(gradients: list, max_norm: float, twice: bool = False) -> list[Any]:
    """The norm that clip_grad_norm_ returns and the gradients it leaves."""
    from autodiff import optim

    shapes = [g["shape"] if isinstance(g, dict) else np.shape(g) for g in gradients]
    leaves = _leaves([np.zeros(shape) for shape in shapes])
    for leaf, given in zip(leaves, gradients, strict=True):
        leaf.grad = _gradient(given)
    norm = optim.clip_grad_norm_([*leaves, leaves[0]] if twice else leaves, max_norm)
    after: list[Any] = []
    for leaf in leaves:
        sparse = leaf.grad is not None and not isinstance(leaf.grad, np.ndarray)
        after.append([leaf.grad.rows, leaf.grad.values] if sparse else leaf.grad)
    return [norm, after]


def schedule_rates(options: dict, steps: int, reload_at: int = -1) -> list[float]:
    """The learning rate in force at each optimizer step."""
    from autodiff import optim

    made = optim.SGD(_leaves([np.zeros(1)]), learning_rate=99.0)
    schedule = optim.CosineSchedule(made, **options)
    rates = []
    for step in range(steps):
        if step == reload_at:
            state = schedule.state_dict()
            made = optim.SGD(_leaves([np.zeros(1)]), learning_rate=98.0)
            schedule = optim.CosineSchedule(made, **options)
            schedule.load_state_dict(state)
        rates.append(float(made.learning_rate))
        schedule.step()
    return rates


def adamw_steps(parameters: list, gradients: list, steps: int, rate: float) -> list[np.ndarray]:
    """The parameters after AdamW steps whose gradients are in turn g and -g / 2."""
    from autodiff import Tensor, optim

    leaves = [Tensor(array, requires_grad=True) for array in parameters]
    turns = [gradients, [-0.5 * gradient for gradient in gradients]]
    optimizer = optim.AdamW(leaves, rate)
    for step in range(steps):
        for leaf, gradient in zip(leaves, turns[step % 2], strict=True):
            leaf.grad = gradient
        optimizer.step()
    return [leaf.data for leaf in leaves]


def warm_up_optimizers() -> None:
    """Compile what AdamW may have compiled."""
    for dtype in (np.float32, np.float64):
        adamw_steps([np.ones((2, 2), dtype)], [np.ones((2, 2), dtype)], 1, 1e-3)


WARM_UP_TRAINING: dict[str, Callable[[], None]] = {"1.11": warm_up_optimizers}

# --- 1.12: activation checkpointing ------------------------------------------------------------


def _noise(x: Any, rng: np.random.Generator) -> Any:
    """Dropout, written out: task 1.12 does not need 1.10."""
    from autodiff import Tensor

    return x * Tensor((rng.random(x.shape) < 0.6).astype(x.dtype) / 0.6)


def checkpointed_network(
    x: np.ndarray, weights: list, upstream: np.ndarray, how: str, seed: int = 0,
    wanted: bool = True, passes: int = 1, frozen: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Blocks with weights in their closures: value and gradients, plain or checkpointed.

    how: "plain", "checkpoint", or "nested" (pairs of checkpointed blocks in a checkpoint);
    seed: 0 for no dropout; wanted: whether x needs a gradient; frozen: no weight needs one.
    """
    from autodiff import Tensor
    from autodiff.checkpoint import checkpoint

    rng = np.random.default_rng(seed)
    generators = [rng] if seed else []
    leaf = Tensor(x.copy(), requires_grad=wanted)
    tensors = [[Tensor(w.copy(), requires_grad=not frozen) for w in pair] for pair in weights]
    calls = [0]

    def block(h: Any, pair: list) -> Any:
        calls[0] += 1
        inner = (h @ pair[0]).gelu()
        return h + (_noise(inner, rng) if seed else inner) @ pair[1]

    def kept(function: Any, h: Any) -> Any:
        return function(h) if how == "plain" else checkpoint(function, h, generators=generators)

    def forward(h: Any) -> Any:
        if how != "nested":
            for pair in tensors:
                h = kept(lambda h, pair=pair: block(h, pair), h)
            return h
        for place in range(0, len(tensors), 2):
            one, two = tensors[place : place + 2]
            both = lambda h, one=one, two=two: kept(  # noqa: E731
                lambda g: block(g, two), kept(lambda g: block(g, one), h)
            )
            h = kept(both, h)
        return h

    values = []
    for _ in range(passes):
        value = forward(leaf)
        in_forward = calls[0]
        if value.requires_grad:
            value.backward(upstream)
        values.append(value.data)
    return {
        "values": values, "x": leaf.grad, "weights": [w.grad for pair in tensors for w in pair],
        "wants": value.requires_grad, "calls": [in_forward, calls[0]], "next draw": rng.random(3),
    }  # fmt: skip


def checkpoint_of_mixed_inputs(x: np.ndarray, w: np.ndarray, upstream: np.ndarray) -> dict:
    """A constant, a number, one tensor in two places, and no_grad, in one checkpoint each."""
    from autodiff import Tensor, no_grad
    from autodiff.checkpoint import checkpoint

    leaf, constant = Tensor(x.copy(), requires_grad=True), Tensor(w.copy())
    value = checkpoint(lambda a, b, c, n: (a * b).tanh() * c * n, leaf, constant, leaf, 3.0)
    value.backward(upstream)
    with no_grad():
        silent = checkpoint(lambda a: a * 2.0, leaf)
        outer = checkpoint(lambda a: a * 2.0, leaf).node
    dead = checkpoint(lambda a: a * 2.0, constant)
    once, second = checkpoint(lambda a: a * a, leaf), False
    once.backward(np.zeros(x.shape))
    try:
        once.backward(np.zeros(x.shape))
    except RuntimeError:
        second = True
    return {
        "value": value.data, "x": leaf.grad, "constant": constant.grad, "silent": silent.data,
        "flags": [silent.requires_grad, outer is not None, dead.requires_grad, second],
    }  # fmt: skip


class BlockChain:
    """A session: blocks whose insides are 16 times as large as their inputs, one call a block."""

    def __init__(self, x: np.ndarray, weights: list, checkpointed: bool) -> None:
        from autodiff import Tensor

        self.leaf = Tensor(x, requires_grad=True)
        self.weights = [[Tensor(w, requires_grad=True) for w in pair] for pair in weights]
        self.checkpointed = checkpointed
        self.value = self.leaf

    def block(self, place: int) -> None:
        """Run one more block forward."""
        from autodiff.checkpoint import checkpoint

        wide, narrow = self.weights[place]
        inside = lambda h: h + (((h @ wide).gelu() * 1.5).tanh() @ narrow)  # noqa: E731
        self.value = checkpoint(inside, self.value) if self.checkpointed else inside(self.value)
        _trim()

    def backward(self, scale: float) -> list[np.ndarray]:
        """Run backward; the gradients of x and of the weights."""
        value, self.value = self.value, None
        value.backward(np.full(value.shape, scale, np.float32))
        _trim()
        return [self.leaf.grad, *(w.grad for pair in self.weights for w in pair)]


def block_chain(x: np.ndarray, weights: list, checkpointed: bool) -> BlockChain:
    """Opens a BlockChain."""
    return BlockChain(x.copy(), [[w.copy() for w in pair] for pair in weights], checkpointed)


def _trim() -> None:
    """Have the C library give back what it keeps for later, where it can be told to."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass


def checkpointed_backward(x: np.ndarray, weights: list, scale: float) -> list[np.ndarray]:
    """Forward over checkpointed blocks and backward, for the peak of memory."""
    chain = block_chain(x, weights, checkpointed=True)
    for place in range(len(weights)):
        chain.block(place)
    return chain.backward(scale)
