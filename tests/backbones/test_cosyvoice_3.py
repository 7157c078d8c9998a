"""CosyVoice 3: what differs from CosyVoice 2, against upstream's own rules (commit ace7c47)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.backbones.contract import columns_of_tokens
from tests.backbones.test_cosyvoice import NO_CODES, write_release
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import ADDED_TOKENS, CosyVoiceArchitecture
from wand.codecs.base import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.speech.silence import SilenceCutter
from wand.speech.speaking import SpeakOptions, synthesize
from wand.speech.streaming import stream_speech

SILENT = (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323)
VOICE = Reference(codes=torch.tensor([[5, 6, 7]]), text="so it is")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny release with both files of weights, of a model with 20 codes."""
    torch.manual_seed(0)
    shape = CosyVoiceArchitecture(64, 96, 3, 4, 2, text_vocab_size=512, speech_tokens=20, version=3)
    folder = tmp_path_factory.mktemp("cosyvoice3")
    states = []
    for name in ("llm", "rl"):
        CosyVoice2(architecture=shape).save_pretrained(folder / name)
        states.append(torch.load(folder / name / "llm.pt", weights_only=True))
    written = write_release(folder / "release", states[0], text_vocab=512)
    torch.save(states[1], written / "llm.rl.pt")
    return written


def test_version_3_keeps_its_control_rows_behind_the_codes() -> None:
    torch.manual_seed(0)
    shape = CosyVoiceArchitecture(64, 96, 2, 4, 2, text_vocab_size=64, speech_tokens=20, version=3)
    model = CosyVoice2(architecture=shape)
    assert model.speech_vocab_size == 220
    assert model.layout.stop_id == 21
    assert model.stop_ids == tuple(range(20, 220))
    assert model.speech_head().bias is None
    prefix = model.conditioner.prefix([3], [4, 5], NO_CODES)
    batch = make_batch(model.conditioner, model.layout, [prefix])
    embeds = model.embed_prefix(batch)[0]
    assert torch.equal(embeds[0], model.speech_embedding.weight[20])
    assert torch.equal(embeds[-1], model.speech_embedding.weight[22])
    assert torch.equal(embeds[1], model.decoder.get_input_embeddings().weight[3])


def test_version_3_is_told_from_its_file_and_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = CosyVoiceArchitecture(64, 96, 3, 4, 2, text_vocab_size=512, speech_tokens=20, version=3)
    CosyVoice2(architecture=shape).save_pretrained(tmp_path / "saved")
    state = torch.load(tmp_path / "saved" / "llm.pt", weights_only=True)
    release = write_release(tmp_path / "release", state, text_vocab=512)
    model = CosyVoice2(pretrained=str(release))
    model.load_pretrained()
    assert model.shape == shape
    ids = model.conditioner("hi", Reference(codes=NO_CODES[None]))["ids"]
    tokenizer = model.conditioner.tokenizer
    assert tokenizer is not None
    assert tokenizer.token_id("<|endofprompt|>") in ids.tolist()


def test_its_special_tokens_are_upstreams() -> None:
    tokens = ADDED_TOKENS[3]
    assert len(tokens) == len(set(tokens)) == 280
    assert tokens[:19] == ADDED_TOKENS[2]
    assert tokens[19:22] == ("<|endofsystem|>", "[AA]", "[AA0]")
    assert tokens[-3:] == ("[ǘ]", "[ǚ]", "[ǜ]")
    # Of upstream's list, one token a line.
    digest = "4d5267643001673d742c7033834779c1e24f936caaf7a9ce850807222ee94b91"
    assert hashlib.sha256("\n".join(tokens).encode()).hexdigest() == digest


def test_its_tokenizer_adds_them_in_order(release: Path) -> None:
    model = CosyVoice2(pretrained=str(release))
    tokenizer = model.conditioner.tokenizer
    assert tokenizer is not None
    ids = [tokenizer.token_id(token) for token in ADDED_TOKENS[3]]
    assert ids == list(range(ids[0], ids[0] + 280))
    assert tokenizer("[j][ǐ]") == [tokenizer.token_id("[j]"), tokenizer.token_id("[ǐ]")]


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ("speak softly.", "You are a helpful assistant. speak softly.<|endofprompt|>"),
        ("speak softly.<|endofprompt|>", "You are a helpful assistant. speak softly.<|endofprompt|>"),
        ("You are a helpful assistant. speak softly.", "You are a helpful assistant. speak softly.<|endofprompt|>"),
    ],
)
def test_an_instruction_begins_with_the_system_sentence(release: Path, instruction: str, said: str) -> None:
    model = CosyVoice2(pretrained=str(release), instruction=instruction)
    tokenizer = model.conditioner.tokenizer
    assert tokenizer is not None
    prefix = model.conditioner("hello.", VOICE)
    assert prefix["ids"].tolist() == [20, *tokenizer(said), *tokenizer("hello."), 22]
    assert prefix["spoken"].tolist() == [6]


@pytest.mark.parametrize("instruction", [None, "speak softly."])
@pytest.mark.parametrize("transcript", [None, "so it is"])
def test_a_prefix_from_tokens_is_that_of_the_text(
    release: Path, transcript: str | None, instruction: str | None
) -> None:
    conditioner = CosyVoice2(pretrained=str(release), instruction=instruction).conditioner
    reference = replace(VOICE, text=transcript)
    tokens, begin, end = columns_of_tokens(conditioner, "it is [breath] so.", reference)
    assert tokens.words == ("it", "is", "[breath]", "so.")
    assert tuple(conditioner("it is [breath] so.", reference)["ids"][begin:end].tolist()) == tokens.ids


def test_the_bounds_of_cross_lingual_speech_count_the_instruction(release: Path) -> None:
    """Upstream puts it before the text there, and before the transcript in zero-shot mode."""
    model = CosyVoice2(pretrained=str(release))
    tokenizer = model.conditioner.tokenizer
    assert tokenizer is not None
    system = tokenizer("You are a helpful assistant.<|endofprompt|>")
    cross_lingual = model.conditioner("hello.", Reference(codes=VOICE.codes))
    assert cross_lingual["ids"].tolist() == [20, *system, *tokenizer("hello."), 22]
    zero_shot = model.conditioner("hello.", VOICE)
    assert zero_shot["ids"].tolist() == [20, *system, *tokenizer("so it ishello."), 22, 5, 6, 7]
    batch = make_batch(model.conditioner, model.layout, [cross_lingual, zero_shot])
    least, most = model.speech_bounds(batch)
    assert least.tolist() == [2 * (len(system) + 6), 12]
    assert most.tolist() == [20 * (len(system) + 6), 120]


def test_the_file_of_the_weights_is_chosen(release: Path, tmp_path: Path) -> None:
    models = [CosyVoice2(pretrained=str(release), weights=name) for name in ("llm.pt", "llm.rl.pt")]
    models.append(CosyVoice2(pretrained=str(release / "llm.rl.pt")))
    for model, name in zip(models, ("llm.pt", "llm.rl.pt", "llm.rl.pt"), strict=True):
        model.load_pretrained()
        expected = torch.load(release / name, weights_only=True)["speech_embedding.weight"]
        assert torch.equal(model.speech_embedding.weight, expected)
        assert model.pretrained_digest() == hashlib.sha256((release / name).read_bytes()).hexdigest()
        assert model.conditioner.tokenizer is not None
    assert models[0].pretrained_digest() != models[1].pretrained_digest()
    # It is written as llm.pt, which upstream opens, and comes back from there.
    models[1].save_pretrained(tmp_path)
    again = CosyVoice2(pretrained=str(tmp_path))
    again.load_pretrained()
    assert torch.equal(again.speech_embedding.weight, models[1].speech_embedding.weight)


@pytest.mark.parametrize("weights", ["../llm.pt", "llm", "", "release/llm.rl.pt"])
def test_weights_are_a_file_of_the_release(release: Path, weights: str) -> None:
    with pytest.raises(ValueError, match=r"is not the name of a \.pt file in pretrained"):
        CosyVoice2(pretrained=str(release), weights=weights)


def test_missing_weights_are_named(release: Path) -> None:
    with pytest.raises(ValueError, match=r"it should hold llm\.sft\.pt and CosyVoice-BlankEN/config.json"):
        CosyVoice2(pretrained=str(release), weights="llm.sft.pt")


def upstream_drops(codes: list[int]) -> list[int]:
    """The loop of upstream's ``llm_job``."""
    kept, run = [], 0
    for code in codes:
        if code in SILENT:
            run += 1
            if run > 5:
                continue
        else:
            run = 0
        kept.append(code)
    return kept


def test_runs_of_silent_codes_are_cut_as_upstream_does() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        pool = torch.tensor([*SILENT, 3, 4])
        codes = pool[torch.randint(len(pool), (1, 80), generator=generator)]
        expected = upstream_drops(codes[0].tolist())
        assert SilenceCutter(SILENT, 5)(codes)[0].tolist() == expected
        cutter = SilenceCutter(SILENT, 5)
        parts = [cutter(part) for part in codes.split(7, dim=1)]
        assert torch.cat(parts, dim=1)[0].tolist() == expected


class Loud(Codec):
    """One sample per code: the code itself."""

    sample_rate, frame_rate, num_codebooks, codebook_size = 25, 25.0, 1, 20

    @property
    def fingerprint(self) -> str:
        return "loud"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        return torch.full((1, 1, audio.shape[2]), 19)

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        return codes.float()

    def to(self, device: object) -> Loud:
        return self


def test_the_codec_gets_the_codes_without_long_silence(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CosyVoice2(pretrained=str(release))
    model.load_pretrained()
    assert model.silent_codes == SILENT
    # Only two silent codes and two others are spoken.
    spoken = torch.isin(torch.arange(220), torch.tensor([1, 2, 3, 4]))[None]
    monkeypatch.setattr(model, "forbidden_tokens", lambda: ~spoken)
    model.eval()
    decoder = Decoder(model, model.windows(32))
    options = SpeakOptions(Sampling(temperature=1.0), max_seconds=8)
    voice = replace(VOICE, codes=VOICE.codes % 4 + 1)
    (speech,) = synthesize(decoder, Loud(), ["hello."], voice, options)
    said = speech.codes[0].tolist()
    assert speech.audio is not None
    assert speech.audio.tolist() == upstream_drops(said)
    assert len(speech.audio) < len(said)
    parts = list(stream_speech(decoder, Loud(), "hello.", voice, options))
    assert torch.cat([part.codes for part in parts], dim=1)[0].tolist() == said
    assert torch.cat([part.audio for part in parts]).tolist() == upstream_drops(said)
    second = CosyVoice2(architecture=CosyVoiceArchitecture(64, 96, 2, 4, 2, text_vocab_size=64, speech_tokens=20))
    assert second.silent_codes == ()
