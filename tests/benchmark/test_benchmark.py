"""What is measured is what decodes do, at every place where it is possible."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from transformers import DynamicCache

from tests.benchmark.tiny_shapes import tiny_shape
from wand.attention import AttentionWindow, LayerWindows
from wand.attention.interface import ATTENTION_NAME
from wand.benchmark import machine
from wand.benchmark.cost_report import MISSING, CostReport, save, sentences, speech_table, step_table
from wand.benchmark.figure import curve_seconds, save_latency
from wand.benchmark.measure import Bench, Place
from wand.benchmark.paths import (
    GENERATE,
    GENERATED,
    LEAN,
    TRANSFORMERS,
    MeasuredSystem,
    StockGenerate,
    make_cache,
    measured_systems,
    open_steps,
)
from wand.cli.benchmark import parse
from wand.codecs import EncodecCodec
from wand.decoding.decoder import Decoder
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.backbone import Backbone

CPU = torch.device("cpu")
W = AttentionWindow(4)
BY_LAYER = LayerWindows((AttentionWindow(4), AttentionWindow(7)))


def bench(backbone: Backbone, systems: Sequence[MeasuredSystem] = ()) -> Bench:
    return Bench(backbone, systems or measured_systems(W, int8=True), prefix=7, repeats=1)


@pytest.fixture(scope="module")
def report() -> CostReport:
    """Of a tiny CosyVoice 2; the codec is another model's, which makes no difference to what it costs."""
    torch.manual_seed(0)
    made = bench(tiny_shape("cosyvoice2").build("cpu"))
    places = [Place(seconds, rows) for rows in (1, 2) for seconds in (0.4, 2)]
    return CostReport(
        model="tiny",
        machine=machine.describe(CPU),
        dtype="float32",
        prefix=7,
        window=4,
        columns_per_second=25.0,
        tokens_a_column=1,
        bandwidth=machine.read_bandwidth(CPU, size=2**16, repeats=1),
        steps=[cost for place in places for cost in made.steps(place)],
        curve=[cost for seconds in (0, 1) for cost in made.steps(Place(seconds))],
        speech=made.speech(EncodecCodec()),
    )


# -- systems -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [0, 9], ids=["beginning", "ring-wrapped"])
@pytest.mark.parametrize(
    "system",
    measured_systems(W, int8=True) + measured_systems(BY_LAYER, int8=False)[3:],
    ids=lambda system: system.name,
)
def test_a_cache_holds_the_bytes_that_are_told(system: MeasuredSystem, columns: int) -> None:
    backbone = tiny_shape("cosyvoice2").build("cpu")
    cache = make_cache(system, backbone, 7, columns, 3)
    layers = cache.rings if isinstance(cache, PrefixWindowCache) else cache.layers
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert held == system.cache_bytes(backbone, 7, columns, 3)


@pytest.mark.parametrize("name", ["cosyvoice2", "indextts", "sparktts"])
def test_a_step_goes_on_from_where_the_cache_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the positions that follow, for every row."""
    backbone = tiny_shape(name).build("cpu")
    offsets: list[Tensor] = []
    embed = backbone.embed_speech

    def noted(columns: Tensor, offset: Tensor) -> Tensor:
        offsets.append(offset.clone())
        return embed(columns, offset)

    monkeypatch.setattr(backbone, "embed_speech", noted)
    for system in measured_systems(W, int8=False):
        if system.path == GENERATE:
            continue
        offsets.clear()
        draw, feed = open_steps(system, backbone).begin(make_cache(system, backbone, 7, 9, 2), 7, 2)
        for _ in range(2):
            draw()
            feed()
        assert [offset.tolist() for offset in offsets] == [[9, 9], [10, 10]]


def test_stock_generate_speaks_what_the_decoder_does() -> None:
    """Greedily, under full attention, from the same cache; and every call from the same place."""
    torch.manual_seed(0)
    backbone = tiny_shape("sparktts").build("cpu")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(8)  # so that tokens differ
    begun = make_cache(MeasuredSystem(AttentionWindow(), TRANSFORMERS), backbone, 7, 9, 1)
    stock = DynamicCache()
    for index, layer in enumerate(begun.layers):
        stock.update(layer.keys.clone(), layer.values.clone(), index)
    _, speak = StockGenerate(backbone).begin(stock, 7, 1)
    calls = [speak() for _ in range(2)]
    decoder = Decoder(backbone, AttentionWindow(), "transformers")
    token, own = torch.zeros(1, 1, dtype=torch.long), []
    for _ in range(GENERATED):
        token = backbone.speech_head().logits(decoder.step(begun, token)).argmax(-1)
        own.append(int(token))
    assert [call.tolist() for call in calls] == [[own]] * 2
    assert len(set(own)) > 1
    assert stock.get_seq_length() == 16
    assert backbone.decoder.config._attn_implementation == ATTENTION_NAME


def test_a_model_that_has_no_stock_generate_says_why() -> None:
    with pytest.raises(ValueError, match="the body's own embedding"):
        open_steps(MeasuredSystem(AttentionWindow(), GENERATE), tiny_shape("indextts").build("cpu"))


# -- places --------------------------------------------------------------------------------------------------------


def test_every_system_is_measured_at_every_place(report: CostReport) -> None:
    systems = [system.name for system in measured_systems(W, int8=True)]
    assert [step.system for step in report.steps] == systems * 4
    for step in report.steps:
        if step.path == GENERATE and step.rows > 1:
            assert step.milliseconds is None
            assert "one row" in str(step.reason)
        else:
            assert step.milliseconds is not None
            assert step.milliseconds > 0
            assert step.reason is None


def test_full_attention_grows_and_the_window_does_not(report: CostReport) -> None:
    for system in measured_systems(W, int8=True):
        early, late = (next(s for s in report.steps if s.system == system.name and s.seconds == t) for t in (0.4, 2))
        same = early.kv_bytes == late.kv_bytes, early.flops == late.flops, early.read_bytes == late.read_bytes
        assert same == (not system.window.is_full,) * 3


def test_learned_positions_bound_the_places() -> None:
    made = bench(tiny_shape("indextts").build("cpu"))  # 200 positions
    assert made.longest(600) == pytest.approx(196 / 23.4375)  # one step and three before it are still to come
    assert made.longest(2) == 2
    near, far = made.steps(Place(made.longest(600))), made.steps(Place(10))
    assert {step.path for step in near if step.milliseconds is None} == {GENERATE}
    assert all(
        step.milliseconds is None and "learned positions" in str(step.reason) for step in far if step.path != GENERATE
    )


def test_memory_bounds_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_shape("cosyvoice2").build("cpu")
    windowed = MeasuredSystem(W, LEAN)
    monkeypatch.setattr(machine, "free_bytes", lambda device: 2 * windowed.cache_bytes(backbone, 7, 250, 1))
    full, window = bench(backbone, [MeasuredSystem(AttentionWindow(), LEAN), windowed]).steps(Place(10))
    assert full.milliseconds is None
    assert "GiB" in str(full.reason)
    assert window.milliseconds is not None


def test_a_shortage_is_what_does_not_fit() -> None:
    assert machine.shortage(2**20, CPU) is None
    assert "are free" in str(machine.shortage(2**50, CPU))


# -- reports -------------------------------------------------------------------------------------------------------


def test_figures_follow_from_what_was_measured(report: CostReport) -> None:
    step = next(s for s in report.steps if s.path == LEAN and s.window == 4 and s.rows == 2)
    assert step.milliseconds is not None
    assert step.drawing is not None
    column = (step.milliseconds + step.drawing) / 1000
    assert report.tokens_per_second(step) == pytest.approx(2 / column)
    assert report.real_time_factor(step) == pytest.approx(25 * column)
    assert report.floor_milliseconds(step) == pytest.approx(1000 * step.read_bytes / report.bandwidth)
    assert report.speech.codec_first is not None
    assert report.first_audio(step) == pytest.approx(
        report.speech.prefix + 25 * 1000 * column + report.speech.codec_first
    )


def test_tables_have_a_line_for_every_system(report: CostReport) -> None:
    titles, lines = step_table(report)
    assert len(lines) == len(report.steps)
    assert {len(line) for line in lines} == {len(titles)}
    assert [line[0] for line in lines if line[0]] == [
        "0.4 s, batch 1",
        "2 s, batch 1",
        "0.4 s, batch 2",
        "2 s, batch 2",
    ]
    titles, lines = speech_table(report)
    assert [line[0] for line in lines] == [system.name for system in measured_systems(W, int8=True)]
    assert all(line[1] == "included" for line in lines)


def test_empty_places_are_explained_once(report: CostReport) -> None:
    told = [line for line in sentences(report) if line.startswith(MISSING)]
    assert told == [
        "n/a: full, generate() (0.4 s x 2, 2 s x 2): one call speaks 8 columns, so it is timed only for one row."
    ]


def test_files(report: CostReport, tmp_path: Path) -> None:
    save(report, tmp_path)
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert [step["milliseconds"] for step in content["steps"]] == [step.milliseconds for step in report.steps]
    assert content["steps"][0]["floor_milliseconds"] > 0
    assert save_latency(report, tmp_path) == []
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["benchmark/latency"]
    (scalars,) = [events.Scalars(tag) for tag in events.Tags()["scalars"] if tag.endswith("window 4, transformers")]
    assert [scalar.step for scalar in scalars] == [0, 25]


def test_the_curve_runs_from_the_first_column_to_the_last() -> None:
    seconds = curve_seconds(600)
    assert (seconds[0], seconds[-1]) == (0, 600)
    assert seconds == sorted(set(seconds))


def test_options_without_an_effect_on_the_papers_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="--window has no effect with --paper"):
        parse(["--paper", "--window", "5"])
    assert parse(["--paper"]).paper
