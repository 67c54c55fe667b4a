"""Named tensors of a model's files, as float32 arrays: from safetensors, or from torch's files."""

from __future__ import annotations

import difflib
import io
import json
import pickle
import re
import shlex
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...errors import CheckpointError
from ...system.files import check_regular, reason
from ...system.mapping import mapped
from ...system.words import brief
from ..config import CONV1D, GPTConfig
from ..tokenizer import Tokenizer
from .pickles import check_cost

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Contents:
    """What the files of a model hold.

    read_tokenizer: gives the tokenizer or None, and raises TokenizerError if it cannot be used.
    ends: what the config says of the ids that end a text.
    """

    config: GPTConfig
    weights: Arrays
    read_tokenizer: Callable[[], Tokenizer | None]
    ends: tuple[int, ...] = ()


# Of safetensors' types, those that become float32; bfloat16 is the upper half of one.
STORED = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}
LARGEST_PICKLE = 64 << 20  # bytes without the tensors' data; GPT-2's with an optimizer has 0.1 MB
# Causal masks that some files carry as buffers.
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
# What wrappers write before a name: DataParallel, torch.compile, GPT2LMHeadModel; in any order.
PREFIXES = re.compile(r"(module\.|_orig_mod\.|transformer\.)*")


def read_safetensors(file: Path) -> Arrays:
    """The tensors of a safetensors file; float32 ones are mapped from it, not read.

    Raises:
        CheckpointError: it is missing, damaged, or holds what is no float.
    """
    size = check_regular(file, CheckpointError)
    try:
        return _mapped(file)
    except (SafetensorError, OSError, ValueError, ArithmeticError, MemoryError) as e:
        raise CheckpointError(
            f"{file} is damaged or incomplete ({size} bytes): {_first_line(e)}. Fetch it again."
        ) from e


def _mapped(file: Path) -> Arrays:
    """The tensors of a safetensors file: 8 bytes with the header's length, the header, the data."""
    with safe_open(file, framework="numpy"):  # checks the header against the file
        pass
    mapping = mapped(file)  # copy on write: torch warns of what is read-only
    memory = np.ndarray((len(mapping),), np.uint8, mapping)
    length = int.from_bytes(memory[:8].tobytes(), "little")
    header = json.loads(memory[8 : 8 + length].tobytes())
    arrays: Arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or MASK_BUFFER.fullmatch(bare(name)):
            continue
        if entry["dtype"] not in STORED:
            raise CheckpointError(f"{file}: {brief(name)} is {entry['dtype']}, not a float.")
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        stored = memory[first:last].view(STORED[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # an infinity is told where it does harm
            arrays[name] = stored.astype(np.float32, copy=False)
    return arrays


def read_torch(path: Path) -> Any:
    """What torch saved in a file: tensors and plain values, of which nothing is executed.

    Raises:
        CheckpointError: it is missing, damaged, or holds anything else.
    """
    check_regular(path, CheckpointError)
    import torch

    try:
        # Only torch's own zip files can be mapped; older ones are read.
        mapped = zipfile.is_zipfile(path)
        _check_pickles(path, mapped)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as e:
        named = re.search(r"GLOBAL (\S+)", str(e))
        if named and named[1].endswith(".GPTConfig"):
            raise CheckpointError(_way_out(path, named[1])) from e
        raise CheckpointError(
            f"{path} is no torch checkpoint of tensors and plain values: it holds "
            f"{named[1][:100] if named else 'other things'}. Nothing in it was executed."
        ) from e
    except Exception as e:  # damaged pickles raise every kind
        raise CheckpointError(
            f"{path} is not a torch checkpoint, or is damaged: {_first_line(e)}."
        ) from e


def _check_pickles(path: Path, zipped: bool) -> None:
    """Raise ValueError if unpickling would take for ever."""
    if not zipped:
        with path.open("rb") as file:
            pickles = io.BytesIO(file.read(LARGEST_PICKLE))
        for _ in range(5):  # magic number, version, system, the object, names of its storages
            check_cost(pickles)
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed")
            if entry.filename.endswith(".pkl"):
                with archive.open(entry) as part:
                    check_cost(io.BytesIO(part.read(LARGEST_PICKLE)))


def _way_out(path: Path, name: str) -> str:
    """build-nanogpt pickles an object of a class: a line that keeps its values, and runs nothing.

    It has nanoGPT's architecture, but for the tanh form of GELU.
    """
    module = name.rpartition(".")[0]
    line = (
        f'import torch; C = type("GPTConfig", (), {{"__module__": "{module}"}}); '
        "torch.serialization.add_safe_globals([C]); "
        f's = torch.load({json.dumps(str(path))}, map_location="cpu", weights_only=True); '
        'torch.save({"model": s["model"], "model_args": '
        '{**vars(s["config"]), "activation": "gelu_pytorch_tanh"}}, "ckpt.pt")'
    )
    return (
        f"{path} holds an object of the class {name}, as build-nanogpt saves one, and none is made "
        f"here. This writes the same model as ckpt.pt, and executes nothing of it:\n"
        f"$ python -c {shlex.quote(line)}"
    )


def as_arrays(weights: object, path: Path) -> Arrays:
    """Torch's tensors as arrays, float32 ones on the same memory.

    Raises:
        CheckpointError, which names the path: something is no float tensor with a name.
    """
    from torch import Tensor, strided

    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds no named tensors, but a {type(weights).__name__}.")
    arrays: Arrays = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} holds more than named tensors as its model.")
        if MASK_BUFFER.fullmatch(bare(name)):
            continue
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: {brief(name)} is {tensor.dtype}, not a float.")
        # A stride of 0 makes a large tensor of a few bytes: a copy would take what it pretends.
        plain = tensor.layout is strided and tensor.device.type == "cpu"
        if not plain or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: the tensor {brief(name)} is not stored whole.")
        arrays[name] = tensor.detach().float().numpy()
    return arrays


def bare(name: str) -> str:
    """A tensor's name without what wrappers wrote before it."""
    return name[PREFIXES.match(name).end() :]  # type: ignore[union-attr]


def by_bare_names(tensors: Arrays, path: Path) -> Arrays:
    """The tensors by their bare names; raises CheckpointError where two have the same."""
    found: dict[str, str] = {}
    for name in tensors:
        if (other := found.setdefault(bare(name), name)) != name:
            raise CheckpointError(
                f"{path} holds a tensor twice, as {brief(other)} and as {brief(name)}."
            )
    return {short: tensors[name] for short, name in found.items()}


def fitted(config: GPTConfig, tensors: Arrays, path: Path, *, conv1d: bool) -> Arrays:
    """The tensors that the config asks for, matrices (out, in), no copies.

    conv1d: the files hold those of GPT-2's Conv1D (in, out).

    Raises:
        CheckpointError, which names the path: one is missing, of another shape, or too many.
    """
    if config.tie_word_embeddings:  # whichever of the two is stored stands for both
        for one, other in (("lm_head.weight", "wte.weight"), ("wte.weight", "lm_head.weight")):
            if one not in tensors and other in tensors:
                tensors = {**tensors, one: tensors[other]}
    weights: Arrays = {}
    for name, shape in config.shapes():
        if name not in tensors:
            raise CheckpointError(
                f"{path} lacks the tensor '{name}' that its config asks for"
                f"{_nearest(name, tensors, config)}."
            )
        tensor = tensors[name]
        transposed = conv1d and CONV1D.fullmatch(name)
        stored = shape[::-1] if transposed else shape
        if tensor.shape != stored:
            raise CheckpointError(
                f"{path}: the tensor '{name}' has shape {tensor.shape}, its config asks for "
                f"{stored}."
            )
        weights[name] = tensor.T if transposed else tensor
    extra = [n for n in tensors if n not in weights]
    if extra:
        raise CheckpointError(
            f"{path} holds tensors that its config does not explain ({len(extra)}), such as "
            f"{brief(extra[0])}."
        )
    return weights


def _nearest(name: str, tensors: Iterable[str], config: GPTConfig) -> str:
    """What the files have in a tensor's place, perhaps: of those that nothing explains, if any."""
    there = [n for n in islice(tensors, 5000) if len(n) < 100]
    asked = {n for n, _ in islice(config.shapes(), 16 * len(there))}
    unexplained = [n for n in there if n not in asked]
    near = difflib.get_close_matches(name, unexplained or there, 1, cutoff=0)
    return f"; the nearest that is there is {brief(near[0])}" if near else ""


def _first_line(error: Exception) -> str:
    text = reason(error) if isinstance(error, OSError) else str(error)
    return text.strip().split("\n")[0].rstrip(".")[:200] or type(error).__name__
