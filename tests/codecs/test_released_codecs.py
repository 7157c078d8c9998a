"""The worker scripts of released models, on stand-ins for upstream's code (`tests.codecs.upstream`)."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

import wand.backbones.cosyvoice as cosyvoice_package
from tests.codecs.upstream import INDEX, SPARK, cosyvoice_code, write_package
from wand.codecs.reference import Reference
from wand.codecs.worker import WorkerCodec
from wand.codecs.worker_process import WORKERS

VERSIONS = ["speech", "prompt_wav"]  # upstream's front end took tensors (v2.0) and takes paths (main)


def test_spark_tts_parts_voice_and_speech(tmp_path: Path) -> None:
    codec = WorkerCodec("spark_tts", sys.executable, "release", str(write_package(tmp_path, SPARK)))
    spoken = (torch.arange(5) / 8).repeat_interleave(320)[None, None]
    heard = torch.cat([spoken, torch.zeros(1, 1, 80)], dim=2)  # the last window of 400 samples
    codes, voice = codec.encode(2 * heard, 16000), codec.global_codes(2 * heard, 16000)
    assert codes.tolist() == [[[0, 1, 2, 3, 4]]]
    assert voice is not None
    assert voice.tolist() == [list(range(32))]
    assert torch.equal(codec.decode(codes, Reference(codes[0], global_codes=voice[0])), spoken)
    assert codec.encode(torch.zeros(1, 1, 400), 16000).tolist() == [[[0]]]
    with pytest.raises(ValueError, match="needs the voice's global codes"):
        codec.decode(codes)
    with pytest.raises(ValueError, match=r"BiCodec takes 0\.025 s at least, not 0\.006 s"):
        codec.encode(torch.zeros(1, 1, 100), 16000)
    codec.close()


def cosyvoice(folder: Path, parameter: str = "prompt_wav", device: str = "cpu") -> tuple[WorkerCodec, Path]:
    """The codec, and the record of what it opened and extracted."""
    release = folder / "release"
    release.mkdir()
    (release / "speech_tokenizer_v2.onnx").touch()
    code = write_package(folder / "code", cosyvoice_code(parameter))
    return WorkerCodec("cosyvoice2", sys.executable, str(release), str(code), device), release / "record"


@pytest.mark.parametrize("parameter", VERSIONS)
def test_cosyvoice_hears_and_speaks(tmp_path: Path, parameter: str) -> None:
    codec, record = cosyvoice(tmp_path, parameter)
    spoken = torch.arange(1, 7).repeat_interleave(640).float()[None, None]
    codes = codec.encode(spoken, 16000)
    assert codes.tolist() == [[[1, 2, 3, 4, 5, 6]]]
    with pytest.raises(ValueError, match="needs the sound of a reference"):
        codec.decode(codes)
    with pytest.raises(ValueError, match=r"takes 30 s at most, not 31\.0 s"):
        codec.encode(torch.zeros(1, 1, 31 * 16000), 16000)
    assert codec.encode(torch.zeros(1, 1, 7200), 24000).shape == (1, 1, 8)
    # Encoding opens the tokenizer and nothing else, and no GPU is seen.
    assert set(record.read_text().split("\n")) == {"speech_tokenizer_v2.onnx", "GPUs ", "codes", ""}
    # Quieter than one step of a 16-bit file.
    quiet = torch.full((24_000,), 1.7e-6)
    sound = codec.decode(codes, Reference(codes[0], quiet))
    torch.testing.assert_close(sound, 1.7e-6 * codes.float().repeat_interleave(960, dim=2), rtol=1e-6, atol=0)
    codec.close()


def test_cosyvoice_extracts_a_reference_once(tmp_path: Path) -> None:
    codec, record = cosyvoice(tmp_path)
    codes = torch.arange(60)[None]
    one, other = (Reference(codes, torch.full((24_000,), level)) for level in (0.5, 0.25))
    stream = codec.stream(one)
    parts = [stream.decode(part) for part in codes.split(7, dim=1)] + [stream.finish()]
    torch.testing.assert_close(torch.cat(parts), 0.5 * codes[0].float().repeat_interleave(960))
    again = Reference(codes, one.audio.clone() if one.audio is not None else None)
    assert torch.equal(codec.decode(codes[None], again), 2 * codec.decode(codes[None], other))
    extracted = record.read_text().split("\n")
    # Once for each of the two voices, and the model was made once.
    assert [extracted.count(what) for what in ("llm.pt", "mel", "embedding", "codes")] == [1, 2, 2, 2]
    codec.close()


def test_cosyvoice_refuses_references_that_upstream_cannot_take(tmp_path: Path) -> None:
    codec, _ = cosyvoice(tmp_path)
    codes = torch.arange(6)[None]
    for seconds, message in ((31.0, r"30 s at most, not 31\.0 s"), (0.03, r"0\.040 s at least, not 0\.030 s")):
        voice = Reference(codes, torch.zeros(round(seconds * 24_000)))
        with pytest.raises(ValueError, match=f"a reference of CosyVoice 2 has {message}"):
            codec.decode(codes[None], voice)
    for seconds in (30.0, 0.04):
        voice = Reference(codes, torch.zeros(round(seconds * 24_000)))
        assert codec.decode(codes[None], voice).shape == (1, 1, 6 * 960)
    with pytest.raises(ValueError, match=r"the tokenizer of CosyVoice 2 takes 0\.013 s at least, not 0\.006 s"):
        codec.encode(torch.zeros(1, 1, 100), 16000)
    codec.close()


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("cuda:1", "4,5", "5"),
        ("cuda:0", "4,5", "4"),
        ("cuda:1", "GPU-aa, GPU-bb", "GPU-bb"),
        ("cuda:1", None, "1"),
        ("cuda", "4,5", None),
        ("cuda", None, None),
        ("cpu", "4,5", ""),
        ("cuda:2", "4,5", "device 'cuda:2' does not exist: CUDA_VISIBLE_DEVICES is '4,5'"),
        ("cuda:1", "4,-1,5", "device 'cuda:1' does not exist"),
        ("cuda:0", "", "device 'cuda:0' does not exist"),
        ("cuda:x", None, "device 'cuda:x' is neither cpu, cuda nor cuda:N"),
        ("cpu:0", None, "device 'cpu:0' is neither cpu, cuda nor cuda:N"),
        ("mps", None, "device 'mps' is neither cpu, cuda nor cuda:N"),
    ],
)
def test_cosyvoice_chooses_among_the_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, seen: str | None
) -> None:
    monkeypatch.syspath_prepend(str(WORKERS))
    script = runpy.run_path(str(Path(cosyvoice_package.__file__).parent / "worker" / "codec_worker.py"))
    if seen is not None and seen.startswith("device"):
        with pytest.raises(ValueError, match=seen):
            script["visible_gpus"](device, visible)
    else:
        assert script["visible_gpus"](device, visible) == seen


def test_cosyvoice_shows_upstream_the_chosen_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    codec, record = cosyvoice(tmp_path, device="cuda:1")
    codec.encode(torch.zeros(1, 1, 7200), 24000)
    assert "GPUs 5" in record.read_text().split("\n")
    codec.close()


def test_index_tts_hears_and_vocodes(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (release / "config.yaml").write_text("dataset: {mel: {rate: 24000}}\nvqvae: {size: 9}\nbigvgan: {up: 1024}\n")
    torch.save({"model": {"gain": torch.tensor([2.0])}}, release / "dvae.pth")
    torch.save({"generator": {"gain": torch.tensor([0.5])}}, release / "bigvgan_generator.pth")
    codec = WorkerCodec("index_tts", sys.executable, str(release), str(write_package(tmp_path / "code", INDEX)))
    spoken = torch.arange(5).repeat_interleave(1024).float()[None, None]
    codes = codec.encode(spoken, 24000)
    assert codes.tolist() == [[[0, 2, 4, 6, 8]]]
    assert codec.encode(torch.zeros(1, 1, 3 * 24_000), 24000).shape == (1, 1, 71)
    latents = torch.tensor([[0.5, 9.0], [1.0, 9.0]])
    assert codec.needs_latents
    spoken_again = codec.vocode(latents, Reference(codes[0], spoken[0, 0]))
    assert spoken_again.tolist() == [0.25] * 1024 + [0.5] * 1024
    with pytest.raises(ValueError, match="takes latents, not codes"):
        codec.decode(codes)
    with pytest.raises(ValueError, match="takes audio at 24000 Hz, not 16000 Hz"):
        codec.encode(spoken, 16000)
    with pytest.raises(ValueError, match=r"IndexTTS takes 0\.021 s at least, not 0\.004 s"):
        codec.encode(spoken[..., :100], 24000)
    with pytest.raises(ValueError, match=r"IndexTTS takes 0\.043 s at least, not 0\.042 s"):
        codec.vocode(latents, Reference(codes[0], spoken[0, 0, :1000]))
    codec.close()
