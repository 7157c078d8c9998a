"""The embedded recogniser on real speech."""

from __future__ import annotations

import json

import pytest
import torch
from rapidfuzz.distance import Levenshtein

from wand.codecs import EncodecCodec
from wand.demo.coded import CodedCorpus
from wand.demo.corpus import EspeakCorpus
from wand.files.audio import resample
from wand.recognition import EmbeddedRecogniser, open_recogniser
from wand.recognition.embedded import save_network
from wand.recognition.network import (
    BLANK,
    LETTERS,
    PHONE_BLANK,
    PHONES,
    RecogniserNetwork,
    RecogniserShape,
    greedy_letters,
    greedy_phones,
    mel_filters,
    pad,
)

RATE = 16_000


@pytest.fixture(scope="module")
def spoken() -> list[tuple[str, torch.Tensor]]:
    corpus = EspeakCorpus(0.01, seed=7, test_sentences=16)
    return [(u.text, corpus.audio(u)) for u in corpus.utterances("test")[:16]]


@pytest.fixture(scope="module")
def recogniser() -> EmbeddedRecogniser:
    return EmbeddedRecogniser()


def cer(recogniser, sounds, texts, rate=RATE) -> float:
    """Share of wrong letters, of the letters that were said: no normaliser spells or merges anything."""
    said = ["".join(letter for letter in text.lower() if letter in LETTERS) for text in texts]
    heard = recogniser.transcribe(sounds, rate)
    return sum(map(Levenshtein.distance, heard, said)) / sum(map(len, said))


def test_sentences_it_never_heard_are_understood(recogniser):
    """In the voices of its training, through the codec."""
    corpus, codec = CodedCorpus(), EncodecCodec()
    chosen = [utterance for utterance in corpus.utterances("test") if "-seen-" in utterance.id][:24]
    sounds = [codec.decode(corpus.codes(utterance).codes[None])[0, 0] for utterance in chosen]
    assert cer(recogniser, sounds, [utterance.text for utterance in chosen]) < 0.08


def test_voices_it_never_heard_are_understood(recogniser, spoken):
    assert cer(recogniser, [sound for _, sound in spoken], [text for text, _ in spoken]) < 0.1


def test_round_trips_through_the_codec_are_understood(recogniser, spoken):
    codec = EncodecCodec()
    again = [codec.decode(codec.encode(sound[None, None], RATE))[0, 0] for _, sound in spoken]
    assert cer(recogniser, again, [text for text, _ in spoken]) < 0.1


def test_neighbours_do_not_matter(recogniser, spoken):
    sounds = [sound for _, sound in spoken[:4]]
    together = recogniser.transcribe(sounds, RATE)
    assert [recogniser.transcribe([sound], RATE)[0] for sound in sounds] == together


@pytest.mark.parametrize("gain", [0.2, 2.0])
@pytest.mark.parametrize("rate", [RATE, 24_000])
def test_loudness_and_sample_rate_hardly_matter(recogniser, spoken, gain, rate):
    sounds = [gain * resample(sound, RATE, rate) for _, sound in spoken]
    assert cer(recogniser, sounds, [text for text, _ in spoken], rate) < 0.1


def test_nothing_is_heard_in_nothing(recogniser):
    assert recogniser.transcribe([torch.zeros(0), torch.zeros(50), torch.zeros(RATE)], RATE) == ["", "", ""]
    assert recogniser.transcribe([], RATE) == []


@pytest.mark.parametrize("phones_after", [0, 1, 2])
def test_padding_changes_no_probability(phones_after):
    torch.manual_seed(0)
    network = RecogniserNetwork(RecogniserShape(16, 16, 2, phones_after=phones_after)).eval()
    sounds = [torch.randn(4000) * 0.1, torch.randn(9000) * 0.1]
    together = network(*pad(sounds))
    for row, sound in enumerate(sounds):
        alone = network(*pad([sound]))
        steps = int(alone.steps[0])
        assert steps == int(together.steps[row])
        pairs = zip((alone.letters, *alone.phones), (together.letters, *together.phones), strict=True)
        for own, shared in pairs:
            torch.testing.assert_close(own[0, :steps], shared[row, :steps], atol=1e-4, rtol=1e-4)


def test_greedy_letters_merge_and_drop():
    path = [LETTERS.index("a"), LETTERS.index("a"), BLANK, LETTERS.index("a"), 0, 0, LETTERS.index("b"), 3]
    scores = torch.nn.functional.one_hot(torch.tensor(path), BLANK + 1).float()[None]
    assert greedy_letters(scores, torch.tensor([7])) == ["aa b"]


def test_greedy_phones_merge_and_drop():
    path = [PHONES.index("ae"), PHONES.index("ae"), PHONE_BLANK, PHONES.index("t"), PHONES.index("t"), 0]
    scores = torch.nn.functional.one_hot(torch.tensor(path), PHONE_BLANK + 1).float()[None]
    assert greedy_phones(scores, torch.tensor([5])) == [["ae", "t"]]


def test_a_network_with_phones_survives_its_folder(tmp_path, spoken):
    torch.manual_seed(0)
    network = RecogniserNetwork(RecogniserShape(mels=16, width=16, layers=2, phones_after=1)).eval()
    with torch.no_grad():
        network.phone_head.bias.view(2, -1)[:, PHONES.index("ae")] += 9
    save_network(network, tmp_path)
    sounds = [sound for _, sound in spoken[:2]]
    recogniser = EmbeddedRecogniser(tmp_path)
    assert recogniser.phones([*sounds, torch.zeros(RATE)], RATE) == [["ae"], ["ae"], []]
    assert len(recogniser.transcribe(sounds, RATE)) == 2


def test_the_blocks_after_the_phones_see_them():
    torch.manual_seed(0)
    network = RecogniserNetwork(RecogniserShape(mels=16, width=16, layers=2, phones_after=1)).eval()
    batch = pad([torch.randn(4000) * 0.1])
    before = network(*batch)
    with torch.no_grad():
        network.echo.bias += 1
    after = network(*batch)
    assert torch.equal(before.phones[0], after.phones[0])
    assert not torch.allclose(before.phones[1], after.phones[1])
    assert not torch.allclose(before.letters, after.letters)


def test_a_network_of_letters_has_no_phones(tmp_path):
    save_network(RecogniserNetwork(RecogniserShape(mels=16, width=16, layers=2)), tmp_path)
    recogniser = EmbeddedRecogniser(tmp_path)
    assert recogniser.network.shape.phones_after == 0
    with pytest.raises(ValueError, match="knows letters only"):
        recogniser.phones([torch.randn(RATE)], RATE)


def test_weights_of_another_shape_are_refused(tmp_path):
    save_network(RecogniserNetwork(RecogniserShape(mels=16, width=16, layers=2, phones_after=1)), tmp_path)
    config = tmp_path / "config.json"
    shape = json.loads(config.read_text())
    for changed in ({"phones_after": 0}, {"phones_after": 3}, {"layers": 1}, {"heads": 2}):
        config.write_text(json.dumps(shape | changed))
        with pytest.raises(ValueError, match="no recogniser can be read"):
            EmbeddedRecogniser(tmp_path)


def test_mel_filters_cover_every_band():
    filters = mel_filters(40)
    assert filters.shape == (257, 40)
    assert (filters.sum(0) > 0).all()
    peaks = filters.argmax(0)
    assert (peaks[1:] >= peaks[:-1]).all()


def test_a_folder_without_a_recogniser_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no recogniser can be read"):
        EmbeddedRecogniser(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="no recogniser can be read"):
        EmbeddedRecogniser(tmp_path)


def test_the_embedded_one_is_opened_by_name():
    assert isinstance(open_recogniser(), EmbeddedRecogniser)
