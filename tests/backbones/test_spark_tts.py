"""Spark-TTS against numbers made by running upstream's own class; the contract; the controllable mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tests.backbones.contract import Contract, columns_of_tokens
from tests.backbones.goldens import Golden, close, greedy
from tests.backbones.tokenizers import write_tokenizer
from wand.attention import AttentionContext, AttentionWindow
from wand.backbones.spark_tts import GENDERS, LEVELS, SPEECH_BEGINS, SparkTTS
from wand.codecs.reference import Reference
from wand.distillation.losses import IGNORE
from wand.model.batch import make_batch
from wand.testing import Examples, explicit_mask

GOLDEN = Golden.read("sparktts")
IDS: dict[str, int] = GOLDEN.config["ids"]
IDS_OF_LETTERS = GOLDEN.config["text_chars"]
TEXT, WORDS = GOLDEN.config["text"], GOLDEN.config["prompt_text"]


def vocabulary() -> dict[str, int]:
    """Characters, named tokens, and the series of codes."""
    made = {character: i for i, character in enumerate(GOLDEN.config["text_chars"])}
    made |= {name: i for name, i in IDS.items() if not name.startswith("<|bicodec")}
    series = {
        "bicodec_global": GOLDEN.config["global_codebook"],
        "bicodec_semantic": GOLDEN.config["semantic_codebook"],
    }
    for name, count in series.items():
        made |= {f"<|{name}_{i}|>": IDS[f"<|{name}_0|>"] + i for i in range(count)}
    for name in ("pitch_label", "speed_label"):
        made |= {f"<|{name}_{i}|>": IDS[f"<|{name}_0|>"] + i for i in range(5)}
    # A vocabulary has no holes.
    return made | {f"<|unused_{i}|>": i for i in range(GOLDEN.config["llm"]["vocab_size"]) if i not in made.values()}


def write_release(folder: Path, state: dict[str, Tensor]) -> Path:
    """A folder as upstream publishes it."""
    llm = folder / "LLM"
    write_tokenizer(llm, vocabulary())
    save_file(state, llm / "model.safetensors", metadata={"format": "pt"})
    config = {name: value for name, value in GOLDEN.config["llm"].items() if name != "arch"}
    named = {"model_type": "qwen2", "architectures": [GOLDEN.config["llm"]["arch"]], "torch_dtype": "bfloat16"}
    (llm / "config.json").write_text(json.dumps({**config, **named}))
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", GOLDEN.state)


@pytest.fixture
def model(release: Path) -> SparkTTS:
    made = SparkTTS(pretrained=str(release))
    made.load_pretrained()
    return made.eval()


def voice(words: str | None) -> Reference:
    codes = GOLDEN.inputs["prompt_semantic_ids"][None]
    return Reference(codes=codes, text=words, global_codes=GOLDEN.inputs["prompt_global_ids"])


def all_logits(model: SparkTTS, ids: Tensor) -> Tensor:
    """Logits over the whole vocabulary at every place of ``[L]``, under full attention."""
    with torch.no_grad():
        context = AttentionContext(AttentionWindow(), len(ids), None)
        embeds = model.decoder.get_input_embeddings()(ids[None])
        output = model.decoder(inputs_embeds=embeds, use_cache=False, attention_context=context)
        return model.full_logits(output.last_hidden_state)[0]


def test_prompts_are_upstreams(model: SparkTTS) -> None:
    prompt, given = model.conditioner, GOLDEN.inputs
    assert prompt(TEXT, voice(WORDS))["ids"].tolist() == given["zs_input_ids"][0].tolist()
    assert prompt(TEXT, voice(None))["ids"].tolist() == given["xlforced_input_ids"][0].tolist()
    # Upstream's own prompt without words: the model is to say the mark itself.
    assert given["xl_input_ids"][0].tolist() == given["xlforced_input_ids"][0, :-1].tolist()
    gender, pitch, speed = given["ctl_input_ids"][0, -4:-1].tolist()
    chosen = (
        GENDERS[gender - IDS["<|gender_0|>"]],
        *(LEVELS[value - IDS[f"<|{name}_label_0|>"]] for name, value in (("pitch", pitch), ("speed", speed))),
    )
    described = model.describe_voice(TEXT, *chosen)
    assert described["ids"].tolist() == given["ctl_input_ids"][0].tolist()


@pytest.mark.parametrize("words", [None, WORDS])
def test_a_prompt_from_tokens_is_that_of_the_text(model: SparkTTS, words: str | None) -> None:
    tokens, begin, end = columns_of_tokens(model.conditioner, TEXT, voice(words))
    conditioning = model.conditioner(TEXT, voice(words))
    assert tuple(conditioning["ids"][begin:end].tolist()) == tokens.ids == tuple(map(IDS_OF_LETTERS.index, TEXT))
    described = model.describe_voice(TEXT, "female")
    assert model.conditioner.text_span(described) == (2, 2 + len(TEXT))


@pytest.mark.parametrize("mode", ["zs", "xl", "xlforced", "ctl"])
def test_what_the_model_says_freely_is_upstreams(model: SparkTTS, mode: str) -> None:
    """With the whole vocabulary as allowed rows: a model with random weights says anything."""
    model.speech_ids = torch.arange(GOLDEN.config["llm"]["vocab_size"])
    model.stop_ids = (IDS["<|im_end|>"],)
    spoken = GOLDEN.expected[f"{mode}_new_ids"].tolist()
    ids, logits = greedy(model, {"ids": GOLDEN.inputs[f"{mode}_input_ids"][0]}, len(spoken))
    assert ids == [token for token in spoken if token not in model.stop_ids]
    close(logits[: len(spoken)], GOLDEN.expected[f"{mode}_step_logits"])


@pytest.mark.parametrize("words", [None, WORDS])
def test_the_sliced_head_is_the_golden_on_the_allowed_rows(model: SparkTTS, words: str | None) -> None:
    mode = "xlforced" if words is None else "zs"
    conditioning = model.conditioner(TEXT, voice(words))
    expected = GOLDEN.expected[f"{mode}_step_logits"][:, model.speech_ids]
    spoken = GOLDEN.expected[f"{mode}_new_ids"]
    known = [token for token in spoken.tolist() if token in model.speech_ids]
    steps = next(
        (i for i, (one, other) in enumerate(zip(known, spoken.tolist(), strict=False)) if one != other), len(known)
    )
    rows = [model.speech_ids.tolist().index(token) for token in spoken[:steps].tolist()]
    codes = torch.tensor([[row for row in rows if row not in model.stop_ids]])
    batch = make_batch(model.conditioner, model.layout, [conditioning], [codes])
    with torch.no_grad():
        logits = model(batch, AttentionWindow())[0, :, 0]
    close(logits, expected[: len(logits)])


def test_greedy_speech_is_upstreams_until_it_says_something_else(model: SparkTTS) -> None:
    spoken = GOLDEN.expected["zs_new_ids"].tolist()
    ids, _ = greedy(model, model.conditioner(TEXT, voice(WORDS)), len(spoken))
    own = model.speech_ids[torch.tensor(ids)].tolist()
    allowed = model.speech_ids.tolist()
    same = next((i for i, token in enumerate(spoken) if token not in allowed[: -len(model.stop_ids)]), len(spoken))
    assert same > 3
    assert own[:same] == spoken[:same]


@pytest.mark.parametrize("kind", ["speech", "full"])
def test_training_is_transformers_own(model: SparkTTS, kind: str) -> None:
    """Logits, loss and accuracy over the whole vocabulary, the end mark and what follows it as columns."""
    given, expected = GOLDEN.inputs, GOLDEN.expected
    total, right, count = torch.zeros(()), 0, 0
    for row in range(2):
        length = int(given["train_attention_mask"][row].sum())
        ids, labels = given["train_input_ids"][row, :length], given[f"train_labels_{kind}"][row, :length]
        logits = all_logits(model, ids)
        close(logits, expected["train_logits"][row, :length])
        following = labels[1:]
        total += functional.cross_entropy(logits[:-1], following, ignore_index=IGNORE, reduction="sum")
        right += int(((logits[:-1].argmax(-1) == following) & (following != IGNORE)).sum())
        count += int((following != IGNORE).sum())
    close((total / count)[None], expected[f"train_loss_{kind}"])
    if kind == "speech":
        close(torch.tensor([right / count]), expected["train_acc_speech"])


def test_the_window_is_the_mask(model: SparkTTS) -> None:
    model.double()  # so that nothing but the window could make a difference
    window = AttentionWindow(int(GOLDEN.config["window"]))
    conditioning = model.conditioner(TEXT, voice(WORDS))
    ids, logits = greedy(model, conditioning, 40, window)
    batch = make_batch(model.conditioner, model.layout, [conditioning], [torch.tensor([ids])])
    with torch.no_grad():
        embeds = torch.cat([model.embed_prefix(batch), model.embed_speech(batch.columns, batch.starts)], dim=1)
        model.decoder.set_attn_implementation("eager")
        hidden = model.decoder(inputs_embeds=embeds, attention_mask=explicit_mask(batch, window), use_cache=False)
    expected = model.logits(hidden.last_hidden_state[:, batch.prefix_length - 1 :])[0, :, 0]
    close(logits[: len(expected)], expected)


def test_what_is_written_is_what_was_read_and_opens_in_transformers(model: SparkTTS, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "out")
    written = load_file(tmp_path / "out" / "LLM" / "model.safetensors")
    assert written.keys() == GOLDEN.state.keys()
    for name, tensor in GOLDEN.state.items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name], tensor), name
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "LLM", dtype=torch.float32).eval()
    config = json.loads((tmp_path / "out" / "LLM" / "config.json").read_text())
    expected = {name: value for name, value in GOLDEN.config["llm"].items() if name not in ("arch", "head_dim")}
    expected |= {"architectures": [GOLDEN.config["llm"]["arch"]], "rope_scaling": None, "torch_dtype": "float32"}
    assert {name: config[name] for name in expected} == expected  # as version 4 of upstream reads it
    ids = GOLDEN.inputs["zs_input_ids"]
    with torch.no_grad():
        close(stock(ids).logits[0], all_logits(model, ids[0]))


def test_a_half_precision_release_stays_one(tmp_path: Path) -> None:
    state = {name: tensor.to(torch.bfloat16) for name, tensor in GOLDEN.state.items()}
    model = SparkTTS(pretrained=str(write_release(tmp_path / "release", state)))
    model.load_pretrained()
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model.save_pretrained(tmp_path / "out")
    written = load_file(tmp_path / "out" / "LLM" / "model.safetensors")
    assert {name: (t.dtype, t.tolist()) for name, t in written.items()} == {
        name: (t.dtype, t.tolist()) for name, t in state.items()
    }


def test_an_invented_voice_is_part_of_the_prefix(model: SparkTTS) -> None:
    """The model is made to say three global tokens and the mark; nothing of it is a column."""
    begins, said = IDS[SPEECH_BEGINS], [IDS["<|bicodec_global_0|>"] + i for i in (3, 7, 1)]
    script = iter([*said, begins])

    def speak(ids: Tensor) -> Tensor:
        return functional.one_hot(torch.tensor(next(script)), GOLDEN.config["llm"]["vocab_size"]).float() * 100

    model.next_logits = speak  # type: ignore[method-assign]
    described = model.describe_voice(TEXT, "female", pitch="high")
    conditioning, codes = model.invent_voice(described)
    assert codes.tolist() == [3, 7, 1]
    assert conditioning["ids"].tolist() == [*described["ids"].tolist(), *said, begins]


def test_a_voice_that_never_begins_to_speak_is_an_error(model: SparkTTS) -> None:
    described = model.describe_voice(TEXT, "female")
    model.next_logits = lambda ids: functional.one_hot(torch.tensor(0), 137).float() * 100  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="did not finish a voice"):
        model.invent_voice(described)
    with pytest.raises(ValueError, match="'loud' is not one of very_low"):
        model.describe_voice(TEXT, "female", speed="loud")


def test_a_voice_without_global_tokens_is_an_error(model: SparkTTS) -> None:
    begins = torch.tensor(IDS[SPEECH_BEGINS])
    model.next_logits = lambda ids: functional.one_hot(begins, 137).float() * 100  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="no global codes"):
        model.invent_voice(model.describe_voice(TEXT, "female"))


def test_a_voice_is_invented_on_a_gpu(model: SparkTTS, gpu: torch.device) -> None:
    script = iter([IDS["<|bicodec_global_0|>"] + 3, IDS[SPEECH_BEGINS]])
    size = GOLDEN.config["llm"]["vocab_size"]

    def speak(ids: Tensor) -> Tensor:
        return (functional.one_hot(torch.tensor(next(script)), size).float() * 100).to(ids.device)

    model.to(gpu).next_logits = speak  # type: ignore[method-assign]
    conditioning, codes = model.invent_voice(model.describe_voice(TEXT, "female"))
    assert codes.tolist() == [3]
    assert not conditioning["ids"].is_cuda


def test_a_voice_needs_its_global_tokens(model: SparkTTS) -> None:
    with pytest.raises(ValueError, match="global codes"):
        model.conditioner(TEXT, Reference(codes=GOLDEN.inputs["prompt_semantic_ids"][None]))


def damage(release: Path, kind: str) -> None:
    llm = release / "LLM"
    weights, config = llm / "model.safetensors", llm / "config.json"
    state = dict(GOLDEN.state)
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "missing":
        save_file({name: t for name, t in state.items() if name != "model.norm.weight"}, weights)
    elif kind == "size":
        save_file({**state, "model.norm.weight": torch.zeros(7)}, weights)
    elif kind == "unknown":
        save_file({**state, "model.extra": torch.zeros(7)}, weights)
    elif kind == "code":
        config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    elif kind == "other":
        config.write_text(json.dumps({"model_type": "vits"}))
    elif kind == "tokenizer":
        write_tokenizer(llm, {name: i for name, i in vocabulary().items() if "start_semantic" not in name})
    elif kind == "speechless":
        write_tokenizer(llm, {name: i for name, i in vocabulary().items() if "semantic" not in name})
    else:
        config.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "cannot be read as weights"),
        ("missing", "no tensor 'model.norm.weight'"),
        ("size", "another size: 'model.norm.weight' is .7., not .64."),
        ("unknown", "'model.extra' is unknown"),
        ("code", "custom code"),
        ("other", "no causal language model"),
        ("tokenizer", "start_semantic_token"),
        ("speechless", "no token '<|bicodec_semantic_0|>'".replace("|", r"\|")),
        ("absent", "it should hold config.json"),
    ],
)
def test_a_release_that_does_not_fit_is_refused_with_one_line(release: Path, kind: str, message: str) -> None:
    damage(release, kind)
    with pytest.raises(ValueError, match=message) as error:
        SparkTTS(pretrained=str(release)).load_pretrained()
    assert "\n" not in str(error.value)


class TestContract(Contract):
    """The conformance suite."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = write_release(tmp_path / "files", GOLDEN.state)

    def make_backbone(self) -> SparkTTS:
        return SparkTTS(pretrained=str(self.folder))

    def make_examples(self, backbone: SparkTTS) -> Examples:
        return [
            (backbone.conditioner("hello there.", voice("so it is,")), torch.randint(0, 40, (1, 9))),
            (backbone.conditioner("no", voice(None)), torch.randint(0, 40, (1, 9))),
        ]
