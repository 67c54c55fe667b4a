"""Kernels that keep the contract of csrc/gpt149.h: compiled, loaded and described here."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref
from pathlib import Path

from ...errors import BuildError, InputError, KernelDeclined, NoWorkspace
from ...system.words import one_line
from .. import abi

INT32_MAX = 2**31 - 1
MOST_KERNELS = 256  # of a file


class ContractKernel:
    """A native kernel: its descriptor, and `run` on a filled `abi.Args`.

    A call releases the GIL, so several threads may run one kernel at once.
    """

    def __init__(self, entry: abi.KernelEntry, built_for: bytes, owner: object) -> None:
        """owner: what holds its code, and lives as long as it."""
        self.adapted = False  # calls are made of others for it: said by whoever knows the source
        self.entry, self._owner = entry, owner
        name, idea, memory, isa = (
            one_line(text.decode(errors="replace"))
            for text in (entry.name, entry.idea, entry.memory, built_for)
        )
        self.name, self.idea, self.memory, self.isa = name, idea, f"O({memory})", isa
        self.features = abi.Feature(entry.features)

    def workspace_bytes(self, args: abi.Args) -> int:
        """Bytes of workspace for a call of this shape; the pointers in `args` are not read.

        Raises:
            NoWorkspace: it says a negative number.
        """
        n_bytes: int = self.entry.workspace_bytes(byref(args))
        if n_bytes < 0:
            raise NoWorkspace(
                f"workspace_bytes of the kernel '{self.name}' returns {n_bytes}, and must return 0 "
                "or more: does it compute in 64 bits?"
            )
        return n_bytes

    def run(self, args: abi.Args) -> None:
        """Make the call.

        Raises:
            KernelDeclined: it claims not all that the call needs, or says that it cannot, and why.
        """
        check_claims(self.name, self.features, abi.needs(args))
        why = self.entry.run(byref(args))
        if why is not None:
            shape = (
                f"batch={args.batch} n_head={args.n_head} n_kv_head={args.n_kv_head} "
                f"head_dim={args.head_dim} n_q={args.n_q} n_kv={args.n_kv} causal={args.causal}. "
            )
            raise declined(self.name, why, shape)


def declined(kernel: str, why: bytes, shape: str = "") -> KernelDeclined:
    """The error for what a kernel's `run` returned."""
    reason = one_line(why.decode(errors="replace")).rstrip(".")
    return KernelDeclined(
        f"the kernel '{kernel}' declines this call: {reason}. {shape}Choose another kernel."
    )


def check_claims(
    kernel: str, claimed: abi.Feature, needed: abi.Feature, *, others: str = ""
) -> None:
    """Raise KernelDeclined where a kernel does not claim all that a call needs.

    others: what to choose besides a kernel.
    """
    missing = needed & ~claimed
    if not missing:
        return
    features = [feature for feature in abi.Feature if feature & missing]
    words = " and ".join(abi.IN_WORDS[feature] for feature in features)
    flags = " | ".join(f"GPT149_{feature.name}" for feature in features)
    raise KernelDeclined(
        f"the kernel '{kernel}' does not claim to compute what this call asks for: {words}. Choose "
        f"another kernel{others}; a kernel of yours that does compute it claims it by {flags} in "
        "GPT149_KERNEL."
    )


def check_tiles(br: int, bc: int) -> None:
    """Raise InputError unless the struct can carry these tile sizes."""
    if not 0 <= min(br, bc) <= max(br, bc) <= INT32_MAX:
        raise InputError(f"tile sizes are br={br}, bc={bc}, and must be from 0 to 2^31 - 1.")


def open_library(path: Path, source: str) -> list[ContractKernel]:
    """The kernels of a shared library that was made of `source` (its name, for messages).

    Nothing of it is called, and nothing is read that cannot be.

    Raises:
        BuildError: the library does not load, or it holds no kernels of this ABI.
    """
    try:
        library = ctypes.CDLL(str(path))
        table = abi.Table.in_dll(library, "gpt149_kernels")
    except OSError as e:
        made = "" if path.name == Path(source).name else "compiled, but "
        raise BuildError(f"{source} {made}does not load: {e}.") from e
    except ValueError as e:
        raise BuildError(
            f"{source} exports no table of kernels, gpt149_kernels. End the file with "
            'GPT149_KERNEL({"name", "idea", "memory", workspace_bytes, run}), or give it a '
            "function of q, k, v, out and sizes (docs/lab.md, Other signatures)."
        ) from e
    return kernels_of(table, library, source)


def kernels_of(table: abi.Table, owner: object, source: str) -> list[ContractKernel]:
    """The kernels of a table, which may hold anything.

    Raises:
        BuildError: it is of another ABI, or its pointers lead nowhere.
    """
    if table.abi_version != abi.ABI_VERSION:
        raise BuildError(
            f"{source} was written for version {table.abi_version} of gpt149.h, this is version "
            f"{abi.ABI_VERSION}. Include the gpt149.h that comes with this gpt149."
        )
    sizes = ctypes.sizeof(abi.Args), ctypes.sizeof(abi.KernelEntry)
    if (table.args_size, table.kernel_size) != sizes:
        raise BuildError(
            f"{source}: its table says that gpt149_args has {table.args_size:,} bytes and "
            f"gpt149_kernel {table.kernel_size:,}, and they have {sizes[0]} and {sizes[1]}. Take "
            "the structs from the gpt149.h (.rs, .zig) that comes with this gpt149."
        )
    if not 0 < table.n_kernels <= MOST_KERNELS:
        raise BuildError(
            f"{source}: its table says that it holds {table.n_kernels:,} kernels, and must hold 1 "
            f"to {MOST_KERNELS}. End the file with GPT149_KERNEL(...), which counts them."
        )
    _check_pointer(table, "kernels", "its table", source, table.n_kernels * sizes[1])
    _check_pointer(table, "isa", "its table", source)
    entries = [table.kernels[i] for i in range(table.n_kernels)]
    for i, entry in enumerate(entries):
        for name, _ in abi.KernelEntry._fields_:
            if name != "features":
                _check_pointer(entry, name, f"kernel {i} of its table", source)
        if unknown := entry.features & ~sum(abi.Feature):
            raise BuildError(
                f"{source}: kernel {i} of its table claims features {unknown:#x}, which gpt149.h "
                "does not know. They are a sum (|) of GPT149_WINDOW and the like."
            )
    kernels = [ContractKernel(entry, table.isa, owner) for entry in entries]
    if len({kernel.name for kernel in kernels}) != len(kernels):
        raise BuildError(f"{source}: two kernels of its table have the same name.")
    return kernels


def _check_pointer(
    struct: ctypes.Structure, field: str, what: str, source: str, n_bytes: int = 1
) -> None:
    """Raise BuildError unless a field of a struct points to memory that can be read."""
    place = ctypes.addressof(struct) + getattr(type(struct), field).offset
    address = ctypes.c_void_p.from_address(place).value
    if not address:
        raise BuildError(f"{source}: {what} leaves a field empty (NULL): {field}.")
    read, write = os.pipe()
    try:  # the system reads it for us, and says if it cannot
        os.write(write, (ctypes.c_char * n_bytes).from_address(address))
    except OSError as e:
        raise BuildError(
            f"{source}: {field} of {what} is {address:#x}, where there is no memory."
        ) from e
    finally:
        os.close(read)
        os.close(write)
