"""The recipe trains, resumes and measures as it says; the recogniser that ships is as good as its card says."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein

from recipes.corpus.recorded import Recorded
from recipes.recogniser.augmentation import Augmentation, augmented, below, faster, masked, warped
from recipes.recogniser.batches import Batches, parts
from recipes.recogniser.evaluation import Errors, evaluate, known_words, wrong_by_part
from recipes.recogniser.labels import Labels, by_word, labels_of
from recipes.recogniser.round_trips import SHARES, faulty_codec, mu_law, round_trip
from recipes.recogniser.speech import RoundTrips, Speech, kind_of, said
from recipes.recogniser.train import parser, train
from recipes.recogniser.training import Clock, Training
from wand.codecs import EncodecCodec
from wand.demo.corpus import EspeakCorpus
from wand.recognition import EmbeddedRecogniser
from wand.recognition.network import PHONES, RecogniserShape

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "wand" / "assets" / "recogniser"
TINY = RecogniserShape(mels=16, width=16, layers=2, kernel=3, phones_after=1)
CORPUS = EspeakCorpus(0.006, validation_sentences=2, test_sentences=2)


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Speech:
    return Speech(CORPUS, "train", tmp_path_factory.mktemp("speech"), ["mu-law"])


@pytest.fixture(scope="module")
def batches(speech) -> Batches:
    return Batches(speech, seconds=12, coded_share=0.4, augmentation=Augmentation(), seed=5)


@pytest.mark.parametrize(
    ("text", "letters", "phones"),
    [
        ("Hello, 3 cats!", "hello three cats", "hh ah l ow th r iy k ae t s"),
        ("Don't judge the boys.", "don't judge the boys", "d ow n t jh ah jh dh ah b oy z"),
        ("Measure things.", "measure things", "m eh zh er th ih ng z"),
    ],
)
def test_labels_are_what_is_said(text, letters, phones):
    assert labels_of(text) == Labels(letters, phones.split())


def test_every_phone_of_the_corpus_has_a_symbol(speech):
    said = {phone for label in speech.labels for phone in label.phones}
    assert len(said) > 30
    assert said <= set(PHONES)


def test_recorded_speech_has_the_phones_that_its_voice_said(tmp_path):
    line = {"id": "train-kind-0-0", "text": "The 3.", "speaker": "anna", "kind": "numbers", "start": 0, "length": 9}
    phones = [["ð", 0.0], ["iː", 0.1], ["", 0.2], ["θ", 0.3], ["ɹ", 0.4], ["iː", 0.5]]
    (tmp_path / "train-00000.jsonl").write_text(json.dumps({**line, "phones": phones}) + "\n", encoding="utf-8")
    np.save(tmp_path / "train-00000.npy", np.arange(9, dtype=np.int16))
    source = Recorded(tmp_path)
    (utterance,) = source.utterances("train")
    assert said(source, utterance) == Labels("the three", ["dh", "iy", "th", "r", "iy"])
    assert kind_of(source, utterance) == "numbers"
    assert said(CORPUS, utterance) == Labels("the three", ["dh", "ah", "th", "r", "iy"])


def test_phones_belong_to_their_words_also_where_words_are_said_together():
    said = labels_of("one of the cats")
    groups = by_word(said.phones, said.letters.split())
    assert groups[0] == ["w", "ah", "n"]
    assert groups[3] == ["k", "ae", "t", "s"]
    assert [phone for group in groups for phone in group] == said.phones


@pytest.mark.parametrize("name", ["mixed", "codec", "opus", "vorbis", "mp3", "mu-law"])
def test_round_trips_keep_length_and_speech(name):
    audio = CORPUS.audio(CORPUS.utterances("validation")[0])
    again = round_trip(audio, name, random.Random(3), EncodecCodec())
    assert again.shape == audio.shape
    assert not torch.equal(again, audio)
    loud = [sound.unfold(0, 800, 800).std(1) for sound in (audio, again)]
    assert torch.corrcoef(torch.stack(loud))[0, 1] > 0.8
    assert set(SHARES) == {"codec", "opus", "vorbis", "mp3", "mu-law"}


def test_buried_speech_lies_under_the_noise():
    audio = CORPUS.audio(CORPUS.utterances("validation")[0])
    sound = round_trip(audio, "buried", random.Random(3), EncodecCodec())
    scale = float((sound @ audio) / (audio @ audio))
    assert 20 * torch.log10((sound / scale - audio).std() / audio.std()) == pytest.approx(10, abs=0.3)
    assert sound.abs().max() <= 1


def test_mu_law_has_256_steps_and_the_band_of_a_telephone():
    times = torch.arange(16_000) / 16_000
    low, high = (0.3 * torch.sin(2 * np.pi * hertz * times) for hertz in (440, 6000))
    middle = slice(2000, -2000)
    assert (mu_law(low) - low)[middle].std() < 0.02 * low.std()
    assert mu_law(high)[middle].abs().max() < 0.01


def test_faults_replace_some_codes_and_leave_out_codebooks():
    class Listener(EncodecCodec):
        def decode(self, codes, reference=None):
            heard.append((self.codes, codes))
            return super().decode(codes)

        def encode(self, audio, sample_rate):
            self.codes = super().encode(audio, sample_rate)
            return self.codes

    heard: list[tuple[torch.Tensor, torch.Tensor]] = []
    codec = Listener()
    for seed in range(12):
        faulty_codec(torch.randn(16_000) * 0.1, random.Random(seed), codec)
    assert {again.shape[1] for _, again in heard} == {6, 7, 8}
    shares = [float((said[:, : again.shape[1]] != again).float().mean()) for said, again in heard]
    assert min(shares) == 0
    assert 0.01 < max(shares) < 0.1


def test_round_trips_that_were_stopped_continue(speech, tmp_path):
    whole = next(iter(speech.round_trips.values()))
    data, index = tmp_path / "part.i16", tmp_path / "part.ends"
    data.write_bytes(whole.data[: whole.ends[2] + 77].tobytes())
    index.write_text(f"{whole.ends[1]}\n{whole.ends[2]}\n{whole.ends[3]}")  # the third was not written as a whole
    again = RoundTrips(CORPUS, speech.utterances, "mu-law", tmp_path / "part", 0)
    assert np.array_equal(again.data, whole.data)
    assert np.array_equal(again.ends, whole.ends)
    lengths = [len(CORPUS.audio(utterance)) for utterance in speech.utterances]
    assert np.array_equal(speech.samples, lengths)


def test_augmentation_changes_the_length_only_by_the_speed():
    audio = torch.sin(torch.arange(16_000) * 0.2) * 0.1
    kind = Augmentation()
    changed = [augmented([audio, audio], random.Random(i), kind)[0] for i in range(20)]
    assert all(16_000 / 1.21 < len(sound) < 16_000 / 0.84 for sound in changed)
    assert len({len(sound) for sound in changed}) > 10
    assert all(sound.isfinite().all() and sound.std() > 0 for sound in changed)
    assert torch.equal(changed[3], augmented([audio, audio], random.Random(3), kind)[0])


def test_a_faster_sound_is_shorter_and_higher():
    audio = torch.sin(2 * np.pi * 500 * torch.arange(16_000) / 16_000)
    changed = faster(audio, 1.2)
    assert len(changed) == pytest.approx(16_000 / 1.2, abs=1)
    assert torch.fft.rfft(changed).abs().argmax() * 16_000 / len(changed) == pytest.approx(600, abs=2)


def test_noise_lies_below_the_speech():
    sound, noise = torch.randn(8000) * 0.3, torch.randn(8000) * 7
    assert 20 * torch.log10(sound.std() / below(noise, sound, 12.0).std()) == pytest.approx(12, abs=1e-3)


def test_spectra_of_another_tempo_keep_their_order_and_padding():
    spectra = torch.arange(100.0)[None, :, None].expand(8, 100, 16).clone()
    frames = torch.tensor([100, 80, 60, 100, 80, 60, 40, 20])
    spectra *= torch.arange(100)[None, :, None] < frames[:, None, None]
    same, count = warped(spectra, frames, random.Random(0), Augmentation(warped=0))
    assert torch.equal(count, frames)
    torch.testing.assert_close(same, spectra, atol=1e-3, rtol=0)
    kind = Augmentation(warped=1, tempos=(0.8, 0.8), formants=(1, 1))
    slow, count = warped(spectra, frames, random.Random(0), kind)
    assert count.tolist() == [125, 100, 75, 125, 100, 75, 50, 25]
    torch.testing.assert_close(slow[0, :124, 3], 0.8 * torch.arange(124.0), atol=1e-3, rtol=0)
    assert not slow[7, 25:].any()
    lower, _ = warped(
        spectra.transpose(1, 2),
        torch.full((8,), 16),
        random.Random(0),
        Augmentation(warped=1, tempos=(1, 1), formants=(0.5, 0.5)),
    )
    torch.testing.assert_close(lower[0, 5, :30], 2 * torch.arange(30.0), atol=1e-3, rtol=0)


def test_masks_in_time_are_shorter_than_a_phone():
    kind = Augmentation(bands=0, gap=5)
    kept = masked(torch.ones(3, 400, 8), torch.tensor([400, 400, 99]), random.Random(1), kind)
    assert (kept[2] == 1).all()
    silent = (kept[:2, :, 0] == 0).sum(1)
    assert (silent > 0).all()
    assert (silent <= 4 * 5).all()
    bands = masked(torch.ones(1, 50, 64), torch.tensor([50]), random.Random(1), Augmentation(gap=0))
    assert 0 < int((bands[0].sum(0) == 0).sum()) <= 20


def test_an_epoch_has_every_utterance_once(speech, batches):
    for epoch in (0, 1):
        assert sorted(i for batch in batches._order(epoch) for i in batch) == list(range(len(speech)))
    assert batches._order(0) != batches._order(1)


def test_batches_are_not_larger_than_they_may():
    samples = np.sort(np.random.default_rng(0).integers(10, 100, 50))
    found = parts(samples, 150)
    assert [i for begin, end in found for i in range(begin, end)] == list(range(50))
    assert all((end - begin) * samples[end - 1] <= 150 for begin, end in found)


def test_a_batch_depends_only_on_seed_and_step(speech, batches):
    other = Batches(speech, 12, 0.4, Augmentation(), 5)
    for step in (4, 1):
        first, second = batches.at(step), other.at(step)
        assert torch.equal(first.audio, second.audio)
        assert first.labels == second.labels
    assert not torch.equal(batches.at(1).lengths, Batches(speech, 12, 0.4, Augmentation(), 6).at(1).lengths)


def test_a_resumed_training_equals_one_that_was_not_stopped(batches, tmp_path):
    def begin() -> Training:
        return Training(batches, 1e-2, TINY, seed=1)

    whole, first = begin(), begin()
    whole_losses = [whole.step() for _ in range(2)]
    whole.clock.begin_decay(2)
    whole_losses += [whole.step() for _ in range(2)]
    losses = [first.step() for _ in range(2)]
    first.clock.begin_decay(2)
    losses.append(first.step())
    first.save(tmp_path / "checkpoint.pt")
    second = Training(batches, 1e-2, TINY, seed=2)
    second.load(tmp_path / "checkpoint.pt")
    second.clock.begin_decay(99)
    losses.append(second.step())
    assert losses == whole_losses
    assert second.clock.ended
    assert whole.clock.ended
    assert vars(second.clock) == vars(whole.clock)
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, second.network.state_dict()[name]), name


def test_the_rate_rises_stays_and_falls():
    assert Clock(step=0).learning_rate(1.0) == pytest.approx(1 / 500)
    assert Clock(step=10**6).learning_rate(1.0) == 1.0
    assert Clock(step=5050, decay_from=5000, decay=100).learning_rate(1.0) == pytest.approx(0.5)
    clock = Clock(step=5100, decay_from=5000, decay=100)
    assert clock.ended
    clock.begin_decay(200)
    assert (clock.decay_from, clock.decay, clock.learning_rate(1.0)) == (5100, 200, 1.0)
    clock.begin_decay(300)
    assert clock.decay == 200


def test_wrong_symbols_of_the_parts_add_up_to_the_edit_distance():
    rng = random.Random(2)
    for _ in range(200):
        said = ["".join(rng.choices("abc", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4))]
        heard = "".join(rng.choices("abc", k=rng.randint(0, 12)))
        assert sum(wrong_by_part(heard, said)) == Levenshtein.distance(heard, "".join(said))
    assert wrong_by_part("thecatt", ["the", "dog", "s"]) == [0, 3, 1]
    assert wrong_by_part("xxthe", ["the", "dog"]) == [2, 3]


def test_error_rates_of_known_and_new_words():
    errors = Errors()
    said = Labels("the zorb", ["dh", "ah", "z", "ao", "r", "b"])
    heard = Labels("tha zor", ["dh", "ah", "z", "r", "b"])
    errors.add(heard, said, [["dh", "ah"], ["z", "ao", "r", "b"]], known={"the"})
    figures = {name: (count.wrong, count.said) for name, count in vars(errors).items()}
    assert figures == {
        "letters": (2, 8),
        "words": (2, 2),
        "phones": (1, 6),
        "new_letters": (1, 4),
        "new_phones": (1, 4),
    }
    assert [str(count) for count in vars(errors).values()] == ["25.00", "100.00", "16.67", "25.00", "25.00"]


def test_every_sentence_is_in_its_groups(speech):
    network = Training(Batches(speech, 12, 0.4, Augmentation(), 5), 1e-2, TINY).network.eval()
    trained = known_words(speech) - {"the"}
    errors = evaluate(network, speech, trained)
    letters = {group: errors[group, "mu-law"].letters.said for group, _ in errors}
    assert letters["all"] == sum(len(label.letters) for label in speech.labels)
    assert letters["all"] == letters["kind demo"] == letters["new words"] + letters.get("known words", 0)
    assert letters["all"] == sum(count for group, count in letters.items() if group.startswith("voice"))
    thes = sum(label.letters.split().count("the") for label in speech.labels)
    assert 3 * thes <= errors["all", "original"].new_letters.said <= 4 * thes
    phones = sum(len(label.phones) for label in speech.labels)
    assert errors["all", "original"].phones.said == phones


def test_the_recipe_trains_decays_and_writes_its_card(tmp_path, capsys):
    threads = torch.get_num_threads()
    command = f"--out {tmp_path} --hours 0.003 --sentences 2 --batch 4 --decay 2"
    train(parser().parse_args([*command.split(), "--steps", "1"]))
    assert not (tmp_path / "export" / "README.md").exists()
    train(parser().parse_args(command.split()))
    torch.set_num_threads(threads)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["clock"]["step"] == 2
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "2 steps of 4 seconds" in card
    assert re.search(r"\| all +\| codec +\| [\d.]+ \|", card)
    assert "| all | original |" in capsys.readouterr().out
    recogniser = EmbeddedRecogniser(tmp_path / "export")
    assert len(recogniser.phones([torch.randn(8000) * 0.1], 16_000)) == 1


def test_the_shipped_card_keeps_the_promise() -> None:
    card = (ASSET / "README.md").read_text()
    cells = (line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| "))
    rates = {tuple(row[:2]): row[2:] for row in cells}
    letters, coded = (float(rates["known words", sound][0]) for sound in ("original", "codec"))
    assert letters <= 4.0
    assert coded <= letters + 1.0
    assert float(rates["new words", "original"][-1]) <= 5.0  # phones of words that were never trained
    size = float(re.search(r"([\d.]+) M parameters", card)[1])
    assert size <= 5.0
    network = EmbeddedRecogniser().network
    assert size == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6, abs=0.01)


def test_all_assets_are_small() -> None:
    files = [path for path in (ROOT / "wand" / "assets").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    folders = {path.parent for path in files if path.name == "model.safetensors"}
    assert all((folder / "README.md").is_file() for folder in folders)
