"""Voices that clients add: none is replaced, and each is of use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch

from tests.serving.conftest import Running, make_model, serving
from tests.serving.test_refused import assert_refused
from wand.codecs.reference import Reference
from wand.files.audio import read_audio, write_audio
from wand.serving.settings import ServerSettings
from wand.speech.synthesizer import Synthesizer
from wand.speech.voices import save_voice

LIMITS = ServerSettings(rows=1, queue=0, max_seconds=0.2, allow_upload=True)


@pytest.fixture
def sound(folder: Path) -> bytes:
    return (folder / "anna.wav").read_bytes()


def upload(server: Running, name: str, content: bytes, file: str = "a.wav", **fields: str) -> httpx.Response:
    with server.client as client:
        return client.post("/v1/voices", data={"name": name, **fields}, files={"file": (file, content)})


def test_uploaded_voices_speak_like_their_sounds(
    model: Synthesizer, folder: Path, sound: bytes, tmp_path: Path
) -> None:
    (tmp_path / "bob.wav").write_bytes((folder / "bob.wav").read_bytes())
    with serving(model, tmp_path, LIMITS) as server:
        assert upload(server, "carl", sound).json()["id"] == "carl"
        assert (tmp_path / "carl.safetensors").is_file()
        assert_refused(upload(server, "carl", sound), 409, "name", "voice_exists")
        assert_refused(upload(server, "../carl", sound), 400, "file")
        assert_refused(upload(server, "d" * 65, sound), 400, "file")
        assert_refused(upload(server, "eve", b"no sound"), 400, "file")
        assert_refused(upload(server, "eve", sound, "a.exe"), 400, "file")
        assert_refused(upload(server, "eve", b"RIFF" * 4_000_000), 413, None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bob.wav", "carl.safetensors"]
        heard = server.speak(voice="carl").content
        assert server.becomes_idle()
        assert heard != server.speak(voice="bob").content
    assert len(read_audio(folder / "anna.wav", 16_000)) == 16_000
    with serving(model, tmp_path, LIMITS) as again:
        assert again.speak(voice="carl").content == heard


def test_files_of_voices_that_were_left_out_stay(model: Synthesizer, sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "anna.wav").write_bytes(sound)
    (tmp_path / "bob.wav").write_bytes(b"RIFF")
    save_voice(Reference(torch.zeros(3, 9, dtype=torch.long)), tmp_path / "carl.safetensors", None)  # of another model
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with serving(model, tmp_path, LIMITS) as server:
        assert list(server.speaker.voices) == ["anna"]
        for name in ("anna", "bob", "carl"):
            assert_refused(upload(server, name, sound), 409, "name", "voice_exists")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_of_several_uploads_of_a_name_is_kept(model: Synthesizer, folder: Path, tmp_path: Path) -> None:
    sounds = [(folder / f"{name}.wav").read_bytes() for name in ("anna", "bob")] * 2
    with serving(model, tmp_path, LIMITS) as server, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda content: upload(server, "dora", content), sounds))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        kept = model.read_voice(tmp_path / "dora.safetensors")
        assert torch.equal(kept.codes, server.speaker.voices["dora"].codes)


def test_long_sounds_are_refused_before_the_codec_hears_them(
    model: Synthesizer, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files, also with a header that knows no length."""
    noise = 0.1 * torch.randn(31 * 16_000, generator=torch.Generator().manual_seed(0))
    (files := tmp_path / "files").mkdir()
    for suffix in ("mp3", "ogg", "flac", "wav"):
        write_audio(files / f"long.{suffix}", noise, 16_000)
    wav = bytearray((files / "long.wav").read_bytes())
    wav[4:8] = wav[40:44] = b"\xff\xff\xff\xff"  # a program that writes to a pipe does not know the length
    (files / "unknown.wav").write_bytes(wav)
    (voices := tmp_path / "voices").mkdir()
    heard: list[int] = []
    encode = model.codec.encode
    with serving(model, voices, LIMITS) as server:
        monkeypatch.setattr(model.codec, "encode", lambda *given: heard.append(1) or encode(*given))
        for file in files.iterdir():
            message = assert_refused(upload(server, "eve", file.read_bytes(), file.name), 400, "file")
            assert message == "the sound lasts more than 30 s, the most that is taken: cut it"
        assert_refused(upload(server, "eve", sound, text="a" * 4097), 400, "text", "text_too_long")
        assert not heard
        assert upload(server, "eve", sound, text="a" * 4096).status_code == 201
        assert heard


def test_voices_of_any_length_can_be_used_or_are_refused(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole reference is in the prefix, and the model speaks no passages."""
    model = make_model(reference_seconds=30.0)
    noise = 0.1 * torch.randn(12 * 16_000, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "long.wav", noise, 16_000)
    content = (tmp_path / "long.wav").read_bytes()
    (voices := tmp_path / "voices").mkdir()
    (voices / "anna.wav").write_bytes((folder / "anna.wav").read_bytes())
    save_voice(Reference(torch.zeros(8, 0, dtype=torch.long)), voices / "empty.safetensors", None)
    with serving(model, voices, LIMITS) as server:
        assert list(server.speaker.voices) == ["anna"]
        assert "the voice empty is left out: the reference is empty" in caplog.text
        message = assert_refused(upload(server, "long", content), 400, "file")
        assert message.endswith("cut the sound, or save it in the folder of voices and start the server again")
        assert list(server.speaker.voices) == ["anna"]
        message = assert_refused(server.speak("so it is. " * 100), 400, "input")
        assert message.endswith("shorten the text, or speak it in several requests")
    (voices / "long.wav").write_bytes(content)
    with serving(model, voices, LIMITS) as server:
        assert server.speak("so it is. " * 12, voice="long").status_code == 200
        assert upload(server, "as-long", content).status_code == 201
        assert server.speak("so it is. " * 12, voice="as-long").status_code == 200
