"""Where in the text a column is: from espeak-ng's own timing, and shown to attention heads in a real fit."""

from __future__ import annotations

from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from recipes.teacher.alignment import AddLoss, first_head, symbols_at
from tests.workplace import ESPEAK, SHAPE, Workplace
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.demo.corpus import VOICES
from wand.text.espeak import SAMPLE_RATE, phone_times, synthesize
from wand.text.front_end import phones

RECIPE = Path(__file__).parents[2] / "recipes" / "teacher" / "config.yaml"


def test_every_frame_has_the_symbol_that_is_spoken_in_it() -> None:
    # 10 Hz; "t" lasts 0.2 s, "ɛ" 0.4, "n" 0.2; the stress mark has no sound of its own and shares with the vowel.
    spoken = [("t", 0.0), ("ˈɛ", 0.2), ("n", 0.6)]
    assert symbols_at("tˈɛn", spoken, 8, 10.0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_the_voice_says_otherwise_is_spread_between_what_agrees() -> None:
    spoken = [("t", 0.0), ("o", 0.2), ("d", 0.6)]
    assert symbols_at("tuːd", spoken, 8, 10.0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_every_voice_walks_through_its_text_from_beginning_to_end() -> None:
    text = "the old captain sailed around the village, and then he slept."
    symbols = phones(text)
    for voice in VOICES:
        frames = len(synthesize(text, voice)) * 50 // SAMPLE_RATE
        walk = symbols_at(symbols, phone_times(text, voice), frames, 50.0)
        assert len(walk) == frames
        assert (walk.diff() >= 0).all()
        assert walk[0] == 0
        assert walk[-1] == len(symbols) - 1
        assert len(walk.unique()) > 0.8 * len(symbols)


def test_an_added_loss_reaches_its_own_parameters_and_leaves_the_others_alone() -> None:
    shared, own = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor(5.0, requires_grad=True)
    passed = AddLoss.apply(shared * 2, own.square())
    assert torch.equal(passed, shared * 2)
    passed.sum().backward()
    assert shared.grad is not None
    assert own.grad is not None
    assert shared.grad.tolist() == [2, 2]
    assert own.grad.item() == 10


def test_the_watched_head_is_the_first_of_the_layer() -> None:
    torch.manual_seed(0)
    lm = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))
    attention = lm.decoder.get_submodule("layers.0.self_attn")
    hidden = torch.randn(2, 9, lm.shape.hidden_size)
    rotation = lm.decoder.get_submodule("rotary_emb")(hidden, torch.arange(9)[None])
    seen: list[Tensor] = []

    class Spy:
        def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
            seen.append(query[:, 0] @ key[:, 0].transpose(-1, -2) * scaling)
            return query.transpose(1, 2).contiguous()

    attention(hidden_states=hidden, position_embeddings=rotation, attention_mask=None, attention_context=Spy())
    torch.testing.assert_close(first_head(attention, hidden, rotation), seen[0])


def test_a_fit_looks_better_at_its_text_from_epoch_to_epoch(workplace: Workplace) -> None:
    shape = {**SHAPE, "num_layers": 3}
    architecture = [f"--model.backbone.init_args.architecture.{name}={value}" for name, value in shape.items()]
    silent = ["--recogniser=null", "--speech.sounds=0", "--table.columns=[10]", "--checkpoint.monitor=val/ce"]
    long = ["--trainer.max_epochs=8", "--trainer.check_val_every_n_epoch=8", "--model.optimizer.learning_rate=1e-2"]
    workplace.run(
        "fit",
        "--config",
        str(RECIPE),
        *architecture,
        *ESPEAK,
        *workplace.data,
        "--trainer.val_check_interval=1.0",
        *silent,
        *long,
    )
    events = EventAccumulator("runs/teacher")
    events.Reload()
    losses = [event.value for event in events.Scalars("train/alignment")]
    epoch = len(losses) // 8
    assert sum(losses[-epoch:]) < 0.85 * sum(losses[:epoch])
