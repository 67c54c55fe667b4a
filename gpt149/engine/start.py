"""Which engine runs a model with a kernel, and how it is made."""

from __future__ import annotations

import logging

from ..errors import InputError
from ..kernels.build import build_all
from ..kernels.loaders.contract import ContractKernel
from ..kernels.registry import Kernel, compiled, load, locate, to_build
from ..model.checkpoint import Checkpoint
from ..system.threads import checked_threads, processors
from .choices import DTYPES, ENGINES
from .protocol import Engine

log = logging.getLogger(__name__)


def prepare(
    *specs: str, engine: str = "auto", dtype: str = "float32", kv_cache: bool = True
) -> list[Kernel]:
    """The kernels that `specs` name, compiled side by side with the engine that is to run them.

    The arguments are those of `start`. Raises as it.
    """
    from . import binding, sampling

    sources = [locate(spec) for spec in specs]
    targets = [to_build(source) for source in sources if source.loader == "contract"]
    kernels = [target for target in targets if target]
    if kernels:
        ours = all(source.loader in ("contract", "library") for source in sources)
        native = engine != "torch" and kv_cache and dtype in DTYPES and ours
        build_all([*kernels, *(binding.to_build(dtype) if native else [sampling.to_build()])])
    return [load(source, compiled(source)) for source in sources]


def start(
    checkpoint: Checkpoint,
    kernel: Kernel | str,
    *,
    decode_kernel: Kernel | str | None = None,
    engine: str = "auto",
    n_threads: int | None = None,
    n_ctx: int | None = None,
    br: int = 0,
    bc: int = 0,
    dtype: str = "float32",
    kv_cache: bool = True,
    kv_dtype: str = "auto",
) -> Engine:
    """An engine with an empty sequence.

    Args:
        checkpoint: the model.
        kernel: a kernel, its name or its file.
        decode_kernel: another for decode steps, which follow a prefill with one token a sequence.
        engine: one of ENGINES; auto takes the native one for every call that it can make: kernels
            of the contract, with a KV cache.
        n_threads: at most, and in the native engine no more than there are processors; None: so
            many.
        n_ctx: a context shorter than the model's.
        br: queries a tile, 0 for the kernel's choice.
        bc: keys a tile, likewise.
        dtype: of the weights, one of DTYPES.
        kv_cache: False recomputes every token at every step.
        kv_dtype: of the KV cache, one of KV_DTYPES; auto: bf16 beside weights in fewer bits than
            float32, if the kernel reads it, for then reading the cache is much of a decode step.

    Raises:
        InputError: a value that means nothing, or the engine cannot do what is asked.
        BuildError, MissingDependency: the kernel or the engine cannot be compiled.
    """
    if engine not in ENGINES or dtype not in DTYPES:
        raise InputError(f"engine is {engine!r} of {ENGINES}, dtype {dtype!r} of {DTYPES}.")
    if decode_kernel is not None and not kv_cache:
        raise InputError(
            "a kernel for decode steps needs the KV cache: without it every step is a prefill."
        )
    given = [kernel] if decode_kernel is None else [kernel, decode_kernel]
    names = [one for one in given if isinstance(one, str)]
    prepared = iter(prepare(*names, engine=engine, dtype=dtype, kv_cache=kv_cache))
    kernels = [next(prepared) if isinstance(one, str) else one for one in given]
    strange = [one for one in kernels if one.adapted or not isinstance(one, ContractKernel)]
    problem = ""
    if engine == "torch":
        problem = "the torch engine runs float32 only"
    elif strange:
        problem = f"'{strange[0].name}' is no kernel of the contract"
    elif not kv_cache:
        problem = "it always has a KV cache"
    if problem and (engine == "native" or dtype != "float32"):
        wanted = "the native engine" if engine == "native" else f"weights in {dtype}"
        raise InputError(f"{wanted} cannot be had here: {problem}.")

    if not problem:
        from .native import NativeEngine, reads_bfloat16

        ours = [one for one in kernels if isinstance(one, ContractKernel)]
        if kv_dtype == "auto":
            short = dtype != "float32" and all(
                reads_bfloat16(one, checkpoint.config.head_dim) for one in ours
            )
            kv_dtype = "bf16" if short else "float32"
        asked, most = checked_threads(n_threads), processors()
        if asked > most:  # they would wait for each other, twenty times a token
            log.warning("%d threads are asked for; %d have a processor, and work", asked, most)
        return NativeEngine(
            checkpoint, ours[0], decode_kernel=ours[-1], n_threads=min(asked, most), n_ctx=n_ctx,
            br=br, bc=bc, dtype=dtype, kv_dtype=kv_dtype,
        )  # fmt: skip
    import torch

    from ..kernels.dispatch import Attention
    from .torch import TorchEngine

    attention = Attention(kernels[0], n_threads=n_threads, br=br, bc=bc)
    torch.set_num_threads(attention.n_threads)
    kv_dtype = "float32" if kv_dtype == "auto" else kv_dtype
    return TorchEngine(
        checkpoint.model, attention, decode_kernel=kernels[-1], n_ctx=n_ctx, kv_cache=kv_cache,
        kv_dtype=kv_dtype,
    )  # fmt: skip
