"""Reading weights that may come from anywhere, never running code stored in them; and writing those of this project."""

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.errors import UserError
from distill.files import write_atomically

_MAGIC = (b"PK\x03\x04", b"\x80")  # how torch.save's files begin: a zip, or in old versions a binary pickle
_WRAPPERS = ("state_dict", "model", "model_state_dict")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads a state dict from a `.safetensors` or a PyTorch file, never running code stored in it.

    Args:
        path: The file. A PyTorch file may wrap the tensors in `state_dict` or `model`, or hold several networks by name
            beside other things, whose names become prefixes: `teacher.` and `student.` in training files of DINO. The
            traces of data parallelism, weight averaging and `torch.compile` are removed: the prefix `module.`, the
            counter `n_averaged`, and `_orig_mod.` at any depth.

    Raises:
        UserError: No such file, a file of another kind, one that holds pickled code or anything but tensors, or a
            damaged file.
    """
    content = _read(Path(path))
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            if others := [name for name, x in content.items() if name != key and _same_names(x, content[key])]:
                warnings.warn(
                    f"checkpoint {str(path)!r} holds weights under {key!r}, which are loaded, and the same names under "
                    f"{' and '.join(map(repr, others))}; write those to a file of their own to load them",
                    stacklevel=2,
                )
            content = content[key]
    state = dict(_tensors(content)) if isinstance(content, Mapping) else {}
    if not state:
        raise UserError(f"checkpoint {str(path)!r} is not a state dict; it must map parameter names to tensors")
    if any(name.startswith("module.") for name in state):
        state.pop("n_averaged", None)
    return {name.removeprefix("module.").replace("_orig_mod.", ""): tensor for name, tensor in state.items()}


def _same_names(one: object, other: Mapping[str, Any]) -> bool:
    """Whether both are state dicts of one network, such as its weights and their average."""
    return isinstance(one, Mapping) and bool(one) and one.keys() == other.keys()


def _tensors(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors under names, at any depth; those of an optimizer are numbered."""
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(name, str) and isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{name}.")


def read_training_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Everything that a training checkpoint (`checkpoints/*.ckpt`) holds, never running code stored in it.

    Raises:
        UserError: As `read_state_dict`, or the file is no training checkpoint.
    """
    content = _read(Path(path))
    if not isinstance(content, Mapping) or not {"global_step", "state_dict"} <= content.keys():
        raise UserError(f"{str(path)!r} is no training checkpoint; pass one of a run folder's checkpoints/*.ckpt")
    return content


def read_training_step(path: str | Path) -> int:
    """The optimizer step that a training checkpoint was written at.

    Raises:
        UserError: As `read_training_checkpoint`.
    """
    path = Path(path)
    _require(path)
    written = path.stat()
    return _training_step(path, written.st_mtime_ns, written.st_size, written.st_ino)


@lru_cache(maxsize=16)
def _training_step(path: Path, *written: int) -> int:
    """Read once for each state of a file, since the whole file is read for it."""
    return int(read_training_checkpoint(path)["global_step"])


def _require(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"checkpoint {str(path)!r} does not exist; check the path, or train or download it first")


def _read(path: Path) -> Any:
    _require(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        with path.open("rb") as file:
            if not file.read(4).startswith(_MAGIC):
                raise UserError(
                    f"{str(path)!r} is no checkpoint: torch.save did not write it, and a safetensors file is known by "
                    "its suffix .safetensors; pass a file of weights"
                )
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {str(path)!r} holds pickled Python objects, which can run code when loaded, and is refused; "
            "re-save only its tensors with torch.save(model.state_dict(), path)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint {str(path)!r} cannot be read ({reason}); copy or download it again") from error


def state_dict_mismatch(module: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Why `state` is not that of `module`: names missing or left over, the first other shape; None if it is."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} in the model"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        *([f"{len(missing)} of {len(own)} parameters are missing (first: {missing[0]})"] if missing else []),
        *([f"{len(unexpected)} names are unknown (first: {unexpected[0]})"] if unexpected else []),
        *shapes[:1],
    ]
    return "; ".join(problems) or None


def part_of(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str | Path
) -> tuple[str, dict[str, Tensor]]:
    """The part of a state dict that holds a network, wherever a larger one has it: under `model.`, `teacher.backbone.`.

    Args:
        state: From the file.
        own: The names that the network may have at the beginning of the part, with tensors of the shapes it has.
        source: The file, for the error.

    Returns:
        The prefix and the part without it, and without what lies elsewhere. Where less than a third of `own` is found
        under any one prefix, the whole state under the prefix "".

    Raises:
        UserError: Several parts fit as well, and their values differ.
    """
    found: dict[str, list[int]] = {}  # by prefix, the names that also have the shape, and all names
    for name, tensor in state.items():
        for start in (0, *(index + 1 for index, letter in enumerate(name) if letter == ".")):
            if (target := own.get(name[start:])) is not None:
                count = found.setdefault(name[:start], [0, 0])
                count[0] += target.shape == tensor.shape
                count[1] += 1
    best = max(found.values(), default=[0, 0])
    if not found or 3 * best[1] < len(own):
        return "", dict(state)
    prefixes = [prefix for prefix, count in found.items() if count == best]
    prefixes = [p for p in prefixes if not any(p != other and p.startswith(other) for other in prefixes)]
    parts = [{name.removeprefix(p): tensor for name, tensor in state.items() if name.startswith(p)} for p in prefixes]
    for part in parts[1:]:
        if any(name in part and not torch.equal(part[name], tensor) for name, tensor in parts[0].items()):
            raise UserError(
                f"checkpoint {str(source)!r} holds this network {len(prefixes)} times, under "
                f"{' and '.join(map(repr, sorted(prefixes)))}; write the one you mean to a file of its own"
            )
    return prefixes[0], parts[0]


def load_matching(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Loads `state`, or the one part of it that holds such a module, into `module`, every name and shape matching.

    Raises:
        UserError: A name is missing or left over, or a shape differs: the file belongs to another architecture. Or
            several parts fit.
    """
    own = module.state_dict()
    prefix, part = part_of(state, own, source)
    if problems := state_dict_mismatch(module, part):
        where = f", of which the part under {prefix!r} is nearest," if prefix else ""
        firsts = sorted({f"{name.split('.')[0]}." for name in state if "." in name})
        if own.keys().isdisjoint(part) and firsts:
            problems += f"; its names begin with {', '.join(firsts[:8])}{' ...' if len(firsts) > 8 else ''}"
        raise UserError(
            f"checkpoint {str(source)!r}{where} does not fit {type(module).__name__}: {problems}; "
            "use the architecture it was trained with, or another file"
        )
    module.load_state_dict(part)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text metadata of a `.safetensors` file; empty for any other file."""
    _require(Path(path))
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {str(path)!r} cannot be read ({error}); copy or download it again") from error


def write_weights(module: nn.Module, path: str | Path, metadata: Mapping[str, object]) -> None:
    """Writes the module's state dict as safetensors; metadata values that are not text become JSON."""
    # JSON knows no mappings but dict, which the empty `init_args` of the contract is not.
    text = {key: x if isinstance(x, str) else json.dumps(x, default=dict) for key, x in metadata.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    content = _in_one_order(save(tensors, text))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _in_one_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library's order differs between processes.

    Files of equal weights and metadata then have equal bytes.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def load_student(path: str | Path, build: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Rebuilds a student from a `student.safetensors`, architecture and weights, in eval mode.

    Args:
        path: The file.
        build: The student's class, or a function that builds it, called with the `init_args` that the file holds. Only
            needed for a student that is not of the package `students`: a file does not choose which code is imported.

    Raises:
        UserError: The file holds no student of this project and `build` is not given, it cannot be built, or the
            weights do not fit it.
    """
    state = read_state_dict(path)
    metadata = read_metadata(path)
    class_path = metadata.get("class", "")
    if build is None and not class_path.startswith("students."):
        held = f"holds {class_path}, a class that is not of this project" if class_path else "does not say its class"
        raise UserError(f"{str(path)!r} {held}; pass the class: load_student(path, YourStudent)")
    try:
        made: Callable[..., nn.Module] = resolve_name(class_path) if build is None else build
        student = made(**json.loads(metadata.get("init_args", "{}")))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        way_out = "update distill" if build is None else "pass a function that takes the file's init_args"
        raise UserError(f"{str(path)!r} holds a {class_path} that cannot be built: {error}; {way_out}") from error
    load_matching(student, state, path)
    return student.eval()


def digest(module: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of the module's state, as 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)  # a scalar cannot be viewed as bytes
        sha.update(flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return sha.hexdigest()[:16]
