"""`BackboneContract`: a pytest suite that tests an adapter. Adapters in other packages can use it too.

    from wand.testing import BackboneContract

    class TestMyModel(BackboneContract):
        def make_backbone(self): ...
        def make_examples(self, backbone): ...

Put ``pytest.register_assert_rewrite("wand.testing")`` into ``conftest.py``, so that failures show values.
"""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.body import dropout_settings
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.distillation.losses import IGNORE, cross_entropy, masked_sum, skew_kl
from wand.distillation.terms import LossTerms
from wand.lora import LoraSettings, inject, merge
from wand.model.adapters import build_backbone
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.testing.decoding import DecodingContract
from wand.testing.tools import Examples, batch_of, explicit_mask, later, one_process, shapes
from wand.training.teacher import COPY, build_teacher


class BackboneContract(DecodingContract):
    """Tests of what every `Backbone` must do. A subclass provides a tiny model and a few utterances.

    Attributes:
        tolerance: Absolute and relative tolerance of float32 logits.
        wraps: How often the ring wraps in the decoding tests, if `max_speech_tokens` allows it.
    """

    wraps: int = 6

    # -- a subclass provides these -------------------------------------------------------------------------------

    def make_backbone(self) -> Backbone:
        """A tiny model with random weights in float32."""
        raise NotImplementedError

    def make_examples(self, backbone: Backbone) -> Examples:
        """Conditioning and codes ``[K, F]`` of two or more utterances. Their prefixes must differ in length."""
        raise NotImplementedError

    def make_reference(self, backbone: Backbone, codes: Tensor) -> Reference:
        """A reference for the conditioner."""
        return Reference(codes=codes, audio=0.1 * torch.randn(backbone.sample_rate), text="a voice")

    def reload(self, backbone: Backbone, folder: Path) -> Backbone:
        """Load the model that ``backbone.save_pretrained(folder)`` wrote."""
        again = type(backbone)(pretrained=str(folder))
        again.load_pretrained()
        return again

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def backbone(self) -> Backbone:
        """The model under test, in eval mode."""
        torch.manual_seed(0)
        return self.make_backbone().eval()

    @pytest.fixture
    def window(self, backbone: Backbone) -> AttentionWindow:
        """A small hard window that is larger than the delay."""
        return AttentionWindow(backbone.layout.flush_columns + 3)

    @pytest.fixture
    def examples(self, backbone: Backbone, window: AttentionWindow) -> Examples:
        """The utterances, with codes repeated until the ring wraps often. Each is one frame shorter than the last."""
        assert window.size is not None
        columns = self.wraps * window.size
        if backbone.max_speech_tokens is not None:
            columns = min(columns, backbone.max_speech_tokens - backbone.layout.flush_columns)
        frames = max(columns // backbone.layout.columns_per_frame, 3)
        given = self.make_examples(backbone)
        repeated = [codes.repeat(1, -(-frames // codes.shape[1])) for _, codes in given]
        return [
            (one[0], codes[:, : frames - row]) for row, (one, codes) in enumerate(zip(given, repeated, strict=True))
        ]

    @pytest.fixture
    def batch(self, backbone: Backbone, examples: Examples) -> ConditionedBatch:
        """The utterances as a batch."""
        return batch_of(backbone, examples)

    # -- facts ---------------------------------------------------------------------------------------------------

    def test_facts_are_consistent(self, backbone: Backbone) -> None:
        """Rates, codebooks, vocabulary and head agree."""
        assert backbone.frame_rate > 0
        assert backbone.layout.columns_per_frame >= 1
        assert backbone.sample_rate > 0
        assert backbone.num_codebooks == backbone.layout.num_codebooks >= 1
        assert backbone.max_speech_tokens is None or backbone.max_speech_tokens > 0
        rows = range(backbone.speech_vocab_size)
        assert backbone.stop_ids
        assert set(backbone.stop_ids) <= set(rows)
        assert backbone.layout.stop_id in backbone.stop_ids
        assert backbone.layout.filler_id in rows
        shape = (backbone.num_codebooks, backbone.speech_vocab_size)
        hidden = torch.zeros(2, 3, backbone.decoder.config.hidden_size)
        assert backbone.speech_head().logits(hidden, torch.zeros(2, 3, shape[0], dtype=torch.long)).shape[2:] == shape
        forbidden = backbone.forbidden_tokens()
        if forbidden is not None:
            assert forbidden.dtype == torch.bool
            assert forbidden.shape == shape
            assert not forbidden.all(-1).any(), "a codebook has no allowed token"
            assert not forbidden[0, list(backbone.stop_ids)].all(), "all stop tokens are forbidden"

    def test_architecture_is_plain_and_rebuilds_the_model(self, backbone: Backbone) -> None:
        """A checkpoint can describe this model without its original weights."""
        architecture = backbone.architecture()
        assert json.loads(json.dumps(architecture)) == architecture
        for again in (type(backbone).from_architecture(architecture), build_backbone(backbone.spec(), backbone.files)):
            assert type(again) is type(backbone)
            assert again.architecture() == architecture
            assert shapes(again) == shapes(backbone)

    def test_dropout_is_refused(self, backbone: Backbone) -> None:
        """Dropout is refused, because student and teacher must not differ at random."""
        config = backbone.decoder.config
        for name in [*dropout_settings(config)] or ["attention_dropout"]:
            setattr(config, name, 0.1)
            with pytest.raises(ValueError, match=name):
                backbone.finish_init()
            setattr(config, name, 0.0)
        backbone.finish_init()

    def test_pretrained_weights_come_back_bit_by_bit(self, backbone: Backbone, tmp_path: Path) -> None:
        """Weights written in the original format are read back exactly, and other weights have another digest."""
        backbone.save_pretrained(tmp_path / "one")
        again = self.reload(backbone, tmp_path / "one")
        assert again.spec() == backbone.spec()
        own, other = backbone.state_dict(), again.state_dict()
        assert own.keys() == other.keys()
        assert [name for name in own if not torch.equal(own[name], other[name])] == []
        again.save_pretrained(tmp_path / "same")
        assert self.reload(backbone, tmp_path / "same").pretrained_digest() == again.pretrained_digest()
        with torch.no_grad():
            next(backbone.parameters()).add_(1)
        backbone.save_pretrained(tmp_path / "other")
        assert self.reload(backbone, tmp_path / "other").pretrained_digest() != again.pretrained_digest()

    # -- conditioning and columns --------------------------------------------------------------------------------

    def test_conditioner_is_the_same_everywhere(self, backbone: Backbone, examples: Examples) -> None:
        """Pickled and rebuilt conditioners have the same fingerprint and give the same tensors."""
        conditioner = backbone.conditioner
        pickled = pickle.loads(pickle.dumps(conditioner))
        rebuilt = build_backbone(backbone.spec(), backbone.files).conditioner
        assert conditioner.fingerprint == pickled.fingerprint == rebuilt.fingerprint
        given = [conditioning for conditioning, _ in examples]
        length = max(conditioner.length(conditioning) for conditioning in given)
        expected = conditioner.collate(given, length)
        for other in (pickled, rebuilt):
            found = other.collate(given, length)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)

    def test_empty_text_is_refused(self, backbone: Backbone, examples: Examples) -> None:
        """An empty text raises an error."""
        reference = self.make_reference(backbone, examples[0][1])
        for text in ("", "  \n"):
            with pytest.raises(ValueError, match="empty"):
                backbone.conditioner(text, reference)

    def test_codes_come_back_from_columns(self, backbone: Backbone, examples: Examples) -> None:
        """`from_columns` inverts `to_columns`."""
        for _, codes in examples:
            columns = backbone.layout.to_columns(codes)
            assert torch.equal(backbone.layout.from_columns(columns), codes)
            assert 0 <= int(columns.min()) <= int(columns.max()) < backbone.speech_vocab_size

    def test_labels_line_up(self, backbone: Backbone, examples: Examples, batch: ConditionedBatch) -> None:
        """Every code has one label, at its own column. The stop has one label, and padding has none."""
        assert batch.labels.shape == (len(batch), batch.columns.shape[1] + 1, backbone.num_codebooks)
        for row, (_, codes) in enumerate(examples):
            labels, length = batch.labels[row], int(batch.lengths[row])
            stops = torch.isin(labels, torch.tensor(backbone.stop_ids))
            spoken = (labels != IGNORE) & ~stops
            assert int(stops.sum()) == int(stops[: length + 1, 0].sum()) == 1
            assert int(spoken.sum()) == codes.numel()
            assert torch.equal(labels[:-1][spoken[:-1]], batch.columns[row][spoken[:-1]])
            assert not spoken[length:].any()

    def test_logits_come_before_their_labels(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow
    ) -> None:
        """The logits for label i depend on column i - 1 and not on column i."""
        at = 2
        columns = batch.columns.clone()
        codes = torch.arange(backbone.speech_vocab_size)
        other = next(int(c) for c in codes if c not in columns[:, at] and c not in backbone.stop_ids)
        columns[:, at] = other
        with torch.no_grad():
            before, after = backbone(batch, window), backbone(replace(batch, columns=columns), window)
        self.close(after[:, : at + 1], before[:, : at + 1])
        assert ((after - before)[:, at + 1].abs().flatten(1).amax(1) > 0).all()

    # -- forward -------------------------------------------------------------------------------------------------

    def test_logits_have_the_shape_of_labels(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow
    ) -> None:
        """One distribution per label."""
        logits = backbone(batch, window)
        assert logits.shape == (*batch.labels.shape, backbone.speech_vocab_size)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("kind", ["hard", "soft", "full"])
    def test_padding_is_invisible(
        self, backbone: Backbone, examples: Examples, window: AttentionWindow, kind: str
    ) -> None:
        """A row has the same logits in a batch of different lengths as alone."""
        at = {"hard": window, "soft": AttentionWindow(window.size, 1.0), "full": AttentionWindow()}[kind]
        batch = batch_of(backbone, examples)
        assert batch.padded, "make_examples must return prefixes of different lengths"
        with torch.no_grad():
            together = backbone(batch, at)
            for row, example in enumerate(examples):
                alone = backbone(batch_of(backbone, [example]), at)[0]
                self.close(together[row, : len(alone)], alone)

    @pytest.mark.parametrize("offset", [0, 3])
    def test_the_window_is_an_explicit_mask(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, offset: int
    ) -> None:
        """The stock decoder, with eager attention and an explicit mask, gives the same hidden states."""
        columns = torch.arange(batch.prefix_length + batch.columns.shape[1])
        if offset:
            batch = later(batch, offset)
            columns = torch.where(columns < batch.prefix_length, columns, columns + offset)[: columns[-1] + 1 - offset]
        with torch.no_grad():
            ours = backbone.hidden_states(batch, AttentionContext(window, batch.prefix_length, batch.padded_starts))
            speech = backbone.embed_speech(batch.columns, torch.full_like(batch.starts, offset))
            embeds = torch.cat([backbone.embed_prefix(batch), speech], dim=1)
            stock = copy.deepcopy(backbone.decoder)
            stock.set_attn_implementation("eager")
            output = stock(
                inputs_embeds=embeds,
                position_ids=backbone.position_ids(columns, batch.starts),
                attention_mask=explicit_mask(batch, window),
                use_cache=False,
            )
        for row, start in enumerate(batch.starts.tolist()):
            self.close(ours[row, start:], output.last_hidden_state[row, start:])

    # -- training ------------------------------------------------------------------------------------------------

    def test_gradients_reach_the_student_and_only_it(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow
    ) -> None:
        """Both losses give gradients to every trainable parameter, and to no parameter of the teacher."""
        teacher = build_teacher(COPY, backbone)
        predicted = teacher.head_input(batch)
        assert predicted is not None
        target = predicted.logits(batch.labels)
        logits = backbone(batch, window)
        losses = cross_entropy(logits, batch.labels) + skew_kl(logits, target)
        masked_sum(losses, batch.labels).backward()
        own = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
        assert [name for name, grad in own.items() if grad is None or not grad.any()] == []
        assert not target.requires_grad
        with teacher.weights() as frozen:
            assert not any(p.requires_grad or p.grad is not None for p in frozen.parameters())

    def test_the_fused_loss_is_that_of_the_logits(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow
    ) -> None:
        """The loss that does not store all logits has the same value and gradients as the loss of `forward`."""
        teacher = build_teacher(COPY, backbone)
        logits = backbone(batch, window)
        student, expert = backbone.head_input(batch, window), teacher.head_input(batch)
        assert expert is not None
        losses = cross_entropy(logits, batch.labels) + skew_kl(logits, expert.logits(batch.labels))
        expected = masked_sum(losses, batch.labels)
        own = student.loss(batch.labels, torch.ones(batch.labels.shape), LossTerms(), expert).loss
        torch.testing.assert_close(own, expected, atol=0, rtol=self.tolerance)
        trained = [p for p in backbone.parameters() if p.requires_grad]
        for mine, other in zip(*(torch.autograd.grad(loss, trained) for loss in (own, expected)), strict=True):
            assert (mine - other).norm() <= 10 * self.tolerance * other.norm()

    @torch.no_grad()
    def test_adapters_make_a_second_model_of_the_same_weights(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow
    ) -> None:
        """With LoRA switched off the model is exactly the original one; merged, it is the adapted one."""
        pytest.importorskip("peft")
        names, original = backbone.state_dict().keys(), backbone(batch, window)
        inject(backbone, backbone.decoder, LoraSettings(rank=4, alpha=8))
        assert torch.equal(backbone(batch, window), original), "adapters change nothing before they are trained"
        trained = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}
        assert trained.keys() == backbone.state_dict().keys()
        for parameter in trained.values():
            parameter.normal_(std=0.05)
        adapted = backbone(batch, window)
        assert not torch.allclose(adapted, original, atol=100 * self.tolerance)
        with backbone.without_adapters():
            assert torch.equal(backbone(batch, window), original)
        merge(backbone.decoder)
        assert backbone.state_dict().keys() == names
        self.close(backbone(batch, window), adapted)

    def test_it_can_be_sharded(self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow) -> None:
        """Under FSDP2 it takes the same step and predicts the same, and a gathered copy can speak."""
        whole, ones = copy.deepcopy(backbone), torch.ones(batch.labels.shape)
        predict = torch.no_grad()(lambda model: model(batch, window))  # as in validation
        before = predict(whole)
        with one_process() as mesh:
            backbone.parallelize(mesh)
            assert backbone.spec() == whole.spec()
            optimizers = {model: torch.optim.SGD(model.parameters(), lr=0.1) for model in (backbone, whole)}
            self.close(predict(backbone), before)
            for model, optimizer in optimizers.items():
                model.head_input(batch, window).loss(batch.labels, ones, LossTerms()).loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            self.close(predict(backbone), predict(whole))
            assert (predict(whole) - before).abs().max() > 10 * self.tolerance
            with backbone.gathered() as gathered:
                self.close(predict(gathered), predict(whole))
                self.close(*(Decoder(model, window).prefill(batch)[0] for model in (gathered, whole)))
            assert all(parameter.is_meta for parameter in gathered.parameters())
