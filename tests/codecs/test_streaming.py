"""Chunk by chunk is the whole: with EnCodec's own state, and in the way of any codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from wand.codecs import Codec, CodecStream, EncodecCodec
from wand.codecs.encodec import EncodecStream
from wand.codecs.reference import Reference
from wand.codecs.streaming import ContextStream

CONFIGS: dict[str, dict[str, Any]] = {
    "constant": {"pad_mode": "constant"},
    "reflect": {"pad_mode": "reflect"},
    "reflect, far": {"pad_mode": "reflect", "upsampling_ratios": [2, 1], "kernel_size": 3, "last_kernel_size": 9},
    "two recurrent layers": {"pad_mode": "constant", "num_lstm_layers": 2},
    "shortcut": {"pad_mode": "reflect", "use_conv_shortcut": True},
    "dilated": {"pad_mode": "reflect", "num_residual_layers": 3, "residual_kernel_size": 4},
    "odd ratios": {"pad_mode": "constant", "upsampling_ratios": [5, 3, 1]},
}


def make_codec(folder: Path, **changes: Any) -> EncodecCodec:
    """Random weights that are heard: codebooks and biases are zero at first."""
    settings: dict[str, Any] = {
        "sampling_rate": 800,
        "target_bandwidths": [10.0],
        "hidden_size": 8,
        "codebook_dim": 8,
        "codebook_size": 16,
        "num_filters": 4,
        "num_residual_layers": 1,
        "upsampling_ratios": [4, 2],
        "use_conv_shortcut": False,
        **changes,
    }
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**settings))
    for name, tensor in model.state_dict().items():
        if name.endswith(".embed"):
            tensor.normal_(std=3.0)
        elif name.endswith(".bias"):
            tensor.normal_(std=0.3)
    model.save_pretrained(folder)
    return EncodecCodec(str(folder))


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EncodecCodec]:
    made = {name: make_codec(tmp_path_factory.mktemp("codec"), **changes) for name, changes in CONFIGS.items()}
    return {"embedded": EncodecCodec(), **made}


def draw_codes(codec: Codec, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(codec.codebook_size, (codec.num_codebooks, frames), generator=generator)


def cut(codes: Tensor, sizes: list[int]) -> list[Tensor]:
    """Chunks of these sizes; the rest is the last."""
    ends = torch.tensor([0, *sizes]).cumsum(0).clamp(max=codes.shape[1]).tolist()
    return [codes[:, a:b] for a, b in zip(ends, [*ends[1:], codes.shape[1]], strict=True)]


def play(stream: CodecStream, chunks: list[Tensor]) -> Tensor:
    return torch.cat([*(stream.decode(chunk) for chunk in chunks), stream.finish()])


def same(streamed: Tensor, whole: Tensor, scale: float = 1.0) -> bool:
    return streamed.shape == whole.shape and bool(torch.allclose(streamed, whole, rtol=0, atol=1e-5 * scale))


@pytest.mark.parametrize("name", ["embedded", *CONFIGS])
@given(frames=st.integers(1, 60), sizes=st.lists(st.integers(0, 20), max_size=8))
@example(frames=60, sizes=[1] * 59)
@example(frames=57, sizes=[7] * 8)
@example(frames=60, sizes=[50])
@example(frames=1, sizes=[])
def test_chunks_of_any_size_are_the_whole(
    codecs: dict[str, EncodecCodec], name: str, frames: int, sizes: list[int]
) -> None:
    codec = codecs[name]
    codes = draw_codes(codec, frames, seed=frames)
    whole = codec.decode(codes[None])[0, 0]
    assert whole.std() > 0.003
    assert isinstance(codec.stream(), EncodecStream)
    assert same(play(codec.stream(), cut(codes, sizes)), whole)


@pytest.mark.parametrize(("name", "needed"), [("embedded", 1), ("reflect", 7), ("reflect, far", 5)])
def test_sound_comes_with_its_frames(codecs: dict[str, EncodecCodec], name: str, needed: int) -> None:
    """Reflected beginnings wait for what they reflect; then, and without them at once, every frame has its samples."""
    codec = codecs[name]
    hop, stream = round(codec.sample_rate / codec.frame_rate), codec.stream()
    lengths = [len(stream.decode(frame)) for frame in draw_codes(codec, 12).split(1, dim=1)]
    assert lengths == [0] * (needed - 1) + [needed * hop] + [hop] * (12 - needed)
    assert len(stream.finish()) == 0


def test_a_reflected_beginning_cannot_come_sooner(codecs: dict[str, EncodecCodec]) -> None:
    codec = codecs["reflect"]
    codes = draw_codes(codec, 7)
    other = codes.clone()
    other[:, 6] = (other[:, 6] + 1) % codec.codebook_size
    first = [codec.decode(spoken[None])[0, 0, 0] for spoken in (codes, other)]
    assert first[0] != first[1]


def test_streams_at_a_time_know_nothing_of_each_other(codecs: dict[str, EncodecCodec]) -> None:
    for codec in codecs.values():
        spoken = [draw_codes(codec, 40, seed) for seed in (1, 2)]
        streams = [codec.stream(), codec.stream()]
        heard: list[list[Tensor]] = [[], []]
        for start in range(0, 40, 8):
            for sounds, stream, codes in zip(heard, streams, spoken, strict=True):
                sounds.append(stream.decode(codes[:, start : start + 8]))
        for sounds, stream, codes in zip(heard, streams, spoken, strict=True):
            assert same(torch.cat([*sounds, stream.finish()]), codec.decode(codes[None])[0, 0])


def test_sound_may_be_changed_in_place(codecs: dict[str, EncodecCodec]) -> None:
    codec = next(iter(codecs.values()))
    codes = codec.encode(torch.randn(1, 1, codec.sample_rate // 10), codec.sample_rate)
    stream = codec.stream()
    for made in (codec.decode(codes), stream.decode(codes[0]), stream.finish()):
        made.mul_(0.5)


def test_fewer_codebooks() -> None:
    codec = EncodecCodec(num_codebooks=2)
    codes = draw_codes(codec, 30)
    assert codes.shape == (2, 30)
    whole = codec.decode(codes[None])[0, 0]
    assert same(play(codec.stream(), cut(codes, [11, 1])), whole)
    assert not same(whole, EncodecCodec().decode(draw_codes(EncodecCodec(), 30)[None])[0, 0])


class Smooth(Codec):
    """Frames upsampled and smoothed over their neighbours: the sound depends on `reach` frames to either side."""

    sample_rate, frame_rate, num_codebooks, codebook_size = 800, 20.0, 2, 16

    def __init__(self, reach: int = 3, extra: int = 0) -> None:
        self.reach, self.extra = reach, extra

    @property
    def fingerprint(self) -> str:
        return "smooth"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        raise NotImplementedError

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        hop = 40
        loudness = 1.0 if reference is None or reference.audio is None else float(reference.audio[0])
        levels = codes.float().mean(1, keepdim=True).repeat_interleave(hop, dim=2) / self.codebook_size
        reach = self.reach * hop
        kernel = torch.randn(1, 1, 2 * reach + 1, generator=torch.Generator().manual_seed(0)) / reach
        return loudness * torch.nn.functional.conv1d(levels, kernel, padding=reach + self.extra // 2)

    def to(self, device: torch.device | str) -> Self:
        return self


@given(frames=st.integers(1, 60), sizes=st.lists(st.integers(0, 20), max_size=8))
def test_any_codec_whose_neighbours_are_near(frames: int, sizes: list[int]) -> None:
    codec = Smooth(reach=3)  # with a frame for the fade, the lookahead of 0.2 s
    codes = draw_codes(codec, frames, seed=frames)
    whole = codec.decode(codes[None])[0, 0]
    assert isinstance(codec.stream(), ContextStream)
    assert same(play(codec.stream(), cut(codes, sizes)), whole)


def test_frames_wait_for_their_successors() -> None:
    codec = Smooth()
    stream = codec.stream()
    lengths = [len(stream.decode(frame)) for frame in draw_codes(codec, 7).split(1, dim=1)]
    assert lengths == [0, 0, 0, 0, 40, 40, 40]
    assert len(stream.finish()) == 4 * 40
    assert len(stream.finish()) == 0
    assert len(codec.stream().finish()) == 0


def test_the_voice_is_passed_on() -> None:
    codec, codes = Smooth(), draw_codes(Smooth(), 30)
    voice = Reference(codes, audio=torch.tensor([3.0]))
    streamed = play(codec.stream(voice), cut(codes, [9, 9]))
    assert same(streamed, codec.decode(codes[None], voice)[0, 0])
    assert not same(streamed, codec.decode(codes[None])[0, 0])


@given(frames=st.integers(1, 60), sizes=st.lists(st.integers(0, 20), max_size=8), fade=st.integers(0, 80))
def test_one_decode_fades_into_the_next(frames: int, sizes: list[int], fade: int) -> None:
    """A decoder that says which of its calls a sample comes from, against samples counted one by one."""
    calls = 0

    def decode(codes: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.full((codes.shape[1] * 40,), float(calls))

    codes = draw_codes(Smooth(), frames)
    stream = ContextStream(decode, hop=40, context=3, lookahead=2, fade=fade)
    parts = [*(stream.decode(chunk) for chunk in cut(codes, sizes)), stream.finish()]
    assert sum(len(part) for part in parts) == frames * 40
    sounding = [part for part in parts if len(part)]
    for call, part in enumerate(sounding, start=1):
        faded = 0 if call == 1 else min(fade, len(part))
        expected = [call - 1 + (i + 1) / (faded + 1) if i < faded else call for i in range(len(part))]
        assert torch.allclose(part, torch.tensor(expected, dtype=torch.float32))


def test_little_is_remembered_and_decoded() -> None:
    seen: list[int] = []

    def decode(codes: Tensor) -> Tensor:
        seen.append(codes.shape[1])
        return torch.zeros(codes.shape[1] * 40)

    play(ContextStream(decode, hop=40, context=3, lookahead=2, fade=8), [*draw_codes(Smooth(), 100).split(5, dim=1)])
    assert max(seen) == 3 + 5 + 2


@pytest.mark.parametrize(
    "changes", [{"use_causal_conv": False}, {"norm_type": "time_group_norm"}, {"pad_mode": "replicate"}]
)
def test_other_encodecs_go_the_way_of_any_codec(tmp_path: Path, changes: dict[str, Any]) -> None:
    codec = make_codec(tmp_path, **{"pad_mode": "reflect", **changes})
    assert codec.causal == ("pad_mode" in changes)
    codes = draw_codes(codec, 150)
    whole = codec.decode(codes[None])[0, 0]
    stream = codec.stream()
    assert isinstance(stream, ContextStream)
    streamed = play(stream, cut(codes, [60, 1, 30]))
    assert streamed.shape == whole.shape
    if codec.causal:  # the LSTM forgets within a second of context
        assert same(streamed, whole)


@pytest.mark.parametrize(("extra", "refused"), [(-30, False), (30, False), (-60, True), (60, True)])
def test_frames_of_another_length_are_refused(extra: int, refused: bool) -> None:
    codec, codes = Smooth(extra=extra), draw_codes(Smooth(), 30)
    if refused:
        with pytest.raises(
            ValueError, match=f"made {1200 + extra} samples of 30 frames, not 1200: correct its frame_rate"
        ):
            play(codec.stream(), [codes])
    else:
        assert play(codec.stream(), [codes[:, :20], codes[:, 20:]]).shape == (1200 + extra,)
