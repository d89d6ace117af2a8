from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgequant.build.source.requirements import (
    HEADER,
    NEEDED_FILES,
    PROBE,
    find_programs,
    missing,
    missing_for_probe,
    probe_needs,
    probe_source,
    programs_of,
    without_comments_and_strings,
)
from tests.build.local_index import TOOLS, tree_files, write_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "llama.cpp")


def test_a_tree_that_has_all_lacks_nothing(tree: Path) -> None:
    assert missing(tree, [PROBE, *TOOLS]) == []


@pytest.mark.parametrize("name", NEEDED_FILES)
def test_each_needed_file_is_missed(tree: Path, name: str) -> None:
    (tree / name).unlink()
    assert name in missing(tree, [])


def test_everything_that_the_probe_takes_is_needed() -> None:
    needs = probe_needs(probe_source().read_text(encoding="utf-8"))
    assert {"llama_decode", "llama_model_load_from_file", "GGML_TYPE_Q8_0"} <= needs.names
    assert {"n_ctx", "type_k", "no_perf"} <= needs.fields


@pytest.mark.parametrize("name", sorted(probe_needs(probe_source().read_text()).names))
def test_each_name_is_missed_where_it_is_gone(tree: Path, name: str) -> None:
    header = tree / HEADER
    text = re.sub(rf"\b{name}\b", f"{name}_old", header.read_text())
    header.write_text(f"// {name}() was here\n{text}")
    assert missing(tree, [PROBE]) == [f"{name} in include/llama.h (the probe uses it)"]
    assert missing(tree, ["llama-bench"]) == []


def test_a_field_and_several_names_are_one_complaint() -> None:
    needs = probe_needs(
        "llama_context_params context_params = llama_context_default_params();\n"
        "context_params.n_ctx = 1; context_params.no_perf = true; x(GGML_TYPE_Q9_0);\n"
    )
    # no_perf is a word of the header, but no field.
    header = (
        "struct llama_context_params { uint32_t n_ctx; };\n"
        "llama_context_default_params(void);\nint f(bool no_perf);"
    )
    assert missing_for_probe(needs, header, "enum { GGML_TYPE_Q8_0 };") == [
        "GGML_TYPE_Q9_0 and llama_context_params.no_perf in include/llama.h (the probe uses them)",
    ]
    assert missing_for_probe(needs, header, "enum { GGML_TYPE_Q9_0 }; // no_perf") == [
        "llama_context_params.no_perf in include/llama.h (the probe uses it)",
    ]


def test_a_program_that_moved_away_is_missed(tmp_path: Path) -> None:
    tools = tuple(tool for tool in TOOLS if tool != "llama-completion")
    tree = write_tree(tmp_path / "llama.cpp", tree_files(tools))
    assert missing(tree, TOOLS) == ["the program llama-completion"]
    assert missing(tree, tools) == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("llama-bensh", "llama-bench"),
        ("llama-complete", "llama-completion"),
        ("llama-probe", PROBE),
        ("llama-qwertz", None),
    ],
)
def test_the_closest_name_is_told(tree: Path, wrong: str, right: str | None) -> None:
    hint = f" (did you mean {right}?)" if right is not None else ""
    assert missing(tree, [wrong]) == [f"the program {wrong}{hint}"]


def test_only_what_can_be_asked_for_is_listed(tree: Path) -> None:
    (tree / "tools" / "rpc").mkdir()
    (tree / "tools" / "rpc" / "CMakeLists.txt").write_text("add_executable(rpc-helper x.cpp)\n")
    assert find_programs(tree).names == {PROBE, *TOOLS}


def test_names_put_together_by_cmake_are_left_to_ninja(tree: Path) -> None:
    (tree / "tools" / "more").mkdir()
    (tree / "tools" / "more" / "CMakeLists.txt").write_text(
        "foreach(name IN ITEMS a b)\n    add_executable(llama-${name} x.cpp)\nendforeach()\n"
    )
    assert not find_programs(tree).all_known
    assert missing(tree, ["llama-a"]) == []


@pytest.mark.parametrize(
    ("cmake", "names", "all_known"),
    [
        ("set(TARGET llama-bench)\nadd_executable(${TARGET} main.cpp)", {"llama-bench"}, True),
        ("set(TARGET a)\nadd_executable         (${TARGET}\n  x.cpp)", {"a"}, True),
        ("set(TARGET a-impl)\nadd_library(${TARGET} x)\nset(TARGET a)\n"
         "add_executable(${TARGET} y)\nadd_executable(b y)", {"a", "b"}, True),
        ("# add_executable(old x)\n", set(), True),
        ("add_executable(${NAME} x)", set(), False),
        ("", set(), True),
    ],
)  # fmt: skip
def test_programs_are_read_from_cmake(cmake: str, names: set[str], all_known: bool) -> None:
    found = programs_of(cmake)
    assert found.names == names
    assert found.all_known is all_known


def test_names_in_comments_and_strings_are_no_names() -> None:
    code = 'a(); // b();\n/* c();\n d(); */ e("f(); \\" g();"); h();'
    assert re.findall(r"\w(?=\()", without_comments_and_strings(code)) == ["a", "e", "h"]


def test_what_is_not_called_may_be_the_probe_s_own() -> None:
    assert probe_needs("std::string llama_errors; llama_own::x y; llama_f(1);").names == {"llama_f"}
