"""The worker loop: what fails is tried again, what is gone is done without, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from edgequant.answers.mirrors.mirror import Completion
from edgequant.answers.prompts import Message
from edgequant.answers.work import CHANCES, DEATHS, Wanted, work
from edgequant.core.errors import EdgequantError, MirrorError, MirrorGoneError, MirrorRefusedError

Behave = Callable[[str], None]


class Scripted:
    """Answers a prompt with itself, after whatever the script does."""

    gives_token_ids = True

    def __init__(self, behave: Behave = lambda prompt: None) -> None:
        self.behave = behave
        self.asked: list[str] = []
        self.stopped = threading.Event()

    def apply_template(self, messages: Sequence[Message]) -> str:
        return messages[0]["content"]

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        return [*text.encode()]

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        assert isinstance(prompt, str)
        self.asked.append(prompt)
        self.behave(prompt)
        return Completion([7], [prompt.encode()], prompt, "eos", 1, None, None)

    def stop(self) -> None:
        self.stopped.set()


def wanted(count: int) -> list[Wanted]:
    return [
        Wanted(f"question {n}", [{"role": "user", "content": f"p{n}"}], 8) for n in range(count)
    ]


def failing(error: Exception, *, at: str, times: int = 1_000) -> Behave:
    left = [times]

    def behave(prompt: str) -> None:
        if prompt == at and left[0]:
            left[0] -= 1
            raise error

    return behave


def test_each_is_had_once_and_knows_its_prompt() -> None:
    mirrors = [Scripted(), Scripted()]
    had = sorted(work(mirrors, wanted(20)), key=lambda h: h.index)
    assert [(h.index, h.prompt, h.answer.text) for h in had] == [
        (n, f"p{n}", f"p{n}") for n in range(20)
    ]
    assert sum(len(mirror.asked) for mirror in mirrors) == 20


def test_an_answer_that_fails_once_is_had_at_the_end() -> None:
    mirror = Scripted(failing(MirrorError("cut off"), at="p1", times=1))
    had = list(work([mirror], wanted(4)))
    assert mirror.asked == ["p0", "p1", "p2", "p3", "p1"]
    assert not any(h.answer.failed for h in had)


def test_an_answer_that_always_fails_is_failed_and_the_others_go_on() -> None:
    mirror = Scripted(failing(MirrorError("cut off"), at="p1"))
    had = {h.index: h.answer for h in work([mirror], wanted(4))}
    assert [had[n].failed for n in range(4)] == [False, True, False, False]
    assert (had[1].token_ids, had[1].token_texts, had[1].text) == ([], [], "")
    assert mirror.asked.count("p1") == CHANCES


def test_what_a_mirror_that_goes_had_in_hand_is_done_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = threading.Event()

    def die(prompt: str) -> None:
        gone.set()
        raise MirrorGoneError("is silent", subject="http://a")

    # The other holds its first answer back until this one is gone, so that both have work.
    dying, living = Scripted(die), Scripted(lambda prompt: gone.wait(10) and None)
    had = list(work([dying, living], wanted(10)))
    assert {h.answer.text for h in had} == {f"p{n}" for n in range(10)}
    assert len(dying.asked) == 1
    assert "http://a: is silent" in capsys.readouterr().err


def test_a_server_that_several_mirrors_stand_for_is_said_to_be_gone_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = threading.Semaphore(0)

    def die(prompt: str) -> None:
        gone.release()
        raise MirrorGoneError("is silent", subject="http://a")

    def wait(prompt: str) -> None:
        if living.asked == [prompt]:
            for _ in range(2):
                gone.acquire(timeout=10)

    living = Scripted(wait)
    had = list(work([living, Scripted(die), Scripted(die)], wanted(6)))
    assert len(had) == 6
    assert capsys.readouterr().err.count("is silent") == 1


def test_with_no_mirror_left_the_run_ends() -> None:
    mirror = Scripted(failing(MirrorGoneError("is silent", subject="http://a"), at="p2"))
    came = []
    with pytest.raises(MirrorGoneError, match=r"is silent \(question 2\)"):
        for had in work([mirror], wanted(5)):
            came.append(had.index)
    assert came == [0, 1]


def test_a_prompt_that_ends_every_mirror_does_not_end_them_all() -> None:
    mirrors = [Scripted(failing(MirrorGoneError("died"), at="p0")) for _ in range(DEATHS + 1)]
    had = {h.index: h.answer for h in work(mirrors, wanted(6))}
    assert [n for n, answer in had.items() if answer.failed] == [0]
    assert len(had) == 6


@pytest.mark.parametrize(
    "error",
    [MirrorRefusedError("no such key"), EdgequantError("?"), ZeroDivisionError("a mistake")],
)
def test_what_no_other_try_would_help_ends_the_run_at_once(error: Exception) -> None:
    mirror = Scripted(failing(error, at="p0"))
    with pytest.raises(type(error), match=str(error)[:5].replace("?", r"\?")):
        list(work([mirror], wanted(5)))
    assert mirror.asked == ["p0"]
    assert mirror.stopped.is_set()
