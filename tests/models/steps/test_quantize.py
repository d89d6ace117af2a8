"""Types, what llama-quantize prints, and artefacts that are not made twice."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.errors import DiskFullError, GgufError, QuantizationError
from edgequant.models.make import find_variant, make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.model_set import ModelSet
from edgequant.models.publish import publish
from edgequant.models.steps.quantize import Fallback, expected_bytes, parse_fallbacks
from edgequant.models.steps.step import StepContext
from edgequant.models.types import canonical_type
from edgequant.models.variant import Variant, variants_of_types
from tests.models.gguf_writer import TensorSpec, gguf

RECORDED = Path(__file__).parent / "recorded"
TENSORS = [TensorSpec("token_embd.weight", (256, 8), "F16"), TensorSpec("norm", (256,), "F32")]


def test_types_are_named_as_llama_quantize_names_them() -> None:
    assert canonical_type("q4_k_m") == "Q4_K_M"
    assert canonical_type("Q4-K") == "Q4_K_M"
    assert [v.name for v in variants_of_types(["q8_0", "Q2_K", "Q8_0"])] == ["Q8_0", "Q2_K"]
    with pytest.raises(QuantizationError, match="'Q9_K'") as raised:
        variants_of_types(["Q8_0", "Q9_K"])
    assert "IQ4_XS" in (raised.value.next_step or "")
    with pytest.raises(QuantizationError, match="no quantization type"):
        variants_of_types([])


def test_a_variant_has_a_name_and_steps() -> None:
    assert Variant.of_steps("small", ["q2_k"], 9) == Variant("small", ("Q2_K",), 9)
    for name, steps, message in (
        ("../x", ["Q2_K"], "no name of a variant"),
        ("x", [], "has no steps"),
        ("x", ["awk"], "unknown quantization type 'awk'"),
        ("x", ["Q8_0", "Q2_K"], "nothing can come after Q8_0"),
    ):
        with pytest.raises(QuantizationError, match=message):
            Variant.of_steps(name, steps)


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
def base(store: Store) -> ModelFile:
    def write(draft: ArtefactDraft) -> None:
        content = gguf({"general.architecture": "llama", "general.file_type": 1}, TENSORS)
        (draft.folder / "tiny-F16.gguf").write_bytes(content)

    recipe = Recipe("models", {"folder": "0"}, {"output_type": "f16"})
    return ModelFile.of_artefact("F16", store.get_or_make(recipe, write))


def quantized(base: ModelFile, name: str, host: Host, store: Store) -> ModelFile:
    return make_variant(Variant.of_type(name), base, StepContext("tiny", host, store))


def test_each_type_is_made_once(host: Host, store: Store, base: ModelFile) -> None:
    host.script('cp "$1" "$2"')
    first = quantized(base, "Q2_K", host, store)
    again = quantized(base, "Q2_K", host, store)
    other = quantized(base, "Q8_0", host, store)
    assert host.runs == 2
    assert first.path == again.path != other.path
    assert first.artefact is not None
    assert set(first.artefact.manifest.files) == {"tiny-Q2_K.gguf", "output.log"}
    assert not stat.S_IMODE(first.path.stat().st_mode) & 0o222
    assert not list((store.root / "models").glob("*.log"))


def test_the_unquantized_type_is_the_base_itself(host: Host, store: Store, base: ModelFile) -> None:
    assert quantized(base, "F16", host, store).path == base.path
    assert host.runs == 0


def test_a_failure_leaves_its_log_and_nothing_to_trust(
    host: Host, store: Store, base: ModelFile
) -> None:
    host.script('head -c 100 "$1" > "$2"; echo tensor is odd; exit 1')
    with pytest.raises(QuantizationError, match="tensor is odd") as raised:
        quantized(base, "Q2_K", host, store)
    assert "tensor is odd" in Path(raised.value.subject or "").read_text()
    host.script('cp "$1" "$2"')
    quantized(base, "Q2_K", host, store)
    assert host.runs == 2


def test_truncated_result_with_exit_status_0_is_refused(
    host: Host, store: Store, base: ModelFile
) -> None:
    host.script('head -c -100 "$1" > "$2"')
    with pytest.raises(GgufError, match="truncated"):
        quantized(base, "Q2_K", host, store)


def test_another_model_than_was_read_is_refused(host: Host, store: Store, base: ModelFile) -> None:
    other = host.folder / "other.gguf"
    other.write_bytes(gguf({"general.architecture": "llama"}, TENSORS[:1]))
    host.script(f'cp {other} "$2"')
    with pytest.raises(GgufError, match="other tensors"):
        quantized(base, "Q2_K", host, store)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("this quantization requires an importance matrix!", QuantizationError, "Q2_K needs an"),
        ("quantized data validation failed", QuantizationError, "a tensor holds NaN"),
        ("write: No space left on device", DiskFullError, "while quantizing to Q2_K"),
    ],
)
def test_known_failures_are_explained(
    host: Host, store: Store, base: ModelFile, line: str, error: type[Exception], message: str
) -> None:
    host.script(f"echo '{line}'; exit 1")
    with pytest.raises(error, match=message):
        quantized(base, "Q2_K", host, store)


def test_nan_that_llama_quantize_finds_is_told_with_its_tensor_and_log(
    host: Host, store: Store, base: ModelFile
) -> None:
    host.script(f"cat {RECORDED}/llama-quantize-nan.txt; exit 1")
    with pytest.raises(QuantizationError, match=r"^\S+: token_embd\.weight holds NaN") as raised:
        quantized(base, "Q2_K", host, store)
    assert "last lines" not in raised.value.cause
    assert "found 256 NaNs" in Path(raised.value.subject or "").read_text()


def test_fallbacks_and_what_is_held_belong_to_the_row(
    host: Host, store: Store, base: ModelFile
) -> None:
    host.script(f'cat {RECORDED}/llama-quantize-fallback.txt; cp "$1" "$2"')
    made = quantized(base, "Q2_K", host, store)
    # A second look finds it in the store: what is said must not depend on who made it when.
    again = quantized(base, "Q2_K", host, store)
    for file in (made, again):
        models = ModelSet("tiny", {"F16": base, "Q2_K": file}, base)
        row = models.table[1]
        assert file.fallback_tensors == 7
        assert not file.contents.holds_named_type
        assert row.same_as == "F16"
        first, second = models.notes
        assert first.startswith("Q2_K holds no Q2_K tensor: ")
        assert second.startswith("Q2_K and F16 have the very same tensors")
        values = row.as_dict()
        assert values["holds_named_type"] is False
        share = values["weight_share"]
        assert isinstance(share, dict)
        assert sum(share.values()) == pytest.approx(1, abs=1e-5)
        assert row.marked_name == "Q2_K (name only) = F16"


def test_table_and_lookup(host: Host, store: Store, base: ModelFile) -> None:
    host.script('cp "$1" "$2"')
    made = quantized(base, "Q4_K_M", host, store)
    models = ModelSet("tiny", {"F16": base, "Q4_K_M": made}, base)
    assert models.names == ("F16", "Q4_K_M")
    assert [row.file.name for row in models.table] == ["F16", "Q4_K_M"]
    assert models["Q4_K_M"].bytes == made.path.stat().st_size
    assert models["Q4_K_M"].sha256 == base.sha256
    with pytest.raises(QuantizationError, match="has no variant Q8_0"):
        models["Q8_0"]


def test_a_variant_larger_than_its_limit_is_an_error(
    host: Host, store: Store, base: ModelFile
) -> None:
    host.script('cp "$1" "$2"')
    small = Variant.of_steps("small", ["Q2_K"], max_bytes=base.bytes - 1)
    with pytest.raises(QuantizationError, match="more than its limit"):
        make_variant(small, base, StepContext("tiny", host, store))
    exact = Variant.of_steps("exact", ["Q2_K"], max_bytes=base.bytes)
    made = make_variant(exact, base, StepContext("tiny", host, store))
    assert made.name == "exact"
    assert host.runs == 1, "the same steps under another name are the same artefact"


def test_a_variant_is_found_without_making_it(host: Host, store: Store, base: ModelFile) -> None:
    host.script('cp "$1" "$2"')
    variant = Variant.of_type("Q2_K")
    context = StepContext("tiny", host, store)
    assert find_variant(variant, base, context) is None
    made = make_variant(variant, base, context)
    found = find_variant(variant, base, context)
    assert found is not None
    assert found.path == made.path


def test_two_variants_of_one_file_are_published_under_their_own_names(
    host: Host, store: Store, base: ModelFile, tmp_path: Path
) -> None:
    host.script('cp "$1" "$2"')
    made = [
        make_variant(Variant.of_steps(name, ["Q2_K"]), base, StepContext("tiny", host, store))
        for name in ("one", "two")
    ]
    models = ModelSet("tiny", {file.name: file for file in made}, base)
    paths = publish(models, tmp_path / "out")
    assert [path.name for path in paths.values()] == ["tiny-one.gguf", "tiny-two.gguf"]


def test_files_of_one_name_do_not_replace_each_other(base: ModelFile, tmp_path: Path) -> None:
    """As of Q2_K with and without an importance matrix: artefacts of their own, named alike."""
    other = tmp_path / base.path.name
    other.write_bytes(base.path.read_bytes() + bytes(32))
    files = {"one": base, "two": ModelFile.of_path("two", other)}
    models = ModelSet("tiny", {n: replace(file, name=n) for n, file in files.items()}, base)
    paths = publish(models, tmp_path / "out")
    assert [path.name for path in paths.values()] == ["tiny-one.gguf", "tiny-two.gguf"]
    assert [path.stat().st_size for path in paths.values()] == [base.bytes, base.bytes + 32]


def test_publish_links_and_replaces(
    host: Host, store: Store, base: ModelFile, tmp_path: Path
) -> None:
    models = ModelSet("tiny", {"F16": base}, base)
    out = tmp_path / "out"
    out.mkdir()
    (out / "tiny-F16.gguf").write_text("older")
    paths = publish(models, out)
    assert paths == {"F16": out / "tiny-F16.gguf"}
    assert paths["F16"].samefile(models["F16"].path)
    assert publish(models, out) == paths
    assert [p.name for p in out.iterdir()] == ["tiny-F16.gguf"]


def test_publish_copies_where_links_do_not_work(
    base: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    models = ModelSet("tiny", {"F16": base}, base)
    copied = publish(models, tmp_path / "out")["F16"]
    assert copied.read_bytes() == models["F16"].path.read_bytes()
    assert not copied.samefile(models["F16"].path)


def test_expected_bytes_is_an_upper_estimate(base: ModelFile) -> None:
    sizes = [expected_bytes(base.header, name) for name in ("Q2_K", "Q4_K_M", "Q8_0", "F16", "F32")]
    assert sizes == sorted(sizes)
    assert sizes[3] > 256 * 9 * 2
