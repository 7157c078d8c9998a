"""LoRA: one copy of the weights is teacher and student; checkpoints hold the adapters, exports are whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, LlamaModel

import wand
from benchmarks.held import Held
from tests.backbones.test_causal_lm import shipped_format, voice, write_model
from tests.conftest import TINY, sharpened
from tests.training.accumulated import fit, on_two_ranks, strategy_of, utterances
from wand.attention import AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.lora import LoraSettings, has_adapters
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, make_batch
from wand.model.sampling import Sampling
from wand.runs.checkpoints import load_backbone_and_settings, load_original, read_checkpoint
from wand.runs.export import export, export_adapter
from wand.runs.settings import OptimizerSettings
from wand.training.memory import step_memory
from wand.training.memory_parts import Step, size
from wand.training.module import WandModule
from wand.training.teacher import COPY, SELF, FrozenTeacher

LORA = LoraSettings(rank=4, alpha=8)
FULL, WINDOW = AttentionWindow(), AttentionWindow(8)
GROUPS = [[0, 1, 2, 3], [0, 1, 2, 3]]
FAST = OptimizerSettings(learning_rate=0.02, warmup=0.0)


@pytest.fixture
def original(tmp_path: Path) -> str:
    """Weights that attend to what they see, so that a window changes what they say."""
    torch.manual_seed(0)
    sharpened(EncodecLM(architecture=TINY)).save_pretrained(tmp_path / "original")
    return str(tmp_path / "original")


def module_of(original: str, **settings: Any) -> WandModule:
    torch.manual_seed(0)
    chosen = {"window": 8, "teacher": SELF, "lora": LORA, "optimizer": FAST} | settings
    return WandModule(EncodecLM(pretrained=original), **chosen)


def opened(original: str) -> EncodecLM:
    lm = EncodecLM(pretrained=original)
    lm.load_pretrained()
    return lm.eval()


class Save(Callback):
    """Saves a checkpoint after a step."""

    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file, weights_only=False)


@pytest.fixture
def trained(original: str, tmp_path: Path) -> tuple[WandModule, Path]:
    """A student after a few steps, and its run folder."""
    module, best = module_of(original), tmp_path / "run" / "checkpoints" / "best.ckpt"
    fit(GROUPS * 2, module, callbacks=[Save(best, 4)])
    module.eval()
    return module, tmp_path / "run"


def close(own: torch.Tensor, expected: torch.Tensor) -> None:
    assert (own - expected).abs().max() <= 1e-6 * expected.abs().max()


# -- training ------------------------------------------------------------------------------------------------------


def test_one_copy_of_the_weights_is_teacher_and_student(trained: tuple[WandModule, Path], original: str) -> None:
    module, _ = trained
    assert module.teacher.shares_weights
    batch, first = utterances(module.backbone, range(4)), opened(original)
    with torch.no_grad():
        predicted = module.teacher.head_input(batch)
        assert predicted is not None
        assert torch.equal(predicted.logits(), first(batch, FULL))
        assert not torch.allclose(module.backbone(batch, WINDOW), first(batch, WINDOW), atol=0.1)
    weights = dict(first.named_parameters())
    for name, parameter in module.backbone.named_parameters():
        assert parameter.requires_grad == (".lora_" in name)
        if not parameter.requires_grad:
            assert torch.equal(parameter, weights[name.replace(".base_layer", "")]), name


def test_it_learns(original: str) -> None:
    record = fit([[0, 1, 2, 3]] * 30, module_of(original, loss=wand.LossTerms(ce_weight=0.0)))
    kl = [logged["train/kl"] for logged in record.logged]
    assert kl[-1] < 0.7 * kl[0]


def test_another_teacher_is_a_model_of_its_own(original: str) -> None:
    own, other = module_of(original), module_of(original, teacher=COPY)
    records = [fit([[0, 1, 2, 3]], module) for module in (own, other)]
    assert isinstance(other.teacher, FrozenTeacher)
    assert not has_adapters(other.teacher.backbone.decoder)
    (mine,), (theirs,) = (record.gradients for record in records)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_memory_is_saved_and_precision_mixed_without_changing_the_step(original: str) -> None:
    (plain,) = fit([[0, 1, 2, 3]], module_of(original)).gradients
    (saved,) = fit([[0, 1, 2, 3]], module_of(original, gradient_checkpointing=True)).gradients
    assert all(torch.allclose(plain[name], saved[name], rtol=1e-5, atol=1e-7) for name in plain)
    (parts,) = fit([[0, 1], [2, 3]], module_of(original), accumulate_grad_batches=2).gradients
    assert all(torch.allclose(plain[name], parts[name], rtol=1e-4, atol=1e-6) for name in plain)
    (mixed,) = fit([[0, 1, 2, 3]], module_of(original), precision="bf16-mixed").gradients
    for name in plain:
        assert (plain[name] - mixed[name]).norm() <= 0.1 * plain[name].norm(), name


def train_on(rank: int, original: str, strategy: str) -> Any:
    torch.manual_seed(0)
    if rank:
        torch.rand(7)  # ranks may have drawn different numbers before the adapters are made
    module = module_of(original)
    record = fit([[2 * rank, 2 * rank + 1]] * 3, module, devices=2, strategy=strategy_of(strategy), max_steps=3)
    return record.gradients[0], [logged["train/loss"] for logged in record.logged]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_equal_one(original: str, tmp_path: Path, strategy: str) -> None:
    torch.manual_seed(0)
    alone = fit([[0, 1, 2, 3]] * 3, module_of(original))
    for gradients, losses in on_two_ranks(tmp_path, train_on, original, strategy):
        assert losses == pytest.approx([logged["train/loss"] for logged in alone.logged], rel=1e-5)
        assert gradients.keys() == alone.gradients[0].keys()
        for name, gradient in alone.gradients[0].items():
            assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_the_estimate_counts_what_is_there(tmp_path: Path) -> None:
    shape = dataclasses.replace(TINY, hidden_size=128, num_layers=6, intermediate_size=384)
    EncodecLM(architecture=shape).save_pretrained(tmp_path / "larger")
    module = module_of(str(tmp_path / "larger"))
    module.setup("fit")
    assert module.teacher.shares_weights
    backbone, batch = module.backbone.train(), utterances(module.backbone, range(4))
    columns = batch.prefix_length + batch.columns.shape[1]
    step = Step(len(batch), columns, batch.labels.shape[1], mixed=False, teacher="shared")
    counted = step_memory(backbone, step)
    optimizer = torch.optim.AdamW(parameter for parameter in backbone.parameters() if parameter.requires_grad)
    with Held() as held:
        for parameter in backbone.parameters():
            held.hold(parameter)
        for _ in range(2):
            held.peak = 0
            own, expected = backbone.head_input(batch, WINDOW), module.teacher.head_input(batch)
            loss = own.loss(batch.labels, torch.ones(batch.labels.shape), wand.LossTerms(), expected).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert counted.weights == size(backbone.parameters())
    assert counted.gradients == size(p.grad for p in backbone.parameters() if p.grad is not None)
    assert counted.optimiser == size(x for state in optimizer.state.values() for x in state.values() if x.ndim)
    assert counted.teacher == 0
    assert counted.total == pytest.approx(held.peak, rel=0.2)  # the masks of padded rows are not counted


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_adapters_and_the_digest(trained: tuple[WandModule, Path], original: str) -> None:
    module, run = trained
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    names = {f"backbone.{name}" for name, own in module.backbone.named_parameters() if own.requires_grad}
    assert checkpoint["state_dict"].keys() == names
    assert len(names) == 2 * 7 * TINY.num_layers
    assert checkpoint["wand"]["pretrained_digest"] == opened(original).pretrained_digest()


def test_a_run_is_opened_as_one_whole_model(trained: tuple[WandModule, Path], original: str) -> None:
    module, run = trained
    student, settings = load_backbone_and_settings(run)
    assert settings.lora == LORA
    assert student.state_dict().keys() == opened(original).state_dict().keys()
    assert type(student.decoder.layers[0].mlp.up_proj) is torch.nn.Linear
    batch = utterances(student, range(4))
    with torch.no_grad():
        close(student(batch, WINDOW), module.backbone(batch, WINDOW))
        assert torch.equal(load_original(run)(batch, FULL), opened(original)(batch, FULL))


def test_a_missing_or_changed_original_is_named(trained: tuple[WandModule, Path], original: str) -> None:
    _, run = trained
    moved = Path(original).rename(Path(original).with_name("away"))
    with pytest.raises(ValueError, match=f"needs the original weights at '{original}': no weights at") as missing:
        load_backbone_and_settings(run)
    assert "\n" not in str(missing.value)
    moved.rename(original)
    sharpened(opened(original)).save_pretrained(Path(original))
    with pytest.raises(ValueError, match="have changed since the run"):
        load_backbone_and_settings(run)


def test_a_resumed_run_equals_an_undisturbed_one(original: str, tmp_path: Path) -> None:
    whole = module_of(original)
    fit(GROUPS * 2, whole, callbacks=[Save(tmp_path / "2.ckpt", 2)])
    resumed = module_of(original)
    batches = [utterances(resumed.backbone, rows) for rows in GROUPS * 2]
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    run = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)
    run.fit(resumed, DataLoader(batches, batch_size=None), ckpt_path=tmp_path / "2.ckpt", weights_only=True)
    assert run.global_step == 4
    own, other = whole.backbone.state_dict(), resumed.backbone.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=8), LoraSettings(rank=4, alpha=4)])
def test_a_checkpoint_of_other_adapters_is_refused(
    trained: tuple[WandModule, Path], original: str, lora: LoraSettings | None
) -> None:
    _, run = trained
    module = module_of(original, lora=lora, teacher=COPY)
    with pytest.raises(ValueError, match=r"model\.lora is .*, but the checkpoint was trained with .*rank=4, alpha=8"):
        module.on_load_checkpoint(read_checkpoint(run / "checkpoints" / "best.ckpt"))


# -- systems -------------------------------------------------------------------------------------------------------


def speak(model: Backbone, batch: ConditionedBatch, window: AttentionWindow) -> list[list[Any]]:
    spoken = generate(Decoder(model, window), batch, rules=StopRules(30), sampling=Sampling(temperature=0))
    return [one.codes.tolist() for one in spoken]


def test_every_system_has_its_weights(trained: tuple[WandModule, Path], original: str) -> None:
    module, run = trained
    first, (student, _) = opened(original), load_backbone_and_settings(run)
    batch = utterances(student, range(4))
    expected = {"teacher": (first, FULL), "untrained": (first, WINDOW), "student": (student, WINDOW)}
    assert [system.name for system in module.systems] == list(expected)
    said = []
    for system in module.systems:
        model, window = expected[system.name]
        assert system.window == window
        with module.weights_of(system)() as own, torch.no_grad():
            torch.testing.assert_close(own(batch, system.window), model(batch, window), rtol=1e-4, atol=1e-4)
            said.append(speak(own, batch, system.window))
        assert said[-1] == speak(model, batch, window)
    assert said[0] != said[1] != said[2]


# -- exports -------------------------------------------------------------------------------------------------------


def causal_run(folder: Path, name: str) -> tuple[WandModule, Path]:
    """A run with LoRA on a causal language model, whose adapters have random weights."""
    write_model(folder / "original", name, tied=True)
    backbone = CausalSpeechLM(pretrained=str(folder / "original"), format=shipped_format(name))
    module = WandModule(backbone, window=8, teacher=SELF, lora=LoraSettings(4, 8, ["q_proj", "mlp.up_proj"]))
    module.setup("fit")
    with torch.no_grad():
        for parameter in filter(lambda parameter: parameter.requires_grad, backbone.parameters()):
            parameter.normal_(std=0.5)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(folder / "run" / "checkpoints" / "best.ckpt")
    module.eval()
    return module, folder / "run"


def test_an_export_is_whole_and_merged(tmp_path: Path) -> None:
    module, run = causal_run(tmp_path, "llasa")
    export(run, tmp_path / "out")
    Path(tmp_path / "original").rename(tmp_path / "away")
    loaded = wand.load(tmp_path / "out").backbone
    batch = make_batch(loaded.conditioner, loaded.layout, [loaded.conditioner("hello.", voice("llasa"))], None)
    with torch.no_grad():
        close(loaded(batch, WINDOW), module.backbone(batch, WINDOW))
    assert json.loads((tmp_path / "out" / "wand.json").read_text())["training"]["settings"]["lora"]["rank"] == 4
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("name", ["llasa", "neutts"])
def test_peft_opens_an_exported_adapter_on_the_original(tmp_path: Path, name: str) -> None:
    from peft import PeftModel

    module, run = causal_run(tmp_path, name)
    export_adapter(run, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "original")
    embeds = torch.randn(1, 9, 32)
    with torch.no_grad():
        before = stock(inputs_embeds=embeds).logits
        adapted = PeftModel.from_pretrained(stock, tmp_path / "out").eval()(inputs_embeds=embeds).logits
        hidden = module.backbone.decoder(
            inputs_embeds=embeds, use_cache=False, attention_context=wand.AttentionContext(FULL, 9)
        ).last_hidden_state
        close(adapted, module.backbone.full_logits(hidden))
    assert (adapted - before).abs().max() > 1e-3 * before.abs().max()


def test_peft_opens_an_exported_adapter_on_a_body(trained: tuple[WandModule, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    module, run = trained
    export_adapter(run, tmp_path / "out", torch.bfloat16)
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    export_adapter(run, tmp_path / "exact")
    body = opened(str(tmp_path / "original"))
    batch = utterances(body, range(4))
    PeftModel.from_pretrained(body.decoder, tmp_path / "exact")
    with torch.no_grad():
        close(body(batch, WINDOW), module.backbone(batch, WINDOW))
    assert isinstance(body.decoder, LlamaModel)
    card = (tmp_path / "exact" / "README.md").read_text()
    assert body.pretrained_digest() in card
    assert "8 columns" in card


def test_a_run_without_adapters_has_none_to_export(original: str, tmp_path: Path) -> None:
    module = module_of(original, lora=None, teacher=COPY)
    fit([[0]], module, callbacks=[Save(tmp_path / "1.ckpt", 1)])
    with pytest.raises(ValueError, match=r"has no adapter \(model\.lora null\): export it without --adapter"):
        export_adapter(tmp_path / "1.ckpt", tmp_path / "out")


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "model.lora.rank 0"),
        ({"alpha": 0.0}, "model.lora.alpha 0"),
        ({"targets": []}, "model.lora.targets"),
        ({"targets": ["proj"]}, "no projection 'proj'; it has down_proj, gate_proj, k_proj"),
    ],
)
def test_settings_that_cannot_work_are_named(tiny_lm: EncodecLM, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WandModule(tiny_lm, window=8, lora=LoraSettings(**settings))


def test_only_the_targets_are_adapted(original: str) -> None:
    module = module_of(original, lora=dataclasses.replace(LORA, targets=["q_proj", "mlp.up_proj"]))
    module.setup("fit")
    names = {name.partition(".lora_")[0].split(".", 3)[3] for name in module.backbone.state_dict()}
    assert names == {"self_attn.q_proj", "mlp.up_proj"}


def test_adapters_need_original_weights(tiny_lm: EncodecLM) -> None:
    module = WandModule(tiny_lm, window=8, teacher=SELF, lora=LORA)
    with pytest.raises(ValueError, match=r"model\.lora is set, but the backbone has no pretrained weights"):
        module.setup("fit")


def test_without_peft_the_extra_is_named(tiny_lm: EncodecLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wand.lora.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"model\.lora needs peft.*wand-tts\[lora\]"):
        WandModule(tiny_lm, window=8, lora=LORA)
