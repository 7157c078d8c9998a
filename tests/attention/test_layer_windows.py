"""Windows that differ by layer: every kernel, both bodies and the cache against the slow reference; the settings that
name them, from a policy, a file or a mapping, and how they act in a fit, in speech and in an export.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import wand
from tests.conftest import BODIES
from tests.workplace import SHAPE, Workplace
from wand.attention import (
    AttentionContext,
    AttentionWindow,
    LayerWindows,
    WindowPolicy,
    resolve_windows,
    use_wand_attention,
)
from wand.attention.reference import reference_attention
from wand.backbones.encodec_lm import EncodecLM
from wand.cli.configs import build_section
from wand.codecs.reference import Reference as Spoken
from wand.decoding.decoder import Body, Decoder
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.sizes import kv_bytes
from wand.model.batch import make_batch

WINDOWS = LayerWindows((AttentionWindow(7), AttentionWindow(4)))


class Pyramid(WindowPolicy):
    """A policy as a user writes it: the window shrinks from layer to layer.

    Args:
        first: W of the first layer.
    """

    def __init__(self, first: int) -> None:
        self.first = first

    def sizes(self, layers: int) -> Sequence[int]:
        return [self.first - 2 * layer for layer in range(layers)]


class Reference:
    """An attention context that computes every layer with the slow reference."""

    def __init__(self, windows: LayerWindows, boundary: int, starts: Tensor) -> None:
        self.windows, self.boundary, self.starts = windows, boundary, starts

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        window = self.windows.of(layer)
        return reference_attention(
            query, key, value, window=window, boundary=self.boundary, starts=self.starts, scaling=scaling
        )


@pytest.mark.parametrize("name", list(BODIES))
@pytest.mark.parametrize(
    "windows", [WINDOWS, WINDOWS.map(lambda w: AttentionWindow(w.size, 1.5))], ids=["hard", "soft"]
)
@torch.no_grad()
def test_a_forward_is_the_reference_layer_by_layer(name: str, windows: LayerWindows) -> None:
    torch.manual_seed(0)
    body = BODIES[name]().eval()
    use_wand_attention(body)
    embeds, starts = torch.randn(2, 5 + 20, body.config.hidden_size), torch.tensor([0, 2])
    positions = (torch.arange(25) - starts[:, None]).clamp(min=0)

    def run(context: Any) -> Tensor:
        return body(
            inputs_embeds=embeds, position_ids=positions, use_cache=False, attention_context=context
        ).last_hidden_state

    expected = run(Reference(windows, 5, starts))
    for kernel in ("dense", "auto") if windows.tau else ("dense", "band", "auto"):
        own = run(AttentionContext(windows, 5, starts, kernel=kernel))  # type: ignore[arg-type]
        for row, start in enumerate(starts.tolist()):
            torch.testing.assert_close(own[row, start:], expected[row, start:], atol=1e-4, rtol=1e-4)
    uniform = run(AttentionContext(windows.of(0), 5, starts))
    assert (uniform - expected)[:, -1].abs().max() > 0.01, "the second layer's window acts"


@pytest.mark.parametrize("body", ["transformers", "lean"])
@torch.no_grad()
def test_stepping_is_the_forward(tiny_lm: EncodecLM, random_batch: Any, body: Body) -> None:
    batch = random_batch(tiny_lm)
    expected = tiny_lm(batch, WINDOWS)
    decoder = Decoder(tiny_lm, WINDOWS, body)
    hidden, cache = decoder.prefill(batch)
    assert isinstance(cache, PrefixWindowCache)
    sizes = {cache.nbytes}
    for step in range(batch.columns.shape[1]):
        torch.testing.assert_close(tiny_lm.speech_head().logits(hidden), expected[:, step], atol=1e-4, rtol=1e-4)
        hidden = decoder.step(cache, batch.columns[:, step])
        sizes.add(cache.nbytes)
    columns = [batch.prefix_length + size for size in WINDOWS.plain]
    assert sizes == {kv_bytes(tiny_lm.decoder.config, columns, rows=3)}


def test_the_sizes_of_a_setting() -> None:
    assert resolve_windows(None, 3) == AttentionWindow()
    assert resolve_windows([8, 8], 2) == resolve_windows(8, 2) == AttentionWindow(8)
    assert resolve_windows(Pyramid(9), 3).plain == [9, 7, 5]
    with pytest.raises(ValueError, match="window has 2 sizes, the model has 3 layers"):
        resolve_windows([8, 8], 3)
    with pytest.raises(ValueError, match=r"windows by layer \[8, None\]"):
        LayerWindows((AttentionWindow(8), AttentionWindow()))
    with pytest.raises(ValueError, match="window has 1 sizes, the model has 2 layers"):
        PrefixWindowCache(BODIES["llama"]().config, prefix_length=2, window=[3])


def test_a_default_and_the_layers_that_differ(tmp_path: Path) -> None:
    setting = {"default": 32, "layers": {0: 64, 2: 16}}
    assert resolve_windows(setting, 4).plain == [64, 32, 16, 32]
    assert resolve_windows({"default": 32}, 3) == AttentionWindow(32)
    file = tmp_path / "windows.yaml"
    file.write_text("# made by hand\ndefault: 32\nlayers: {0: 64, 2: 16}\n")
    assert resolve_windows(str(file), 4).plain == [64, 32, 16, 32]
    file.write_text("[8, 16]")
    assert resolve_windows(file, 2).plain == [8, 16]


@pytest.mark.parametrize(("content", "size"), [("32", 32), ("# full\nnull\n", None)])
def test_a_file_may_hold_one_window(content: str, size: int | None, tmp_path: Path) -> None:
    (tmp_path / "windows.yaml").write_text(content)
    assert resolve_windows(tmp_path / "windows.yaml", 4) == AttentionWindow(size)


def test_numbers_of_numpy_become_plain() -> None:
    settings: list[Any] = [np.int64(8), np.linspace(8, 10, 3).astype(int), {"default": 8, "layers": {np.int64(1): 9}}]
    found = [resolve_windows(setting, 3).plain for setting in settings]
    assert found == [8, [8, 9, 10], [8, 9, 8]]
    assert {type(size) for sizes in found[1:] for size in sizes} | {type(found[0])} == {int}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"default": 32, "layers": {4: 8}}, "window names layer 4, the model has layers 0 to 3"),
        ({"default": 32, "layers": {-1: 8}}, "window names layer -1"),
        ({"default": 32, "layers": {"0": 8}}, "window names layer '0'"),
        ({"default": 32, "layers": {1: -8}}, "window of layer 1 -8 is not positive"),
        ({"default": None, "layers": {1: 8}}, "window of layer 0 None"),
        ({"default": 32, "layers": {1: 8.5}}, "window of layer 1 8.5"),
        ({"default": 32, "layers": [8]}, "is not of the form {default: 32, layers: {0: 64}}"),
        ({"default": 32, "layer": {1: 8}}, "is not of the form"),
        ({"layers": {1: 8}}, "is not of the form"),
        (8.5, "window 8.5 is not a whole number"),
        ("empty.yaml", "empty.yaml: window {} is not of the form"),
        ([8, 8, 0, 8], "window of layer 2 0 is not positive"),
        ("none.yaml", "window 'none.yaml' is no file"),
        ("word.yaml", "word.yaml: window {'wide': None} is not of the form"),
        ("wrong.yaml", "wrong.yaml: window names layer 9"),
    ],
)
def test_windows_that_do_not_fit_get_one_line(
    setting: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("word.yaml").write_text("wide")
    Path("empty.yaml").touch()
    Path("wrong.yaml").write_text("default: 8\nlayers: {9: 8}")
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        resolve_windows(setting, 4)
    assert "\n" not in str(error.value)


POLICY = "{class_path: tests.attention.test_layer_windows.Pyramid, init_args: {first: 12}}"


@pytest.mark.parametrize("setting", [POLICY, "windows.yaml", "{default: 10, layers: {0: 12}}"])
def test_a_setting_arrives_in_the_model(setting: str, workplace: Workplace) -> None:
    Path("windows.yaml").write_text("default: 12\nlayers: {1: 10}\n")
    model = {"backbone": {"class_path": "EncodecLM", "init_args": {"architecture": SHAPE}}, "window": setting}
    module = build_section("model", model)
    assert module.final_window.plain == module.settings.window == [12, 10]


@pytest.mark.parametrize("setting", [POLICY, "windows.yaml"], ids=["policy-from-outside", "file"])
def test_windows_from_a_fit_to_an_export(setting: str, workplace: Workplace) -> None:
    Path("windows.yaml").write_text("default: 12\nlayers: {1: 10}\n")
    fit = [option for option in workplace.fit if not option.startswith("--model.window")]
    silent = ["--trainer.max_steps=2", "--recogniser=null", "--checkpoint.monitor=val/agreement"]
    window = f"--model.window={setting}"
    workplace.run("fit", "--config", "quickstart", *fit, *silent, "--checkpoint.mode=max", window)
    Path("windows.yaml").unlink()  # a run does not depend on the file
    stored = torch.load("runs/quickstart/checkpoints/last.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["window"] == [12, 10]
    if setting != POLICY:
        written = yaml.safe_load(Path("runs/quickstart/config.yaml").read_text())
        assert written["model"]["window"] == {"default": 12, "layers": {"1": 10}}  # the content, not the file's name
        workplace.run("validate", "--ckpt_path", "runs/quickstart")
    model = wand.load("runs/quickstart")
    assert model.window.plain == [12, 10]
    text = model.backbone.conditioner("so it is", Spoken(torch.randint(0, 256, (8, 60))))
    _, cache = model.decoder.prefill(make_batch(model.backbone.conditioner, model.backbone.layout, [text]))
    assert isinstance(cache, PrefixWindowCache)
    assert [ring.keys.shape[2] - cache.prefix_length for ring in cache.rings] == [12, 10]
    workplace.run("export", "--ckpt_path", "runs/quickstart", "--out", "exported")
    assert wand.load("exported").window == model.window
