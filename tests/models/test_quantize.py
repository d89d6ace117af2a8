"""Types, what llama-quantize prints, and artefacts that are not made twice."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import DiskFullError, GgufError, QuantizationError
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.publish import publish
from edgequant.models.steps import quantize as module
from edgequant.models.steps.quantize import (
    Fallback,
    Models,
    canonical_type,
    canonical_types,
    expected_bytes,
    notes_of,
    parse_fallbacks,
)
from tests.models.gguf_writer import TensorSpec, gguf

RECORDED = Path(__file__).parent / "recorded"
TENSORS = [TensorSpec("token_embd.weight", (256, 8), "F16"), TensorSpec("norm", (256,), "F32")]


def test_types_are_named_as_llama_quantize_names_them() -> None:
    assert canonical_type("q4_k_m") == "Q4_K_M"
    assert canonical_type("Q4-K") == "Q4_K_M"
    assert canonical_types(["q8_0", "Q2_K", "Q8_0"]) == ("Q8_0", "Q2_K")
    with pytest.raises(QuantizationError, match="'Q9_K'") as raised:
        canonical_types(["Q8_0", "Q9_K"])
    assert "IQ4_XS" in (raised.value.next_step or "")
    with pytest.raises(QuantizationError, match="no quantization type"):
        canonical_types([])


def test_fallbacks_in_recorded_output() -> None:
    lines = (RECORDED / "llama-quantize-fallback.txt").read_text().splitlines()
    found = parse_fallbacks(lines)
    assert len(found) == 7
    assert found[0] == Fallback("blk.0.attn_k.weight", 320, 256, "q2_K", "q4_0")
    assert {f.columns for f in found} == {320, 480}


def test_no_fallbacks_in_recorded_output() -> None:
    lines = (RECORDED / "llama-quantize.txt").read_text().splitlines()
    assert parse_fallbacks(lines) == []


@dataclass
class Source:
    folder: Path


@dataclass
class Host:
    """A host whose llama-quantize is a shell script that counts its runs."""

    folder: Path
    source: Source = field(init=False)
    llama_cpp_commit: str = "c0ffee"

    def __post_init__(self) -> None:
        self.source = Source(self.folder)

    def script(self, body: str) -> None:
        program = self.folder / "llama-quantize"
        program.write_text(f"#!/bin/sh\necho run >> {self.folder}/runs\n{body}\n")
        program.chmod(0o755)

    @property
    def runs(self) -> int:
        runs = self.folder / "runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    def binary(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def host(tmp_path: Path) -> Host:
    folder = tmp_path / "host"
    folder.mkdir()
    return Host(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def base(store: Store) -> Artefact:
    def write(draft: ArtefactDraft) -> None:
        content = gguf({"general.architecture": "llama", "general.file_type": 1}, TENSORS)
        (draft.folder / "tiny-F16.gguf").write_bytes(content)

    return store.get_or_make(Recipe("models", {"folder": "0"}, {"output_type": "f16"}), write)


def test_each_type_is_made_once(host: Host, store: Store, base: Artefact) -> None:
    host.script('cp "$1" "$2"')
    first = module._quantized("tiny", base, "Q2_K", host, store)
    again = module._quantized("tiny", base, "Q2_K", host, store)
    other = module._quantized("tiny", base, "Q8_0", host, store)
    assert host.runs == 2
    assert first.key == again.key != other.key
    assert set(first.manifest.files) == {"tiny-Q2_K.gguf", "output.log"}
    assert not stat.S_IMODE((first.folder / "tiny-Q2_K.gguf").stat().st_mode) & 0o222
    assert not list((store.root / "models").glob("*.log"))


def test_the_unquantized_type_is_the_base_itself(host: Host, store: Store, base: Artefact) -> None:
    assert module._quantized("tiny", base, "F16", host, store) is base


def test_a_failure_leaves_its_log_and_nothing_to_trust(
    host: Host, store: Store, base: Artefact
) -> None:
    host.script('head -c 100 "$1" > "$2"; echo tensor is odd; exit 1')
    with pytest.raises(QuantizationError, match="tensor is odd") as raised:
        module._quantized("tiny", base, "Q2_K", host, store)
    assert "tensor is odd" in Path(raised.value.subject or "").read_text()
    host.script('cp "$1" "$2"')
    module._quantized("tiny", base, "Q2_K", host, store)
    assert host.runs == 2


def test_truncated_result_with_exit_status_0_is_refused(
    host: Host, store: Store, base: Artefact
) -> None:
    host.script('head -c -100 "$1" > "$2"')
    with pytest.raises(GgufError, match="truncated"):
        module._quantized("tiny", base, "Q2_K", host, store)


def test_another_model_than_was_read_is_refused(host: Host, store: Store, base: Artefact) -> None:
    other = host.folder / "other.gguf"
    other.write_bytes(gguf({"general.architecture": "llama"}, TENSORS[:1]))
    host.script(f'cp {other} "$2"')
    with pytest.raises(GgufError, match="other tensors"):
        module._quantized("tiny", base, "Q2_K", host, store)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("this quantization requires an importance matrix!", QuantizationError, "Q2_K needs an"),
        ("write: No space left on device", DiskFullError, "while quantizing to Q2_K"),
    ],
)
def test_known_failures_are_explained(
    host: Host, store: Store, base: Artefact, line: str, error: type[Exception], message: str
) -> None:
    host.script(f"echo '{line}'; exit 1")
    with pytest.raises(error, match=message):
        module._quantized("tiny", base, "Q2_K", host, store)


def test_fallbacks_and_what_is_held_belong_to_the_row(
    host: Host, store: Store, base: Artefact
) -> None:
    host.script(f'cat {RECORDED}/llama-quantize-fallback.txt; cp "$1" "$2"')
    made = module._quantized("tiny", base, "Q2_K", host, store)
    # A second look finds it in the store: what is said must not depend on who made it when.
    again = module._quantized("tiny", base, "Q2_K", host, store)
    for artefact in (made, again):
        rows = Models("tiny", base, {"F16": base, "Q2_K": artefact}).table()
        assert rows[1].fallback_tensors == 7
        assert not rows[1].contents.holds_named_type
        assert rows[1].same_as == "F16"
        first, second = notes_of(rows)
        assert first.startswith("Q2_K holds no Q2_K tensor: ")
        assert second.startswith("Q2_K and F16 have the very same tensors")
        values = rows[1].as_dict()
        assert values["holds_named_type"] is False
        share = values["weight_share"]
        assert isinstance(share, dict)
        assert sum(share.values()) == pytest.approx(1, abs=1e-5)
        assert rows[1].marked_name == "Q2_K (name only) = F16"


def test_table_and_lookup(host: Host, store: Store, base: Artefact) -> None:
    host.script('cp "$1" "$2"')
    made = module._quantized("tiny", base, "Q4_K_M", host, store)
    models = Models("tiny", base, {"F16": base, "Q4_K_M": made})
    assert models.gguf("q4_k") == models.gguf("Q4_K_M")
    assert [r.quantization for r in models.table()] == ["F16", "Q4_K_M"]
    row = models.table()[1]
    assert row.bytes == models.gguf("Q4_K_M").stat().st_size
    assert row.sha256 == models.sha256("F16")
    with pytest.raises(QuantizationError, match="was not quantized to Q8_0"):
        models.gguf("Q8_0")


def test_publish_links_and_replaces(
    host: Host, store: Store, base: Artefact, tmp_path: Path
) -> None:
    models = Models("tiny", base, {"F16": base})
    out = tmp_path / "out"
    out.mkdir()
    (out / "tiny-F16.gguf").write_text("older")
    paths = publish(models, out)
    assert paths == {"F16": out / "tiny-F16.gguf"}
    assert paths["F16"].samefile(models.gguf("F16"))
    assert publish(models, out) == paths
    assert [p.name for p in out.iterdir()] == ["tiny-F16.gguf"]


def test_publish_copies_where_links_do_not_work(
    base: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    models = Models("tiny", base, {"F16": base})
    copied = publish(models, tmp_path / "out")["F16"]
    assert copied.read_bytes() == models.gguf("F16").read_bytes()
    assert not copied.samefile(models.gguf("F16"))


def test_expected_bytes_is_an_upper_estimate(base: Artefact) -> None:
    info = read_gguf(base.file("tiny-F16.gguf"))
    sizes = [expected_bytes(info, name) for name in ("Q2_K", "Q4_K_M", "Q8_0", "F16", "F32")]
    assert sizes == sorted(sizes)
    assert sizes[3] > 256 * 9 * 2
