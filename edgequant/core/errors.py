"""One class for each kind of failure, one exit code for each class.

An error names the cause, the file or board it concerns, and the next step. Its class says whose
fault it is, since whoever walks over many machines retries some failures and never the others.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["user", "infrastructure"]


class EdgequantError(Exception):
    """Base of every error that edgequant raises on purpose.

    Args:
        cause: what went wrong, one sentence.
        subject: the file, board or address it concerns.
        next_step: what the user can do about it.
    """

    exit_code: ClassVar[int] = 1
    fault: ClassVar[Fault] = "user"
    """``infrastructure``: it may go away when tried later or elsewhere, as an unreachable board, a
    full disk or a port in use may. ``user``: the same input fails in the same way everywhere."""

    def __init__(
        self, cause: str, *, subject: object | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.subject = None if subject is None else str(subject)
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [f"{self.subject}: {self.cause}" if self.subject else self.cause]
        if self.next_step:
            parts.append(f"Next step: {self.next_step}")
        return "\n".join(parts)

    def as_dict(self) -> dict[str, object]:
        """The error as plain values, for ``--json``."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "fault": self.fault,
            "cause": self.cause,
            "subject": self.subject,
            "next_step": self.next_step,
        }


class ArtefactError(EdgequantError):
    """A stored artefact is damaged, or of another schema version."""

    exit_code = 3
    fault = "user"


# 10 to 19: what the user handed in.
class ModelFolderError(EdgequantError):
    """A Hugging Face folder is missing, incomplete or of an unsupported kind."""

    exit_code = 10
    fault = "user"


class GgufError(EdgequantError):
    """A GGUF file is missing, truncated or damaged."""

    exit_code = 11
    fault = "user"


class TokenizerMismatchError(EdgequantError):
    """The GGUF's tokenizer disagrees with the Hugging Face tokenizer."""

    exit_code = 12
    fault = "user"


class DataSetError(EdgequantError):
    """A question file is missing or has a bad line."""

    exit_code = 13
    fault = "user"


class ExperimentError(EdgequantError):
    """An experiment file is missing or invalid."""

    exit_code = 14
    fault = "user"


class ProfileError(EdgequantError):
    """A board profile is unknown or invalid."""

    exit_code = 15
    fault = "user"


class PromptError(EdgequantError):
    """A prompt file is unknown or invalid."""

    exit_code = 16
    fault = "user"


class QuantizationError(EdgequantError):
    """An unknown quantization type, or llama-quantize failed."""

    exit_code = 17
    fault = "user"


class ConversionError(EdgequantError):
    """The converter failed on the model folder."""

    exit_code = 18
    fault = "user"


class DataFrameError(EdgequantError):
    """A table handed in (latency, answers) lacks what is needed."""

    exit_code = 19
    fault = "user"


# 20 to 29: building.
class SourceError(EdgequantError):
    """The llama.cpp source is missing, has another hash, or is unsafe to unpack."""

    exit_code = 20
    fault: ClassVar[Fault] = "user"


class BuildError(EdgequantError):
    """Configuring or compiling failed."""

    exit_code = 21
    fault = "user"


class AuditError(EdgequantError):
    """A built binary is not what the target needs."""

    exit_code = 22
    fault = "user"


class ToolMissingError(EdgequantError):
    """A program or Python package that this step needs is not installed."""

    exit_code = 23
    fault = "infrastructure"


class TargetError(EdgequantError):
    """An unknown build target."""

    exit_code = 24
    fault = "user"


class DownloadError(SourceError):
    """The package index does not answer, or what it sent was cut off."""

    exit_code = 25
    fault = "infrastructure"


# 30 to 39: the board.
class BoardUnreachableError(EdgequantError):
    """The board does not answer, or the connection broke and did not come back."""

    exit_code = 30
    fault = "infrastructure"


class HostKeyError(EdgequantError):
    """The board's host key is unknown or has changed."""

    exit_code = 31
    fault = "user"


class AuthenticationError(EdgequantError):
    """The board refuses the key."""

    exit_code = 32
    fault = "user"


class RemoteCommandError(EdgequantError):
    """A command on the board failed."""

    exit_code = 33
    fault = "infrastructure"


class TransferError(EdgequantError):
    """A file did not arrive whole on the board."""

    exit_code = 34
    fault = "infrastructure"


class BoardSpaceError(EdgequantError):
    """Too little free space on the board."""

    exit_code = 35
    fault = "infrastructure"


class VirtualBoardError(EdgequantError):
    """The virtual board could not be made, started or stopped."""

    exit_code = 36
    fault = "infrastructure"


class ProbeError(EdgequantError):
    """The probe failed on the board, or printed what cannot be parsed."""

    exit_code = 40
    fault = "user"


class MirrorError(EdgequantError):
    """What answers did not start, stopped early, or answered wrongly."""

    exit_code = 50
    fault: ClassVar[Fault] = "infrastructure"


class PortInUseError(EdgequantError):
    """The port asked for is taken."""

    exit_code = 51
    fault = "infrastructure"


class MirrorGoneError(MirrorError):
    """What answers is not there any more: its process ended, or its address is silent."""

    exit_code = 52
    fault = "infrastructure"


class MirrorRefusedError(MirrorError):
    """What answers refuses a key, a model or a prompt, and would again."""

    exit_code = 53
    fault = "user"


# 54 to 59: a Hugging Face hub.
class HubNotFoundError(EdgequantError):
    """The hub has no such model, data set, revision or file, or hides it."""

    exit_code = 54
    fault = "user"


class HubAccessError(EdgequantError):
    """The hub does not let this user have it: it is gated, or the token is wrong."""

    exit_code = 55
    fault = "user"


class HubUnreachableError(EdgequantError):
    """The hub does not answer, or breaks off again and again."""

    exit_code = 56
    fault = "infrastructure"


class HubAnswerError(EdgequantError):
    """What the hub sends is damaged, unsafe, or nothing that a hub sends."""

    exit_code = 57
    fault = "infrastructure"


class DiskFullError(EdgequantError):
    """The disk of this machine is full."""

    exit_code = 60
    fault = "infrastructure"


class FileAccessError(EdgequantError):
    """A file or folder of this machine cannot be read or written, or something is in its place."""

    exit_code = 61
    fault = "user"


class InternalError(EdgequantError):
    """A mistake of edgequant itself: the traceback is in the log that the message names."""

    exit_code = 70
    fault = "user"
