"""Files of questions: of this machine, or pulled from a hub."""

from __future__ import annotations

from pathlib import Path

from edgequant.experiment.file import EvaluationSection, QuestionsSection
from edgequant.models.pull.pull import find_pulled, pull


def question_file(section: QuestionsSection) -> Path:
    """The file, which is pulled unless it was before.

    Raises:
        HubNotFoundError, HubAccessError, HubUnreachableError, HubAnswerError: it cannot be pulled.
    """
    if section.dataset is None:
        assert section.questions is not None, "one of them is named"
        return section.questions
    return pull(section.dataset.request, refresh=False).file(section.dataset.file)


def find_question_file(section: QuestionsSection) -> Path | None:
    """What :func:`question_file` would give, where it is there; no network is used."""
    if section.dataset is None:
        path = section.questions
        return path if path is not None and path.exists() else None
    found = find_pulled(section.dataset.request)
    return None if found is None else found.file(section.dataset.file)


def shown(section: QuestionsSection) -> str:
    """The file in words, where it may not be there."""
    if section.dataset is None:
        return str(section.questions)
    return f"{section.dataset.request.shown} {section.dataset.file}"


def question_files(evaluation: EvaluationSection) -> dict[str, Path]:
    """The files of all tasks, by what tells them apart; raises as :func:`question_file`."""
    if evaluation.has_questions:
        path = question_file(evaluation)
        return {path.name: path}
    files = {task.name: question_file(task) for task in evaluation.task}
    return {f"{name} {path.name}": path for name, path in files.items()}
