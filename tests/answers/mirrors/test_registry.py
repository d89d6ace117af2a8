"""Kinds of mirror by their names, and one that a package brings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edgequant.answers.mirrors import registry
from edgequant.answers.mirrors.llama_server.pool import LlamaServers
from edgequant.answers.mirrors.registry import make_mirrors, mirror_kinds
from edgequant.answers.prompts import load_prompt
from edgequant.answers.questions import Question
from edgequant.core.artefact import Store
from edgequant.core.errors import ExperimentError
from edgequant.experiment.file import MirrorSection
from edgequant.models.model_file import ModelFile
from tests.page_package import block, install

PAGE = "adding-a-mirror.md"


class Host:
    """A build that has nothing but names."""

    llama_cpp_commit = "0c1e57098"
    source: Any = None
    library = Path("/lib/libllama.so")

    def binary(self, name: str) -> Path:
        return Path("/bin") / name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(PAGE, "constant", tmp_path, monkeypatch)
    registry.mirror_kinds.cache_clear()
    yield
    registry.mirror_kinds.cache_clear()


@pytest.mark.usefixtures("package")
def test_the_page_s_mirror_answers(
    model: Path, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {
        "models": [ModelFile.of_path("Q8_0", model)],
        "host": Host(),
        "prompts": [load_prompt("cot")],
        "questions": questions,
    }
    exec(block(PAGE, "python", 1), names)
    answers = names["answers"]
    frame = answers.frame()
    assert frame["text"].to_list() == ["It is 4. "] * len(questions)
    assert frame["token_texts"].map(list).iloc[0] == ["It ", "is ", "4. "]
    assert frame["llama_cpp_commit"].isna().all()
    assert answers.artefact.manifest.parameters["mirror"] == "constant"


@pytest.mark.usefixtures("package")
def test_settings_of_a_mirror_are_part_of_its_answers_key(
    model: Path, questions: list[Question], tmp_path: Path
) -> None:
    from edgequant.answers.generate import generate

    def said(text: str) -> str:
        answers = generate(
            [ModelFile.of_path("Q8_0", model)],
            mirrors=make_mirrors("constant", Host(), text=text),
            prompts=[load_prompt("cot")],
            questions=questions,
            max_tokens=2,
            store=Store(tmp_path / "store"),
        )
        return str(answers.frame()["text"].iloc[0])

    assert [said("one"), said("two three four"), said("one")] == ["one ", "two three ", "one "]


@pytest.mark.usefixtures("package")
def test_kinds_are_found_by_name() -> None:
    assert list(mirror_kinds()) == ["llama-server", "openai", "constant"]
    pool = make_mirrors("llama-server", Host(), cache_type_k="q8_0")
    assert isinstance(pool, LlamaServers)
    assert (pool.binary, pool.policy.cache_type_k) == (Path("/bin/llama-server"), "q8_0")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("oracle", {}, "no mirror 'oracle'; there are llama-server, openai, constant"),
        ("constant", {}, "constant: missing a required"),
        ("constant", {"text": "x", "voice": 1}, "unexpected keyword argument 'voice'"),
        ("llama-server", {"threads": 0}, "threads is 0"),
        ("llama-server", {"mode": "quick"}, "mode is 'quick'"),
        ("llama-server", {"mode": "fast", "parallel": 0}, "parallel is 0"),
        ("llama-server", {"mode": "fast", "compare": 31}, "compare is 31, it must be at least 32"),
        ("llama-server", {"parallel": 2}, "parallel goes with the fast mode"),
        ("llama-server", {"flash_attention": "maybe"}, "flash_attention is 'maybe'"),
    ],
)
def test_what_cannot_be_made_is_said(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        make_mirrors(name, Host(), **settings)


@pytest.mark.usefixtures("package")
def test_an_experiment_names_the_page_s_mirror() -> None:
    section = MirrorSection.model_validate(tomllib.loads(block(PAGE, "toml", 1))["mirror"])
    assert (section.kind, section.settings) == ("constant", {"text": "It is 4."})
    made = make_mirrors(section.kind, Host(), defaults={"cache_type_k": "q8_0"}, **section.settings)
    assert made.identity.settings == {"mirror": "constant", "text": "It is 4."}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "oracle"}, "no mirror 'oracle'"),
        ({"mode": "quick"}, "mode is 'quick'"),
        ({"modus": "fast"}, "unexpected keyword argument 'modus'"),
        ({"kind": "openai"}, "urls: Field required"),
        ({"kind": "openai", "urls": ["http://h"], "ulrs": []}, "ulrs: Extra inputs"),
        ({"kind": "openai", "urls": ["h:80"]}, "no URL of a mirror"),
    ],
)
def test_a_wrong_key_of_the_mirror_is_seen_when_the_file_is_read(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        MirrorSection.model_validate(settings)


def test_what_is_measured_is_what_is_scored() -> None:
    defaults = {"cache_type_k": "q8_0", "cache_type_v": "q4_0", "flash_attention": "on"}
    for mode in ("reference", "fast"):
        pool = make_mirrors("llama-server", Host(), defaults=defaults, mode=mode)
        assert isinstance(pool, LlamaServers)
        assert defaults.items() <= pool.policy.as_dict().items()
    urls = ["http://127.0.0.1:1"]
    far = make_mirrors("openai", Host(), defaults=defaults, urls=urls)
    assert defaults.items() <= far.identity.settings.items()
