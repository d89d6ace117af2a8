"""Quality of the demo model's variants, against plain numpy over the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import ConversionError
from edgequant.core.tables import records
from edgequant.models.make import make_models
from edgequant.models.model_set import ModelSet
from edgequant.models.ready import take_in
from edgequant.models.variant import variants_of_types
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from edgequant.quality.inputs import cut_texts, load_texts
from edgequant.quality.logits import LogitsModel
from edgequant.quality.measure import all_scores, measure_quality
from edgequant.quality.passages import Text
from tests.answers.mirrors.llama_server.tiny_llama import write_tiny_llama

pytestmark = pytest.mark.integration
DEMO = Path(__file__).parents[2] / "experiments" / "demo_model" / "model"
WORDS = "<|im_start|>user\nNina works 2 hours a day and earns $10 an hour.<|im_end|>\n" * 4


@pytest.fixture(scope="module")
def models(host_build: Any) -> ModelSet:
    return make_models(DEMO, variants_of_types(["F16", "Q4_K_M", "Q2_K"]), host=host_build)


@pytest.fixture(scope="module")
def text(models: ModelSet, host_build: Any, tmp_path_factory: pytest.TempPathFactory) -> Text:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(WORDS)
    with Vocabulary(models["F16"].path, host_build.binary(LIBRARY_NAME)) as vocabulary:
        (read,) = cut_texts(load_texts([path]), vocabulary, context=64)
        # One token, where llama-perplexity reads its letters.
        assert vocabulary.tokenize("<|im_start|>", add_special=False)[0] in read.counted_runs[0]
    return read


def test_the_table_is_what_numpy_makes_of_the_logits(
    models: ModelSet, text: Text, host_build: Any, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    small = models["Q2_K"]
    (row,) = records(
        measure_quality(models["F16"], [small], [text], host=host_build, threads=1, store=store)
    )
    logits = {}
    for name in ("F16", "Q2_K"):
        path, library = models[name].path, host_build.binary(LIBRARY_NAME)
        with LogitsModel(path, library, context=64, threads=1) as model:
            logits[name] = np.concatenate([p for x in text.passages for p, _ in model.read(x)])
    following = np.concatenate(text.counted_runs)
    p, q = (np.exp(z.astype(np.float64)) for z in logits.values())
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    places = np.arange(len(following))
    divergence = (p * np.log(p / q)).sum(axis=1)
    assert row["tokens"] == len(following)
    assert row["perplexity"] == pytest.approx(np.exp(-np.log(q[places, following]).mean()))
    assert row["divergence"] == pytest.approx(divergence.mean())
    assert row["median_divergence"] == pytest.approx(np.median(divergence))
    assert row["p99_divergence"] == pytest.approx(np.percentile(divergence, 99))
    assert row["same_top"] == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    assert row["divergence"] > 0
    assert row["bytes"] == small.path.stat().st_size


def test_the_reference_itself_is_at_nought(
    models: ModelSet, text: Text, host_build: Any, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    base = models["F16"]
    (row,) = records(measure_quality(base, [base], [text], host=host_build, threads=1, store=store))
    figures = ("divergence", "divergence_error", "p99_divergence", "perplexity_ratio", "same_top")
    assert [row[name] for name in figures] == [0, 0, 0, 1, 1]


def test_what_a_pair_gave_is_not_computed_again(
    models: ModelSet, text: Text, host_build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    both = [models["Q4_K_M"], models["Q2_K"]]
    alone = all_scores(models["F16"], both[:1], text, host_build, store, threads=1)
    together = all_scores(models["F16"], both, text, host_build, store, threads=1)
    monkeypatch.setattr("edgequant.quality.measure.LogitsModel", None)
    again = all_scores(models["F16"], both, text, host_build, store, threads=1)
    assert np.array_equal(alone[0].divergence, together[0].divergence)
    for first, second in zip(together, again, strict=True):
        for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
            assert np.array_equal(a, b)


def test_the_reference_is_read_once_for_all_that_fit(
    models: ModelSet, text: Text, host_build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    load = LogitsModel.__init__

    def counted(self: LogitsModel, gguf: Path, *given: Any, **named: Any) -> None:
        loaded.append(gguf)
        load(self, gguf, *given, **named)

    monkeypatch.setattr(LogitsModel, "__init__", counted)
    both = [models["Q4_K_M"], models["Q2_K"]]
    apart = []
    for memory, times in ((64 << 30, 1), (0, 2)):
        loaded.clear()
        monkeypatch.setattr("edgequant.quality.measure.available_memory_bytes", lambda m=memory: m)
        store = Store(tmp_path / str(memory))
        scores = all_scores(models["F16"], both, text, host_build, store, threads=1)
        assert loaded.count(models["F16"].path) == times
        apart.append([s.divergence.tolist() for s in scores])
    assert apart[0] == apart[1]


def test_a_batch_reads_as_its_parts_do(
    models: ModelSet, text: Text, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, library = models["F16"].path, host_build.binary(LIBRARY_NAME)
    passage = text.passages[1]

    def read() -> tuple[np.ndarray, list[int]]:
        with LogitsModel(path, library, context=64, threads=1) as model:
            parts = list(model.read(passage))
        return np.concatenate([p for p, _ in parts]), [t for _, ids in parts for t in ids]

    whole, following = read()
    monkeypatch.setattr("edgequant.quality.logits.BATCH_TOKENS", 7)
    parts, same = read()
    assert following == same == [passage.tokens[i] for i in passage.counted]
    # Other sums in another order, and a cache of half precision.
    assert np.abs(whole - parts).max() < 0.02 * np.abs(whole).max()


def test_a_file_without_weights_is_refused(tmp_path: Path, host_build: Any) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    whole = take_in({"tiny": path}, name="tiny")["tiny"]
    path.write_bytes(path.read_bytes()[: whole.bytes // 2])
    with pytest.raises(ConversionError, match=r"llama\.cpp cannot load it: ."):
        LogitsModel(path, host_build.binary(LIBRARY_NAME), context=64, threads=1)
