"""The study's prompts byte for byte, and prompt files of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.answers.prompts import Prompt, chatml, load_prompt, read_prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.stated import Stated
from edgequant.core.errors import PromptError
from edgequant.core.paths import list_data_files
from tests.page_package import block

COT = (
    "Follow this pattern to solve the problem:\n"
    "Provide a revised answer through step-by-step reasoning.\n"
    "\n"
    "Conclude with your final answer within \\boxed{}."
)
AAV = (
    "Quick Answer: Give an initial answer via intuition or quick calculation.\n"
    "\n"
    "Verification: Provide a revised answer through step-by-step reasoning and correct any "
    "mistakes.\n"
    "\n"
    "Conclude with your final answer within \\boxed{}."
)
STUDY = {"cot": COT, "aav": AAV}


@pytest.mark.parametrize("name", ["cot", "aav"])
def test_the_study_to_the_letter(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.system == STUDY[name]
    assert prompt.budget is not None
    assert prompt.budget.sentence == "You MUST respond in **UNDER {{ n }} tokens**"
    assert prompt.budget.factor == 0.5
    assert render(prompt, "Why {{ n }}, {% if %} {#?") == [
        {"role": "system", "content": STUDY[name]},
        {"role": "user", "content": "Why {{ n }}, {% if %} {#?"},
    ]


@pytest.mark.parametrize(("budget", "told"), [(100, 50), (101, 50), (2, 1), (513, 256)])
def test_a_stated_budget_follows_the_system_text(budget: int, told: int) -> None:
    system, user = render(load_prompt("aav"), "Why?", budget)
    assert system["content"] == f"{AAV}\n\nYou MUST respond in **UNDER {told} tokens**"
    assert user["content"] == "Why?"


def test_chatml_is_the_studys_form() -> None:
    assert chatml(render(load_prompt("cot"), "What is 1 + 1?")) == (
        "<|im_start|>system\n"
        f"{COT}<|im_end|>\n"
        "<|im_start|>user\n"
        "What is 1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_every_shipped_prompt_is_valid_and_named_for_its_file() -> None:
    for name, path in list_data_files("prompts").items():
        assert read_prompt(path).name == name


def test_a_users_own_file_needs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "short.toml").write_text(
        'user = "Q: {{ question }}\\nA:"\n'
        '[budget]\nsentence = "At most {{ n }} tokens."\nfactor = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    prompt = load_prompt("short")
    assert render(prompt, "1 + 1?", 10) == [
        {"role": "system", "content": "At most 10 tokens."},
        {"role": "user", "content": "Q: 1 + 1?\nA:"},
    ]
    assert render(prompt, "1 + 1?") == [{"role": "user", "content": "Q: 1 + 1?\nA:"}]
    assert load_prompt(str(folder / "short.toml")) == prompt


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("system = ", "not valid TOML"),
        ("sistem = 'a'", "sistem"),
        ("system = 3", "system"),
        ("user = 'no field'", "no {{ question }}"),
        ("user = 'Q: {question}'", "write {{ question }} where it has {question}"),
        ("[budget]\nsentence = 'short!'", "no {{ n }}"),
        ("[budget]\nsentence = 'under {n}'", "write {{ n }} where it has {n}"),
        ("[budget]\nsentence = '{{ n }}'\nfactor = 0", "factor"),
        ("[budget]\nfactor = 0.5", "sentence"),
        ("system = '{{ model }}'", "no variable model; there are budget, choices, n, question"),
        ("system = '\\boxed{#}'", "line 1: Missing end of comment tag"),
        ("system = '{{ question.upper() }}'", "no call"),
    ],
)
def test_an_invalid_file_is_one_clear_error(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(PromptError) as caught:
        load_prompt(str(path))
    assert cause in caught.value.cause
    assert caught.value.subject == str(path)


def test_an_unknown_prompt_lists_the_known_ones() -> None:
    with pytest.raises(PromptError, match="no prompt 'nonsense'") as caught:
        load_prompt("nonsense")
    assert caught.value.next_step is not None
    assert "aav, choice, cot" in caught.value.next_step


def test_a_budget_that_cannot_be_told() -> None:
    with pytest.raises(PromptError, match=r"\[budget\]"):
        render(Prompt(name="plain", system="Think."), "Why?", 100)
    with pytest.raises(PromptError, match="less than one"):
        render(load_prompt("cot"), "Why?", 1)


def test_the_hash_covers_what_reaches_the_model() -> None:
    prompt = load_prompt("cot")
    assert prompt.model_copy(update={"name": "x", "description": "y"}).sha256 == prompt.sha256
    assert prompt.model_copy(update={"system": COT + " "}).sha256 != prompt.sha256
    assert prompt.model_copy(update={"budget": None}).sha256 != prompt.sha256


CHOICE = Question(
    "0001-aaaaaaaa", "Which?\nA. one\nB. {{ two }}", "B", "", "choice", None, "Which?",
    ("one", "{{ two }}"),
)  # fmt: skip


def test_what_there_is_to_choose_from_stands_behind_the_question() -> None:
    system, user = render(load_prompt("choice"), CHOICE)
    assert user["content"] == "Which?\nA. one\nB. {{ two }}"
    assert system["content"].endswith("letter of your choice within \\boxed{}.")


def test_a_prompt_may_lay_the_choices_out_itself() -> None:
    prompt = Prompt(
        name="own",
        user="{{ stem }}{% for c in choices %}\n({{ loop.index }}) {{ c }}{% endfor %}",
    )
    (user,) = render(prompt, CHOICE)
    assert user["content"] == "Which?\n(1) one\n(2) {{ two }}"
    (user,) = render(prompt, "1 + 1?")
    assert user["content"] == "1 + 1?"


def test_a_budget_may_be_told_anywhere() -> None:
    system = "Think.{% if n %} Use {{ n }} of {{ budget }} tokens.{% endif %}"
    prompt = Prompt.model_validate({"name": "own", "system": system, "budget": {"factor": 0.25}})
    assert render(prompt, "1 + 1?")[0]["content"] == "Think."
    assert render(prompt, "1 + 1?", 100)[0]["content"] == "Think. Use 25 of 100 tokens."
    assert render(prompt, "1 + 1?", 100, 0.5)[0]["content"] == "Think. Use 50 of 100 tokens."
    always = prompt.model_copy(update={"system": "Use {{ n }} tokens."})
    with pytest.raises(PromptError, match="holds nothing here"):
        render(always, "1 + 1?")


def test_what_a_text_asks_for_and_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(PromptError, match="for the question 'Which"):
        render(Prompt(name="own", user="{{ question }}{{ choices[7] }}"), CHOICE)


PAGE = "adding-a-prompt.md"


@pytest.mark.parametrize("number", [0, 1])
def test_the_prompts_of_the_page_work(number: int, tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text(block(PAGE, "toml", number))
    system, user = render(read_prompt(path), "1 + 1?")
    assert system["content"].startswith("Solve the problem")
    assert user["content"] == "1 + 1?"


def test_the_page_s_prompt_tells_its_budget_or_is_refused(tmp_path: Path) -> None:
    silent, telling = tmp_path / "silent.toml", tmp_path / "telling.toml"
    silent.write_text(block(PAGE, "toml", 0))
    telling.write_text(block(PAGE, "toml", 1))
    system, _ = render(read_prompt(telling), "1 + 1?", 64)
    assert system["content"].endswith("\n\nUse at most 32 tokens.")
    with pytest.raises(PromptError):
        Stated(budgets=(64,)).requests(read_prompt(silent), "1 + 1?", 100)


def test_a_prompt_is_known_by_its_text(tmp_path: Path) -> None:
    prompt = load_prompt("cot")
    assert prompt.sha256 == prompt.model_copy(update={"name": "x", "description": "y"}).sha256
    assert prompt.sha256 != prompt.model_copy(update={"system": "z"}).sha256
