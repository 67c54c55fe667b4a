"""Named tensors of a model's files, as float32 arrays: from safetensors, or from torch's files."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...errors import CheckpointError
from ..config import CONV1D, GPTConfig

Arrays = dict[str, NDArray[np.float32]]

# Of safetensors' types, those that become float32; bfloat16 is the upper half of one.
STORED = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}
# Causal masks that some files carry as buffers.
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")


def read_safetensors(file: Path) -> Arrays:
    """The tensors of a safetensors file; float32 ones are mapped from it, not read.

    Raises:
        CheckpointError: it is missing, damaged, or holds what is no float.
    """
    try:
        return _mapped(file)
    except (SafetensorError, OSError, ValueError) as e:
        size = file.stat().st_size if file.is_file() else 0
        raise CheckpointError(
            f"{file} is damaged or incomplete ({size} bytes): {e}. Fetch it again."
        ) from e


def _mapped(file: Path) -> Arrays:
    """The tensors of a safetensors file: 8 bytes with the header's length, the header, the data."""
    with safe_open(file, framework="numpy"):  # checks the header against the file
        pass
    memory = np.memmap(file, np.uint8, "c")  # copy on write: torch warns of what is read-only
    length = int.from_bytes(memory[:8].tobytes(), "little")
    header = json.loads(memory[8 : 8 + length].tobytes())
    arrays: Arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or MASK_BUFFER.fullmatch(name.removeprefix("transformer.")):
            continue
        if entry["dtype"] not in STORED:
            raise CheckpointError(f"{file}: '{name}' is {entry['dtype']}, not a float.")
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        stored = memory[first:last].view(STORED[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = stored.astype(np.float32, copy=False)
    return arrays


def read_torch(path: Path) -> Any:
    """What torch saved in a file: tensors and plain values, of which nothing is executed.

    Raises:
        CheckpointError: it is damaged, or holds anything else.
    """
    import torch

    try:
        # Only torch's own zip files can be mapped; older ones are read.
        mapped = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as e:
        named = re.search(r"GLOBAL (\S+)", str(e))
        raise CheckpointError(
            f"{path} is no torch checkpoint of tensors and plain values: it holds "
            f"{named[1] if named else 'other things'}. Nothing in it was executed."
        ) from e
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as e:
        reason = str(e).strip().split("\n")[0] or "it ends too early."
        raise CheckpointError(f"{path} is not a torch checkpoint, or is damaged: {reason}") from e


def as_arrays(weights: Mapping[Any, Any], path: Path) -> Arrays:
    """Torch's tensors as arrays, float32 ones on the same memory.

    Raises:
        CheckpointError, which names the path: something is no float tensor with a name.
    """
    from torch import Tensor

    arrays: Arrays = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} holds more than named tensors as its model.")
        if MASK_BUFFER.search(name):
            continue
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: '{name}' is {tensor.dtype}, not a float.")
        arrays[name] = tensor.detach().float().numpy()
    return arrays


def without_prefix(tensors: Arrays, prefix: str, path: Path) -> Arrays:
    """The tensors by their bare names; raises CheckpointError where both forms of one are there."""
    bare = {name.removeprefix(prefix): t for name, t in tensors.items()}
    if len(bare) != len(tensors):
        raise CheckpointError(f"{path} holds tensors twice, with and without '{prefix}'.")
    return bare


def fitted(config: GPTConfig, tensors: Arrays, path: Path, *, conv1d: bool) -> Arrays:
    """The tensors that the config asks for, matrices (out, in), no copies.

    conv1d: the files hold those of GPT-2's Conv1D (in, out).

    Raises:
        CheckpointError, which names the path: one is missing, of another shape, or too many.
    """
    if config.tie_word_embeddings and "wte.weight" in tensors:
        tensors = {"lm_head.weight": tensors["wte.weight"], **tensors}
    weights: Arrays = {}
    for name, shape in config.shapes().items():
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the tensor '{name}' that its config asks for.")
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
            f"'{extra[0]}'."
        )
    return weights
