"""Opens an exported file in the runtime of its kind: onnxruntime, OpenVINO, or PyTorch for `.pt2`.

Each library is imported when a file of its kind is opened.
"""

import os
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, first_line
from distill.exported.facts import INT8, METADATA_KEY, OUTPUTS, ExportedFacts
from distill.exported.pt2_program import read_pt2, read_pt2_facts

_SIZES = 4  # of images, that an OpenVINO model is compiled for at once
SUFFIXES = (".onnx", ".xml", ".pt2")

Outputs = dict[str, NDArray[Any]]


class Session(Protocol):
    """An open file."""

    facts: ExportedFacts

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        """Outputs by name.

        Args:
            image: RGB (1, 3, H, W) in [0, 1], H and W multiples of `facts.stride`, and `facts.smallest` at least.
            size: Height and width of the part that is not padding.

        Raises:
            UserError: The file does not take an image of that size, or the runtime cannot compute it.
        """


def is_exported(path: str | PathLike[str]) -> bool:
    """Whether a path is called like an exported file, and is no folder."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()


def open_session(path: str | PathLike[str], *, threads: int | None = None, exact: bool = True) -> Session:
    """Opens a file that `distill export` wrote, on the CPU.

    Args:
        path: An .onnx, the .xml of an OpenVINO model, or a .pt2.
        threads: CPU threads; by default OMP_NUM_THREADS where that is set, else what the runtime chooses.
        exact: Whether OpenVINO computes in float32 where the processor has bfloat16, too. The others always do.

    Raises:
        UserError: There is no such file, its runtime is not installed, it cannot be read, or no `distill export` of a
            known version wrote it.
    """
    file = Path(path)
    if not is_exported(file):
        raise UserError(f"{file} is no exported file; their names end in {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    threads = threads or _threads_of_environment()
    if file.suffix.lower() == ".onnx":
        return OnnxSession(file, threads)
    if file.suffix.lower() == ".xml":
        return OpenvinoSession(file, threads, exact)
    return TorchSession(file, threads)


class OnnxSession:
    """An ONNX file in onnxruntime. Arguments and errors: see `open_session`."""

    def __init__(self, path: Path, threads: int | None) -> None:
        runtime = _library("onnxruntime", path, "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes of onnxruntime have no base of their own
            raise _unreadable(path, first_line(error)) from error
        self.facts = ExportedFacts.from_json(self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path)
        self._path = path
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._outputs = [one.name for one in self._session.get_outputs()]

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        """See `Session`."""
        _require_size(self._path, self.facts, image)
        try:
            values = self._session.run(None, _chosen(self._inputs, image, size))
        except Exception as error:
            raise _failed(self._path, image, first_line(error)) from error
        return dict(zip(self._outputs, values, strict=True))


class OpenvinoSession:
    """An OpenVINO model. Arguments and errors: see `open_session`.

    A model in float32 is compiled once for images of all sizes, and for a size when that comes a second time: it is
    faster then. One in int8 is compiled for each size at once, because OpenVINO 2026.4 miscalculates convolutions in
    int8 whose size it does not know.
    """

    def __init__(self, path: Path, threads: int | None, exact: bool) -> None:
        openvino = _library("openvino", path, "openvino")
        self._core = openvino.Core()
        # Not pinned to a core, which others may be busy on.
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        self._settings |= {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}
        self._settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        try:
            self._model = self._core.read_model(path)
            known = self._model.has_rt_info([METADATA_KEY])
            text = self._model.get_rt_info([METADATA_KEY]).astype(str) if known else None
            self.facts = ExportedFacts.from_json(text, path)
            self._for_all = None if self.facts.precision == INT8 else self._compiled(self._model)
        except RuntimeError as error:
            raise _unreadable(path, openvino_reason(error)) from error
        self._by_size: dict[tuple[int, ...], Any] = {}  # None of a size that was seen once
        self._path = path
        self._inputs = {one.get_any_name() for one in self._model.inputs}
        self._outputs = [one.get_any_name() for one in self._model.outputs]

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        """See `Session`."""
        _require_size(self._path, self.facts, image)
        try:
            values = self._compiled_for(image.shape)(_chosen(self._inputs, image, size))
        except RuntimeError as error:
            raise _failed(self._path, image, openvino_reason(error)) from error
        return {name: np.array(value) for name, value in zip(self._outputs, values.values(), strict=True)}

    def _compiled(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._settings)

    def _compiled_for(self, shape: tuple[int, ...]) -> Any:
        """The model for images of a shape."""
        if self._by_size.get(shape) is None:
            if self._for_all is not None and shape not in self._by_size:
                self._by_size[shape] = None
                return self._for_all
            while len(self._by_size) > _SIZES:
                del self._by_size[next(iter(self._by_size))]
            model = self._model.clone()
            model.reshape({"image": list(shape)})
            self._by_size[shape] = self._compiled(model)
        return self._by_size[shape]


class TorchSession:
    """A program of torch.export. Arguments and errors: see `open_session`."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self._torch: Any = _library("torch", path, None)
        self.facts = read_pt2_facts(path)
        if threads:
            self._torch.set_num_threads(threads)
        self._program = read_pt2(path)
        self._path = path

    def run(self, image: NDArray[np.float32], size: tuple[int, int]) -> Outputs:
        """See `Session`."""
        _require_size(self._path, self.facts, image)
        torch = self._torch
        inputs = [torch.from_numpy(image)]
        inputs += [torch.tensor(size)] if self.facts.image_size is not None else []
        try:
            with torch.inference_mode():
                values = [value.numpy() for value in self._program(*inputs)]
        except (RuntimeError, AssertionError) as error:
            raise _failed(self._path, image, first_line(error)) from error
        names = OUTPUTS[self.facts.kind] or [f"map_{number}" for number in range(len(values))]
        return dict(zip(names, values, strict=True))


def _chosen(names: set[str], image: NDArray[np.float32], size: tuple[int, int]) -> dict[str, Any]:
    """The inputs that a graph has; one that does not read the size has no input for it."""
    given: dict[str, Any] = {"image": image, "size": np.array(size, np.int64)}
    return {name: given[name] for name in names}


def _threads_of_environment() -> int | None:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else None


def _library(name: str, path: Path, extra: str | None) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        way_out = "pip install distill-rs" if extra is None else f"pip install 'distill-rs[{extra}]'"
        raise UserError(f"{path} needs {name}, which is not installed: {way_out}") from error


def openvino_reason(error: Exception) -> str:
    """The last line of an error of OpenVINO that is not a place in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Check ", "Exception from ", "While "))]
    return (said or lines or [type(error).__name__])[-1].rstrip(".")


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be opened: {reason}; export it again")


def _require_size(path: Path, facts: ExportedFacts, image: NDArray[np.float32]) -> None:
    """Refuses what runtimes would refuse each in its own words, or compute wrongly."""
    height, width = image.shape[-2:]
    if min(height, width) < facts.smallest or height % facts.stride or width % facts.stride:
        raise UserError(
            f"{path} does not take an image of {width}x{height}: its sides are {facts.smallest} px or more, in "
            f"multiples of {facts.stride}; pad it"
        )


def _failed(path: Path, image: NDArray[np.float32], reason: str) -> UserError:
    height, width = image.shape[-2:]
    return UserError(f"{path} fails on an image of {width}x{height}: {reason}")
