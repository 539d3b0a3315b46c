"""Task 5.11: several versions of the weights in one process, swapped while requests run.

A request begins on one version and ends on it: it *pins* that version. New weights are staged
beside the ones in use, looked at, and only then made active, between two steps; from then on they
answer new requests. The version before stays, so that a rollback takes no loading. Older ones are
let go with the last request that is pinned to them.

Threads. `stage` may run in any thread while another one runs steps: it touches no tensor of another
version, and holds the lock only to put the finished one in. All else is a few look-ups under the
same lock. A model that `model` gave is whole and never changes. `activate` and `rollback` are for
the engine to call between steps, so that its queue and the active version change together.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from serving.model import Llama


class WeightsError(ValueError):
    """A state or a change of versions that is refused; nothing has changed."""


def state_checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state, 64 hexadecimal digits; what its publisher sends along.

    Names in sorted order; for each of them four parts: its UTF-8, the dtype ("float32"), the
    shape ("3x4", "" for a scalar), the values' bytes, row by row. Each part comes after its own
    length in bytes, as 8 bytes little-endian. Layout in memory does not count: a transposed view
    has the checksum of its copy.
    """
    # BEGIN SOLUTION 5.11
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        kind, shape = str(tensor.dtype).removeprefix("torch."), "x".join(map(str, tensor.shape))
        for part in (name.encode(), kind.encode(), shape.encode(), memoryview(values)):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()
    # END SOLUTION


@dataclass
class LoadedVersion:
    """A version in memory: its model, the requests pinned to it, whether it goes with the last.

    label: never the same twice, while a name may be given again to other weights.
    """

    model: Llama
    label: str
    users: int = 0
    leaving: bool = False


def without_weights(model: Llama) -> Llama:
    """Given: the model's modules with no memory behind their parameters (device "meta")."""
    empty: dict[int, Tensor] = {}
    for tensor in model.state_dict(keep_vars=True).values():
        blank = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            blank = nn.Parameter(blank, requires_grad=False)
        empty[id(tensor)] = blank
    return copy.deepcopy(model, empty)


class VersionedWeights:
    """Versions by name. One is active; one may be `previous`; others are staged, or leaving."""

    def __init__(self, model: Llama, version: str) -> None:
        """The model becomes `version`, as it is, not copied; it is active."""
        self._lock = threading.Lock()
        self._count = 0
        self._loaded: dict[str, LoadedVersion] = {}
        self._put_in(version, model)
        self._active = version
        self._previous: str | None = None
        self._blueprint = without_weights(model)

    @property
    def active(self) -> str:
        """The version that new requests get."""
        return self._active

    @property
    def previous(self) -> str | None:
        """The version that `rollback` goes back to."""
        return self._previous

    @property
    def versions(self) -> list[str]:
        """All that are in memory, in the order in which they came; leaving ones too."""
        with self._lock:
            return list(self._loaded)

    def model(self, version: str) -> Llama:
        """A loaded version's model, leaving ones too; KeyError where there is none."""
        with self._lock:
            return self._loaded[version].model

    def namespace(self, version: str) -> str:
        """What names this version's keys and values in the prefix cache: nobody else's, ever.

        The version's own name would not do: of a version that has gone, blocks may still lie in the
        cache, and its name may be staged again with other weights. KeyError where there is none.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            return self._loaded[version].label
        # END SOLUTION

    def stage(self, version: str, state: Mapping[str, Tensor], checksum: str) -> None:
        """Load a version beside the others; it gets no requests yet, save those that name it.

        Raises WeightsError, and changes nothing, for a name in use (also a leaving one); names
        that the model lacks or the state does; a value that is no tensor; other shapes or dtypes
        than the model's; nan or infinite values; another checksum. The message says which.
        Each value is read once, copied, and its copy is checked: the state may load its tensors one
        by one from a file, and what the caller does with them afterwards, or meanwhile, changes no
        version. Costs one copy of the state.
        """
        # BEGIN SOLUTION 5.11
        self._check_unused(version)
        wanted = self._blueprint.state_dict()
        missing = sorted(wanted.keys() - state.keys())
        unknown = sorted(state.keys() - wanted.keys())
        if missing or unknown:
            raise WeightsError(f"version {version!r}: missing {missing}, unknown {unknown}")
        own = {name: checked_copy(name, state[name], like) for name, like in wanted.items()}
        found = state_checksum(own)
        if found != checksum:
            raise WeightsError(f"version {version!r}: checksum {found}, expected {checksum}")
        model = copy.deepcopy(self._blueprint)
        model.load_state_dict(own, assign=True)
        with self._lock:
            self._check_unused(version)  # another thread may have been faster
            self._put_in(version, model)
        # END SOLUTION

    def _check_unused(self, version: str) -> None:
        # BEGIN SOLUTION 5.11
        if version in self._loaded:
            raise WeightsError(f"version {version!r} is in use")
        # END SOLUTION

    def _put_in(self, version: str, model: Llama) -> None:
        """Given: keep a version; the lock is held. Its label is one that none had before."""
        model.eval().requires_grad_(False)
        self._loaded[version] = LoadedVersion(model, f"{version}#{self._count}")
        self._count += 1

    def activate(self, version: str) -> None:
        """New requests get this version; the one that was active becomes `previous`.

        The `previous` one of before, if it is another, leaves: it takes no new requests, and is let
        go when nobody is pinned to it, at once if nobody is now. Staged versions that were never
        active stay. To activate the active version changes nothing. KeyError where the version is
        not loaded, or leaving.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            self._serving(version)
            if version == self._active:
                return
            older = self._previous
            self._previous, self._active = self._active, version
            if older is not None and older != version:
                self._leave(older)
        # END SOLUTION

    def rollback(self) -> str:
        """Make `previous` active again; the one that was active leaves. Returns the active name.

        There is no `previous` after it: a second alarm must not bring the bad version back. Raises
        WeightsError where there is none.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            if self._previous is None:
                raise WeightsError(f"there is no version before {self._active!r} to go back to")
            bad, self._active, self._previous = self._active, self._previous, None
            self._leave(bad)
            return self._active
        # END SOLUTION

    def acquire(self, version: str | None = None) -> str:
        """Pin a new request to a version, by default the active one; returns its name.

        KeyError where it is not loaded, or leaving.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            name = self._active if version is None else version
            self._serving(name).users += 1
            return name
        # END SOLUTION

    def release(self, version: str) -> None:
        """A request pinned to the version has ended; the last one lets a leaving version go.

        KeyError where it is not loaded, ValueError where nobody is pinned to it.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            loaded = self._loaded[version]
            if loaded.users < 1:
                raise ValueError(f"nobody is pinned to version {version!r}")
            loaded.users -= 1
            self._let_go_if_unused(version)
        # END SOLUTION

    def drop(self, version: str) -> None:
        """Let a version leave: a staged one that is not wanted, or `previous`, to save its memory.

        WeightsError for the active one; KeyError where it is not loaded, or leaving already.
        """
        # BEGIN SOLUTION 5.11
        with self._lock:
            self._serving(version)
            if version == self._active:
                raise WeightsError(f"version {version!r} is active; activate another one first")
            if version == self._previous:
                self._previous = None
            self._leave(version)
        # END SOLUTION

    def _serving(self, version: str) -> LoadedVersion:
        """The version, if new requests may have it. The lock is held."""
        # BEGIN SOLUTION 5.11
        loaded = self._loaded.get(version)
        if loaded is None or loaded.leaving:
            raise KeyError(f"version {version!r} is not loaded")
        return loaded
        # END SOLUTION

    def _leave(self, version: str) -> None:
        """No new requests for it any more. The lock is held."""
        # BEGIN SOLUTION 5.11
        self._loaded[version].leaving = True
        self._let_go_if_unused(version)
        # END SOLUTION

    def _let_go_if_unused(self, version: str) -> None:
        """Forget a leaving version that nobody is pinned to. The lock is held."""
        # BEGIN SOLUTION 5.11
        loaded = self._loaded[version]
        if loaded.leaving and not loaded.users:
            del self._loaded[version]
        # END SOLUTION


def checked_copy(name: str, tensor: object, like: Tensor) -> Tensor:
    """A contiguous copy; WeightsError for no tensor, another shape or dtype, values not finite."""
    # BEGIN SOLUTION 5.11
    if not isinstance(tensor, Tensor):
        raise WeightsError(f"{name} is {type(tensor).__name__}, not a tensor")
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise WeightsError(
            f"{name}: {tuple(tensor.shape)} {tensor.dtype}, "
            f"the model has {tuple(like.shape)} {like.dtype}"
        )
    copied = tensor.detach().clone(memory_format=torch.contiguous_format)
    if not bool(torch.isfinite(copied).all()):
        raise WeightsError(f"{name} has nan or infinite values")
    return copied
    # END SOLUTION
