"""Drivers of tasks 1.1 to 1.3: arrays in, arrays out. The student's package is imported inside."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

# ---- 1.1


def layouts(cases: list[dict[str, Any]]) -> list[Any]:
    """One answer a case: {"function", "shape", "strides", "offset"} and the function's argument.

    A layout comes back as its shape, strides and offset and the elements it picks from the buffer
    0, 1, …, size - 1; an exception that a case may ask for as the names of its classes.
    """
    return [_layout_answer(**case) for case in cases]


def _layout_answer(
    function: str, size: int, shape: Any, strides: Any, offset: int, argument: Any = None
) -> Any:
    from autodiff import strides as module

    layout = module.Layout(tuple(shape), tuple(strides), offset)
    if function == "contiguous_strides":
        return list(module.contiguous_strides(tuple(shape)))
    if function == "is_contiguous":
        return bool(module.is_contiguous(layout))
    if function == "slice_layout":
        argument = index_key(argument)
    elif argument is not None:
        argument = tuple(argument)
    try:
        found = layout
        if function == "chain":
            for name, step in argument:
                value = index_key(step) if name == "slice_layout" else tuple(step)
                found = getattr(module, name)(found, value)
        else:
            found = getattr(module, function)(layout, argument)
    except (ValueError, IndexError) as error:
        return {"error": [base.__name__ for base in type(error).__mro__], "text": str(error)[:300]}
    elements = module.as_array(np.arange(size), found)
    return {
        "shape": list(found.shape), "strides": list(found.strides), "offset": found.offset,
        "elements": np.array(elements),
    }  # fmt: skip


def index_key(entries: Any) -> Any:
    """A key from plain values: [kind, …] an entry; a list of one stands for itself, not a tuple."""
    made: list[Any] = []
    for kind, *values in entries:
        if kind == "slice":
            made.append(slice(*values))
        elif kind == "integer":
            made.append(values[0])
        elif kind == "numpy":
            made.append(np.int64(values[0]))
        elif kind == "list":
            made.append(list(values))
        else:
            made.append({"none": None, "ellipsis": ..., "true": True, "float": 1.0}[kind])
    return made[0] if len(made) == 1 else tuple(made)


# ---- 1.2


def _compile(module: str, calls: dict[str, tuple[Any, ...]]) -> None:
    """Compiles functions for the types of the arguments in `calls`, without running them."""
    import numba

    functions = vars(importlib.import_module(f"autodiff.{module}"))
    for name, arguments in calls.items():
        with contextlib.suppress(Exception):  # the tests will show it, where it can be read
            functions[name].compile(tuple(numba.typeof(value) for value in arguments))


def _types() -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    x, places = np.ones(2, np.float32), np.ones(1, np.int64)
    return x, places, (x, places, places, 0)


def compile_positions() -> None:
    """position_of and gather."""
    x, places, layout = _types()
    _compile("kernels", {"position_of": (0, places, places, 0), "gather": (*layout, 0, x)})


def compile_maps() -> None:
    """The kernels of maps."""
    x, _, layout = _types()
    _compile("kernels", {"map_contiguous": (0, x, x), "map_strided": (0, *layout, x)})
    _compile("block_operations", {"map_block": (0, x, x)})


def compile_zips() -> None:
    """The kernels of zips."""
    x, places, _ = _types()
    strided = (0, x, places, 0, x, places, 0, places, x)
    _compile("kernels", {"zip_contiguous": (0, x, x, x), "zip_strided": strided})
    _compile("block_operations", {"zip_block": (0, x, x, x)})


def compile_reductions() -> None:
    """The kernels of reductions."""
    x, _, layout = _types()
    _compile("kernels", {"reduce_contiguous": (0, x, 1, x), "reduce_strided": (0, *layout, x)})
    _compile("block_operations", {"fold_rows": (0, x, 1, x)})


def use_threads(count: int) -> None:
    """Let numba use `count` threads; the harness lets it have two, whatever the machine has."""
    import numba

    numba.set_num_threads(count)


def positions(cases: list[dict[str, Any]]) -> list[list[int]]:
    """kernels.position_of for every index of each layout."""
    from autodiff import kernels

    return [
        [
            int(kernels.position_of(index, np.array(c["shape"]), np.array(c["strides"]), c["offset"]))
            for index in c["indices"]
        ]
        for c in cases
    ]


def gathered(cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """kernels.gather of `count` elements from `start` on; what lies behind them is a trap."""
    from autodiff import kernels

    results = []
    for case in cases:
        out = np.full(case["count"] + 1, -7.0, np.float32)
        kernels.gather(
            case["buffer"], np.array(case["shape"]), np.array(case["strides"]), case["offset"],
            case["start"], out[: case["count"]],
        )  # fmt: skip
        results.append(out)
    return results


def laid_out_again(array: np.ndarray, layout: str) -> np.ndarray:
    """An array equal to `array` with the strides that `layout` names; gaps hold NaN."""
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    if layout == "strided" and array.ndim:
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
        wide[..., 1::2] = array
        return wide[..., 1::2]
    if layout == "rows apart" and array.ndim:
        wide = np.full((*array.shape[:-1], array.shape[-1] + 3), np.nan, array.dtype)
        wide[..., :-3] = array
        return wide[..., :-3]
    return array.copy()


def element_wise(cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """Maps (one array), zips (two) and reductions ("axis"), by the parallel kernels or the library.

    kernel: call the parallel kernel, also for arrays so small that the library would not.
    """

    return [_prepared(case)() for case in cases]


def _prepared(case: dict[str, Any]) -> Callable[[], np.ndarray]:
    """A case whose arrays are laid out: a function that computes its result anew at each call."""
    from autodiff import block_operations, kernels

    layouts = case.get("layouts", ["plain"] * len(case["arrays"]))
    arrays = [laid_out_again(a, x) for a, x in zip(case["arrays"], layouts, strict=True)]
    name = case["name"]
    if not case.get("kernel"):
        function = getattr(kernels, case["function"])
        options = {key: case[key] for key in ("axis", "keepdims") if key in case}
        return lambda: function(name, *arrays, **options)
    if case["function"] == "map_array":
        run, code, shape = kernels.run_map, block_operations.MAPS[name], arrays[0].shape
    elif case["function"] == "zip_arrays":
        run, code = kernels.run_zip, block_operations.ZIPS[name]
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        arrays = [np.broadcast_to(array, shape) for array in arrays]
    else:
        run, code = kernels.run_reduce, block_operations.REDUCTIONS[name]
        arrays = [np.moveaxis(arrays[0], case["axis"], -1)]
        shape = arrays[0].shape[:-1]

    def result() -> np.ndarray:
        out = np.full(shape, np.nan, np.float32)
        run(code, *arrays, out)
        return out

    return result


def two_threads(case: dict[str, Any], times: int) -> list[np.ndarray]:
    """A case of `element_wise`, `times` times over with two threads; the first and last result."""
    use_threads(2)
    function = _prepared(case)
    results = [function() for _ in range(times)]
    return [results[0], results[-1]]


def add_repeatedly(a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    """a + b + b + … by zip_arrays, one thread."""
    import numba

    from autodiff import kernels

    numba.set_num_threads(1)
    for _ in range(times):
        a = kernels.zip_arrays("add", a, b)
    return a


# ---- 1.3


def compile_panels() -> None:
    """The pieces of the matrix product."""
    x, block = np.ones((1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    _compile("matmul_kernel", {
        "scratch": (1,), "pack_b": (x, 0, 1, 0, 1, x), "pack_a": (x, 0, 1, block),
        "micro_kernel": (block[0], x, x, 1),
    })  # fmt: skip


def compile_products() -> None:
    """The matrix products."""
    x = np.ones((1, 1), np.float32)
    _compile("matmul_kernel", {"blocked_kernel": (x, x, x), "register_kernel": (x, x, x)})


def packed_b(b: np.ndarray, cases: list[list[int]]) -> list[np.ndarray]:
    """What pack_b makes of b[p0:p1, j0:j1] for each [p0, p1, j0, j1], in scratch full of NaN."""
    from autodiff import matmul_kernel

    results = []
    for p0, p1, j0, j1 in cases:
        packed = matmul_kernel.scratch(matmul_kernel.INNER)
        packed[:] = np.nan
        matmul_kernel.pack_b(b, p0, p1, j0, j1, packed)
        results.append(packed[: p1 - p0 + matmul_kernel.DEPTH, : j1 - j0 + 1].copy())
    return results


def packed_a(a: np.ndarray, cases: list[list[int]]) -> list[np.ndarray]:
    """What pack_a makes of a[:, p0:p1] for each [p0, p1], in an array full of NaN."""
    from autodiff import matmul_kernel

    rows, depth = matmul_kernel.ROWS, matmul_kernel.DEPTH
    results = []
    for p0, p1 in cases:
        shape = (-(-a.shape[0] // rows), -(-(p1 - p0) // depth), rows, depth)
        packed = np.full(shape, np.nan, np.float32)
        matmul_kernel.pack_a(a, p0, p1, packed)
        results.append(packed)
    return results


def micro_products(cases: list[dict[str, Any]]) -> list[np.ndarray]:
    """micro_kernel of each a (blocks, ROWS, DEPTH) and b, in sums full of NaN; one column beyond."""
    from autodiff import matmul_kernel

    results = []
    for case in cases:
        packed = matmul_kernel.scratch(matmul_kernel.INNER)
        sums = matmul_kernel.scratch(matmul_kernel.ROWS)
        packed[:], sums[:] = np.nan, np.nan
        b = case["b"]
        packed[: b.shape[0], : b.shape[1]] = b
        matmul_kernel.micro_kernel(case["a"], packed, sums, b.shape[1])
        results.append(sums[:, : b.shape[1] + 1].copy())
    return results


def products(kind: str, pairs: list[list[Any]], layouts: list[str] | None = None) -> list[np.ndarray]:
    """matmul_blocked or matmul_register of each pair."""
    from autodiff import matmul_kernel

    function = getattr(matmul_kernel, f"matmul_{kind}")
    first, second = layouts or ["plain", "plain"]
    return [function(laid_out_again(a, first), laid_out_again(b, second)) for a, b in pairs]


def product_chain(kind: str, a: np.ndarray, b: np.ndarray, times: int) -> np.ndarray:
    """a @ b @ b @ …, each product by matmul_blocked or matmul_register.

    Where b is wider than high, each product but the last keeps as many columns as b has rows.
    """
    from autodiff import matmul_kernel

    function = getattr(matmul_kernel, f"matmul_{kind}")
    for _ in range(times):
        a = function(np.ascontiguousarray(a[:, : b.shape[0]]), b)
    return a


# A task's own entry is compiled for each of its tests; the rest for those that ask for it by
# @pytest.mark.warm_up(…), because compiling everything takes ten seconds.
WARM_UP_KERNELS = {
    "1.2": compile_positions,
    "1.2 maps": compile_maps,
    "1.2 zips": compile_zips,
    "1.2 reductions": compile_reductions,
    "1.3": compile_panels,
    "1.3 products": compile_products,
}
