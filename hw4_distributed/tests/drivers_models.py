"""Small torch modules that workers train and the trusted side trains again. torch only."""

from __future__ import annotations

from typing import Any

WIDTH = 8


def _chains(seed: int) -> dict[str, Any]:
    """Makers of modules without blocks, by kind."""
    import torch
    from torch import nn

    class Chain(nn.Module):
        def __init__(self, widths: list[int]) -> None:
            super().__init__()
            pairs = zip(widths[:-1], widths[1:], strict=True)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

        def forward(self, x: torch.Tensor, use: str = "") -> torch.Tensor:
            for layer in self.layers:
                x = torch.tanh(layer(x.to(layer.weight.dtype)))
            return x

    class Tied(Chain):
        def __init__(self) -> None:
            super().__init__([WIDTH] * 4)
            self.layers[2].weight = self.layers[0].weight
            self.layers[1].weight.requires_grad_(False)

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(WIDTH, WIDTH)
            self.left = nn.Linear(WIDTH, 5, bias=False)
            self.right = nn.Linear(WIDTH, 3)
            self.head = nn.Linear(8, 2)
            self.never = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor, use: str = "left right") -> torch.Tensor:
            x = torch.tanh(self.trunk(x))
            found = {"left": x.new_zeros(len(x), 5), "right": x.new_zeros(len(x), 3)}
            for name in use.split():
                if name in found:
                    found[name] = getattr(self, name)(x)
            joined = torch.cat([found["left"], found["right"]], 1)
            return joined[:, :2] if "headless" in use else self.head(torch.sin(joined))

    class Buffers(Chain):
        def __init__(self) -> None:
            super().__init__([WIDTH] * 3)
            self.register_buffer("scale", torch.tensor(1.0 + seed % 7))
            self.register_buffer("counter", torch.tensor(seed))

        def forward(self, x: torch.Tensor, use: str = "") -> torch.Tensor:
            return super().forward(x) * self.scale

    return {
        "chain": lambda: Chain([WIDTH] * 5), "wide": lambda: Chain([WIDTH, 13, 3, 10, 2]),
        "tied": Tied, "branches": Branches, "mixed": lambda: Chain([WIDTH] * 4), "buffers": Buffers,
        "one": lambda: Chain([WIDTH, 3]),
    }  # fmt: skip


def _stacks() -> dict[str, Any]:
    """Makers of modules with blocks (`module.blocks`), by kind."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inner: int) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.ones(WIDTH))
            self.first = nn.Linear(WIDTH, inner)
            self.second = nn.Linear(inner, WIDTH)

        def forward(self, x: torch.Tensor, use: str = "") -> torch.Tensor:
            seen = self.second(torch.tanh(self.first(x)))
            return x + (seen * self.gate if "gate" in use else seen)

    class Stack(nn.Module):
        def __init__(self, inner: list[int]) -> None:
            super().__init__()
            self.embedding = nn.Linear(WIDTH, WIDTH)
            self.blocks = nn.ModuleList(Block(width) for width in inner)
            self.head = nn.Linear(WIDTH, WIDTH, bias=False)

        def forward(self, x: torch.Tensor, use: str = "") -> torch.Tensor:
            x = torch.sin(self.embedding(x))
            for block in self.blocks:
                x = block(x, use)
            return torch.tanh(x) if "headless" in use else self.head(torch.tanh(x))

    def tied() -> nn.Module:
        stack = Stack([WIDTH] * 3)
        stack.blocks[0].second.weight = stack.head.weight
        stack.blocks[2].first.weight = stack.blocks[1].first.weight
        stack.blocks[1].second.weight.requires_grad_(False)
        stack.embedding.bias.requires_grad_(False)
        return stack

    return {"stack": lambda: Stack([5, 13, 7]), "tied stack": tied}


def build_module(kind: str, seed: int, dtype: str = "float64") -> Any:
    """A module by kind, its weights by seed; the same in every process. Kinds:

    chain: four linear layers of 8 → 8 with biases. wide: layers of other sizes. tied: the first
    weight is the last one too, and one weight is frozen. branches: a trunk, two branches of which
    each call uses some, in the order asked for, and a head; one parameter is never used. mixed:
    chain whose second layer has float32 weights. buffers: chain with a buffer and a counter. stack:
    embedding, three residual blocks of other sizes, head; "gate" and "headless" in `use` say what
    a call uses. tied stack: weights shared by two blocks, and by a block and the head; some frozen.
    """
    import torch

    module = {**_chains(seed), **_stacks()}[kind]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 * drawn)
    module = module.to(getattr(torch, dtype))
    if kind == "mixed":
        module.layers[1].to(torch.float32)
    return module


def large_stack(width: int, blocks: int, seed: int) -> Any:
    """A module of `blocks` float32 matrices of width × width, one after the other, with tanh."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, generator: torch.Generator) -> None:
            super().__init__()
            drawn = torch.randn(width, width, generator=generator)
            self.weight = nn.Parameter(drawn.mul_(width**-0.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x @ self.weight)

    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(*(Layer(generator) for _ in range(blocks)))


def loss_of(output: Any, targets: Any) -> Any:
    """The mean over rows of the squared distance; targets: (rows, more columns than needed)."""
    error = output.double() - targets[:, : output.shape[1]].double()
    return error.square().sum(1).mean()
