"""What can go wrong, and the exit status that each kind stands for (DESIGN: 1 no, 2 not asked)."""

from __future__ import annotations

from collections.abc import Sequence


class Gpt149Error(Exception):
    """A sentence on what happened, the numbers, the next step. Shown without a traceback."""

    exit_status = 2


class InputError(Gpt149Error):
    """A value that was given (a flag, a prompt, a shape) cannot be used."""


class SeveralKernels(InputError):
    """A file holds several kernels, and none is named. names: of all of them."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = list(names)


class CheckpointError(Gpt149Error):
    """A model's files are missing, damaged or of another kind."""


class TokenizerError(Gpt149Error):
    """A vocabulary cannot be used, or lacks what a text needs."""


class BuildError(Gpt149Error):
    """A kernel could not be compiled or loaded. output: what the compiler said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class CannotSanitize(InputError):
    """A kernel's source cannot be compiled with sanitizers, though it can be without."""


class MissingDependency(Gpt149Error):
    """A package or program that this command needs is not installed."""


class MachineFault(Gpt149Error):
    """What this machine cannot do, for any kernel."""


class KernelDeclined(Gpt149Error):
    """The kernel said that it cannot do what the model needs."""

    exit_status = 1


class NoWorkspace(KernelDeclined):
    """The kernel asks for a workspace of negative size, or of more bytes than there are."""


class KernelRaised(Gpt149Error):
    """A kernel written in Python raised an exception, or returned no such tensor."""

    exit_status = 1


class NotFinite(Gpt149Error):
    """The model's logits are NaN or infinite, as a wrong kernel makes them."""

    exit_status = 1


class KernelCrashed(Gpt149Error):
    """The child process that ran a user's kernel died."""

    exit_status = 1
