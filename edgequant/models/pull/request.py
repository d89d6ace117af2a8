"""What is asked of a hub: an id, a revision, and which of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from edgequant.core.artefact import Recipe
from edgequant.core.errors import HubNotFoundError

Kind = Literal["model", "dataset"]

STAGE = "pull"
# Raise it when other files are chosen for the same request.
RECIPE = 1
DEFAULT_REVISION = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_ID = re.compile(rf"(?:{_PART}/)?{_PART}")
_FULL_ID = re.compile(rf"{_PART}/{_PART}(?:@[^@]+)?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")


@dataclass(frozen=True)
class PullRequest:
    """What to pull."""

    id: str
    """``org/name``; a few old ones have no organization."""
    revision: str = DEFAULT_REVISION
    """A branch, a tag or a commit hash."""
    kind: Kind = "model"
    files: tuple[str, ...] = ()
    """Patterns of file names or paths; none: what a conversion (or a data set's reader) needs."""
    pickles: bool = False
    """Also weights as pickles, which can run code when they are loaded."""
    code: bool = False
    """Also programs; nothing here runs them."""

    def __post_init__(self) -> None:
        """Check id and revision: they become parts of paths and addresses.

        Raises:
            HubNotFoundError: one of them cannot be one.
        """
        if not _ID.fullmatch(self.id) or "--" in self.id or ".." in self.id:
            raise HubNotFoundError(
                f"{self.id!r} is no id of a {self.kind} on a hub",
                next_step="an id looks like org/name, and org/name@revision",
            )
        parts = PurePosixPath(self.revision).parts
        plain = _REVISION.fullmatch(self.revision) and not self.revision.endswith("/")
        if not plain or any(part.startswith(".") for part in parts):
            raise HubNotFoundError(
                f"{self.revision!r} is no name of a revision",
                subject=self.id,
                next_step="give a branch, a tag or a commit hash",
            )

    @property
    def name(self) -> str:
        """The repository's name, without its organization."""
        return self.id.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """As it is typed."""
        at = "" if self.revision == DEFAULT_REVISION else f"@{self.revision}"
        return f"{self.id}{at}"

    @property
    def names_commit(self) -> bool:
        """The revision is a whole commit hash: what it stands for never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    def recipe(self) -> Recipe:
        """What the record of a finished pull is found by."""
        parameters: dict[str, object] = {
            "recipe": RECIPE,
            "id": self.id,
            "revision": self.revision,
            "kind": self.kind,
            "files": list(self.files),
            "pickles": self.pickles,
            "code": self.code,
        }
        return Recipe(STAGE, {}, parameters)


def split_id(text: str) -> tuple[str, str]:
    """Id and revision of ``ID[@REVISION]``."""
    name, at, revision = text.partition("@")
    return name, revision if at else DEFAULT_REVISION


def looks_like_id(text: str) -> bool:
    """Whether a text has the form ``org/name`` or ``org/name@revision``."""
    return _FULL_ID.fullmatch(text) is not None
