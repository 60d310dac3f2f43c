"""A GPU without a GPU: tensors compute on the CPU, and operations that mix devices fail as they would on one.

Each storage has a device. Factories make tensors on the CPU unless they are told otherwise, `to` and `cuda` move them,
and what an operation returns is where its arguments are. `Tensor.device` says "cuda:0" of a moved tensor, so that code
takes the path of a GPU. Values are real: shapes that depend on values, such as those after non-maximum suppression,
are right, where a "meta" or a fake tensor has none.

Two modes share the work. `VirtualDevice` sees what Python asks for: devices as arguments, `Tensor.device`, moves.
`_Checked` sees every operation below, those of the backward pass and of C++ included, and compares the devices.

Not seen: what reads the memory of a tensor by itself, and kernels that only a GPU runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
aten = torch.ops.aten

# Take tensors of two devices.
_MOVES = {aten.copy_.default, aten._to_copy.default, aten._has_compatible_shallow_copy_type.default}
# Take the indices of elements from the CPU, too, in a tensor on any device.
_INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
}


class WrongDevice(AssertionError):
    """An operation has tensors of two devices."""


class _Checked(TorchDispatchMode):
    """Refuses operations on two devices, and remembers where results are."""

    def __init__(self, owner: "VirtualDevice") -> None:
        super().__init__()
        self._owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [*_tensors((args, kwargs))]
        place = self._owner.place_of(func, given)
        result = func(*args, **kwargs)
        known = {_key(x) for x in given if _has_storage(x)}
        for made in _tensors(result):
            if _has_storage(made) and _key(made) not in known:
                self._owner.put(made, place)
        return result


class VirtualDevice(TorchFunctionMode):
    """While it is entered, there is a device "cuda:0" beside the CPU."""

    _there: ClassVar[dict[int, StorageWeakRef]] = {}  # of all instances, because the project keeps some tensors

    def __init__(self) -> None:
        super().__init__()
        self._checked = _Checked(self)
        # Of each call, the device that it asks for, else its arguments: C++ makes further tensors where these are.
        self._asked: list[Any] = [()]

    def __enter__(self) -> "VirtualDevice":
        self._grouped = torch._C._group_tensors_by_device_and_dtype
        torch._C._group_tensors_by_device_and_dtype = self._groups  # type: ignore[assignment]
        self._run_backward = torch.autograd._engine_run_backward
        torch.autograd._engine_run_backward = self._backward  # type: ignore[attr-defined]
        self._checked.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._checked.__exit__(*error)
        torch.autograd._engine_run_backward = self._run_backward  # type: ignore[attr-defined]
        torch._C._group_tensors_by_device_and_dtype = self._grouped  # type: ignore[assignment]

    def _groups(self, lists: Any, with_indices: bool) -> dict[Any, Any]:
        """What optimizers and clipping take together; C++ would call every device the CPU."""
        found: dict[Any, Any] = {}
        for (_, dtype), (group, indices) in self._grouped(lists, with_indices).items():
            places = [self.device(x) for x in group[0]]
            for place in dict.fromkeys(places):
                there = [index for index, other in enumerate(places) if other == place]
                parts = [[part[index] for index in there] if part else [] for part in group]
                found[place, dtype] = (parts, [indices[index] for index in there] if indices else [])
        return found

    def device(self, x: Tensor) -> torch.device:
        """Where a tensor is."""
        if not _has_storage(x):
            return x.device
        return CUDA if _key(x) in self._there else CPU

    def put(self, x: Tensor, device: torch.device) -> None:
        """Says where a tensor is, and all that share its memory."""
        if device == CUDA:
            # The weak reference keeps the key from being given to another storage.
            self._there[_key(x)] = StorageWeakRef(x.untyped_storage())
        else:
            self._there.pop(_key(x), None)
        if len(self._there) % 4096 == 4095:
            for key in [key for key, ref in self._there.items() if ref.expired()]:
                del self._there[key]

    def place_of(self, func: Any, given: list[Tensor]) -> torch.device:
        """Where the results of an operation are.

        Raises:
            WrongDevice: Its arguments are on two devices.
        """
        asked = self._asked[-1] if isinstance(self._asked[-1], torch.device) else None
        if not given:
            return asked or (CUDA if any(self.device(x) == CUDA for x in _tensors(self._asked[-1])) else CPU)
        if func in _MOVES:
            return asked or self.device(given[0])
        first, *others = given
        if func in _INDEXING:
            others = [x for x in others if self.device(x) != CPU]  # indices and a single value
        found = {self.device(x) for x in (first, *others) if not _is_number(func, x, self.device(x))}
        if len(found) > 1:
            shapes = ", ".join(f"{tuple(x.shape)} on {self.device(x).type}" for x in given)
            raise WrongDevice(f"{func} has tensors of two devices: {shapes}")
        return (asked if _makes_alike(func) else None) or (found.pop() if found else self.device(first))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _READS:
            return _READS[func](self.device(args[0]))
        if func.__name__ == "__get__":
            return func(*args, **kwargs)
        if func in _TO_HOST and self.device(args[0]) != CPU:
            raise WrongDevice(f"{func.__name__} of a tensor on {self.device(args[0])}; copy it to the CPU first")
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._moved(func, args, kwargs)
        device = kwargs.get("device")
        if device is not None:
            device = kwargs["device"] = torch.device(device)
            if device.type == "cuda":
                kwargs["device"], device = CPU, CUDA
        elif func is Tensor.new_tensor:
            device = self.device(args[0])
        result = self._called(func, args, kwargs, device)
        if device is not None and isinstance(result, Tensor) and self.device(result) != device:
            return _Move.apply(result, self, device)
        return result

    def _backward(self, roots: Any, *args: Any, **kwargs: Any) -> Any:
        """Stays entered in the backward pass, where functions written in Python run."""
        super().__enter__()
        try:
            with self._at(roots):
                return self._run_backward(roots, *args, **kwargs)
        finally:
            super().__exit__(None, None, None)

    def _called(self, func: Any, args: Any, kwargs: Any, device: torch.device | None) -> Any:
        with self._at((args, kwargs) if device is None else device):
            return func(*args, **kwargs)

    @contextmanager
    def _at(self, asked: Any) -> Iterator[None]:
        self._asked.append(asked)
        try:
            yield
        finally:
            self._asked.pop()

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        x, *rest = args
        as_asked = partial(func, *args, **kwargs)
        if func is Tensor.cpu:
            device, dtype, kwargs = CPU, None, {}
        elif func is Tensor.cuda:
            device, dtype, kwargs = CUDA, None, {}
        elif (rest and isinstance(rest[0], Tensor)) or "other" in kwargs:
            other = kwargs.pop("other", None)
            other, rest = (rest[0], rest[1:]) if other is None else (other, rest)
            device, dtype = self.device(other), other.dtype
        else:
            words = [*rest, kwargs.pop("device", None), kwargs.pop("dtype", None)]
            dtype = next((word for word in words if isinstance(word, torch.dtype)), None)
            asked = next((word for word in words if isinstance(word, str | int | torch.device)), None)
            rest = [word for word in rest if isinstance(word, bool)]
            device = self.device(x) if asked is None else torch.device(asked)
        device = CUDA if device.type == "cuda" else device
        if device.type == "meta" or x.is_meta:
            return as_asked()
        with self._at(self.device(x)):
            if dtype is not None or kwargs:
                x = x.to(dtype or x.dtype, *rest, **kwargs)
        return x if self.device(x) == device else _Move.apply(x, self, device)


class _Move(torch.autograd.Function):
    """A copy on another device; the gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: VirtualDevice, device: torch.device) -> Tensor:
        ctx.owner, ctx.source = owner, owner.device(x)
        return _copy(x, owner, device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _copy(grad, ctx.owner, ctx.source), None, None


def _copy(x: Tensor, owner: VirtualDevice, device: torch.device) -> Tensor:
    copied = x.detach().clone()
    owner.put(copied, device)
    return copied


_READS: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device.__get__: lambda device: device,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda device: device.type == "cuda",  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda device: device.type == "cpu",  # type: ignore[attr-defined]
    Tensor.get_device: lambda device: -1 if device.type == "cpu" else 0,
}
_TO_HOST = {Tensor.numpy, Tensor.__array__}


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from _tensors(part)
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from _tensors(part)


def _key(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def _has_storage(x: Tensor) -> bool:
    return x.layout is torch.strided and not x.is_meta


def _is_number(func: Any, x: Tensor, device: torch.device) -> bool:
    """A tensor of one number on the CPU goes into elementwise operations anywhere."""
    return device == CPU and x.ndim == 0 and (torch.Tag.pointwise in func.tags or func in _INDEXING)


def _makes_alike(func: Any) -> bool:
    """Whether an operation takes only the shape and the type of its argument."""
    name = func._schema.name
    return name.endswith("_like") or name.startswith("aten::new_")
