"""The recipe of the embedded voice, at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recipes.teacher.export import export
from recipes.teacher.history import hide_columns, runs
from tests.workplace import ESPEAK, SHAPE, Workplace
from wand import WandModule
from wand.backbones.encodec_lm import EncodecLM
from wand.runs.checkpoints import load_backbone_and_settings

RECIPE = Path(__file__).parents[2] / "recipes" / "teacher" / "config.yaml"
ARCHITECTURE = [
    f"--model.backbone.init_args.architecture.{name}={value}" for name, value in {**SHAPE, "num_layers": 3}.items()
]


def test_the_recipe_trains_from_random_weights_and_becomes_an_asset(workplace: Workplace) -> None:
    workplace.run(
        "fit",
        "--config",
        str(RECIPE),
        *ARCHITECTURE,
        *ESPEAK,
        *workplace.data,
        "--trainer.val_check_interval=1.0",
        "--trainer.max_epochs=1",
        "--speech.sentences=1",
        "--table.closing.sentences=1",
    )
    module = WandModule.load_from_checkpoint("runs/teacher")
    assert module.final_window.is_full
    assert module.settings.teacher is None
    export(Path("runs/teacher"), Path("asset"))
    exported = EncodecLM(pretrained="asset")
    exported.load_pretrained()
    best, _ = load_backbone_and_settings("runs/teacher/checkpoints/best.ckpt")
    for name, weight in best.state_dict().items():
        assert torch.equal(exported.state_dict()[name], weight.half().float()), name
    assert "reads English from phones" in Path("asset/README.md").read_text()


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_runs_are_those_of_a_loop(length: int) -> None:
    begins, goes_on = torch.rand(2, 50, length).lt(0.4).unbind()
    inside, expected = torch.zeros(50, dtype=torch.bool), []
    for column in range(length):
        inside = torch.where(inside, goes_on[:, column], begins[:, column])
        expected.append(inside)
    assert torch.equal(runs(begins, goes_on), torch.stack(expected, 1))


@pytest.mark.parametrize(("rate", "span"), [(0.5, 4), (0.4, 1), (0.2, 10)])
def test_as_much_is_hidden_as_was_asked(rate: float, span: int) -> None:
    columns = torch.arange(1, 200 * 600 * 2 + 1).view(200, 600, 2)
    hidden = hide_columns(columns, rate, span, 0, torch.Generator().manual_seed(0))
    changed = (hidden != columns).any(-1)
    assert float(changed.float().mean()) == pytest.approx(rate / 2, rel=0.15)
    filler = (hidden == 0).all(-1)
    assert float(filler.sum() / changed.sum()) == pytest.approx(0.5, abs=0.03)
    # A span ends where the next column is in view again.
    ends = (changed[:, :-1] & ~changed[:, 1:]).sum()
    assert float(changed.sum() / ends) == pytest.approx(span, rel=0.15)


def test_nothing_is_hidden_at_rate_zero_and_whole_columns_otherwise() -> None:
    columns = torch.randint(1, 9, (3, 20, 4))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(hide_columns(columns, 0.0, 4, 0, generator), columns)
    hidden = hide_columns(columns, 0.9, 4, 0, generator)
    known = {tuple(column) for column in columns.flatten(0, 1).tolist()} | {(0, 0, 0, 0)}
    assert {tuple(column) for column in hidden.flatten(0, 1).tolist()} <= known
