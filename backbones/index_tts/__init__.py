"""IndexTTS 1.5: the GPT of index-tts/index-tts (class ``UnifiedVoice``; facts read at tag v1.5.0, commit 9098497).

A GPT-2 body with its own embeddings and head. The prefix is ``32 latents of the reference | start, text, stop | start
of speech``. Text and speech have separate tables of learned positions; the latents have no positions. The frame rate
is 24,000 / 1,024 Hz.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from wand.attention import AttentionContext, Windows
from wand.backbones.index_tts.conditioning import LATENTS, SAMPLE_RATE, ConformerEncoder, Perceiver
from wand.backbones.index_tts.inputs import PIECES, IndexTTSArchitecture, IndexTTSConditioner, PieceTokenizer
from wand.checks import first_line
from wand.files.plain_values import read_yaml
from wand.files.typed import build
from wand.files.weights import check_fit, file_digest, read_weights, write_torch
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.model.sampling import Sampling
from wand.model.tokenizers import Files, read_files, write_files

WEIGHTS, CONFIG = "gpt.pth", "config.yaml"
# Some files hold the tensors below this key.
BELOW = "model"
SAMPLES_A_CODE = 1024
# The id that upstream's generate() puts in place of the prefix. Its repetition penalty counts this id as spoken.
PLACEHOLDER = 1
# Required values of a config, if it has the key. Other models of the same family have other values.
SUPPORTED = {
    "condition_type": "conformer_perceiver",
    "condition_module.input_layer": "conv2d2",
    "use_mel_codes_as_input": True,
    "mel_length_compression": SAMPLES_A_CODE,
    "max_conditioning_inputs": 1,
}

# Fields of the shape that upstream's config keeps one level deeper.
CONDITION_MODULE = ("output_size", "linear_units", "attention_heads", "num_blocks", "perceiver_mult")

MelPositions = Literal["training", "cached"]
# Index of the first code in the table of positions. Index 0 belongs to the start.
FIRST_POSITION: dict[MelPositions, int] = {"training": 1, "cached": 2}


class _LearnedPositions(nn.Module):
    """A table of positions, with the module name that upstream uses."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(rows, width)

    def forward(self, positions: Tensor) -> Tensor:
        embedded: Tensor = self.emb(positions)
        return embedded


class _NoPositions(nn.Module):
    """Replaces GPT-2's own table of positions, which upstream removes too."""

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros((), device=position_ids.device)


class IndexTTS(Backbone):
    """Reads and writes ``gpt.pth``, ``config.yaml`` and ``bpe.model`` of a released IndexTTS 1.5 (or 1.0).

    Codec (DVAE) and vocoder are not part of this class; upstream's are used, and the vocoder takes `speech_latents`.
    The conditioning network is frozen. The learned positions end after about 34 seconds of speech, under any window.

    Args:
        pretrained: Folder of the release; None starts from random weights.
        architecture: Shape of a model without original weights.
        mel_positions: Positions of the codes, in training and in speaking, for student and teacher. With ``training``
            the first code has position 1. With ``cached`` it has position 2, as in upstream's inference with a cache.
            The start has position 0.
        num_beams: Must be 1.

    Raises:
        ValueError: If not exactly one of `pretrained` and `architecture` is given, or the folder does not hold a model.
    """

    licence = (
        "The code of IndexTTS is under Apache-2.0. Its weights are under bilibili's model licence: no commercial use "
        "without written authorisation. A model distilled from them is a derivative: it must state its changes, carry "
        "that licence and show `bilibili Index` where it is published."
    )
    frame_rate = SAMPLE_RATE / SAMPLES_A_CODE
    sample_rate = SAMPLE_RATE
    num_codebooks = 1
    hears_references, reads_references = True, False

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: IndexTTSArchitecture | None = None,
        mel_positions: MelPositions = "training",
        num_beams: int = 1,
    ) -> None:
        super().__init__(pretrained)
        if num_beams != 1:
            raise ValueError(f"num_beams {num_beams} is not supported: a windowed cache holds one beam; give 1")
        if mel_positions not in FIRST_POSITION:
            raise ValueError(f"mel_positions {mel_positions!r} is not one of {', '.join(FIRST_POSITION)}")
        if (pretrained is None) == (architecture is None):
            raise ValueError("IndexTTS takes exactly one of `pretrained` and `architecture`")
        self.pretrained = pretrained
        self.shape = shape = _read_architecture(self._folder) if architecture is None else architecture
        self.mel_positions: MelPositions = mel_positions
        self.stored_dtype = getattr(torch, shape.dtype)
        self.speech_vocab_size = shape.number_mel_codes
        self.stop_ids = (shape.stop_mel_token,)
        self.max_speech_tokens = shape.max_mel_tokens
        self.layout = ColumnLayout(1, stop_id=shape.stop_mel_token, filler_id=shape.start_mel_token)
        self.sampling = Sampling(
            top_k=30, top_p=0.8, repetition_penalty=10.0, already_spoken=[PLACEHOLDER, shape.start_mel_token]
        )
        width = shape.model_dim
        config = GPT2Config(
            vocab_size=1,
            n_positions=1,
            n_embd=width,
            n_layer=shape.layers,
            n_head=shape.heads,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.decoder = GPT2Model(config)
        # This class embeds the inputs and adds the positions.
        self.decoder.add_module("wpe", _NoPositions())
        self.decoder.set_input_embeddings(None)
        self.conditioning_encoder = ConformerEncoder(
            shape.output_size, shape.attention_heads, shape.linear_units, shape.num_blocks
        )
        self.perceiver_encoder = Perceiver(width, shape.output_size, shape.attention_heads, shape.perceiver_mult)
        self.text_embedding = nn.Embedding(shape.number_text_tokens + 1, width)
        self.text_pos_embedding = _LearnedPositions(shape.max_text_tokens + 2, width)
        self.mel_embedding = nn.Embedding(shape.number_mel_codes, width)
        self.mel_pos_embedding = _LearnedPositions(shape.max_mel_tokens + 3, width)
        self.final_norm = nn.LayerNorm(width)
        self.text_head = nn.Linear(width, shape.number_text_tokens + 1)
        self.mel_head = nn.Linear(width, shape.number_mel_codes)
        # Upstream uses the text head only in training. It is kept here so that the files stay complete.
        for frozen in (self.conditioning_encoder, self.perceiver_encoder, self.text_head):
            frozen.requires_grad_(False)
        self.use_files({} if pretrained is None else read_files(self._folder, [CONFIG, PIECES]))
        self.finish_init()

    @property
    def _folder(self) -> Path:
        assert self.pretrained is not None
        return Path(self.pretrained)

    def architecture(self) -> dict[str, Any]:
        """The shape and the kind of positions as plain values."""
        return {**asdict(self.shape), "mel_positions": self.mel_positions}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        shape = {name: value for name, value in architecture.items() if name != "mel_positions"}
        return cls(
            architecture=build(IndexTTSArchitecture, shape, "architecture"), mel_positions=architecture["mel_positions"]
        )

    def use_files(self, files: Files) -> None:
        """Build the tokenizer from its file."""
        self.files = files
        self.conditioner = IndexTTSConditioner(self.shape, PieceTokenizer(files[PIECES]) if PIECES in files else None)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all networks except the frozen ones, which stay in eval mode."""
        super().train(mode)
        self.conditioning_encoder.eval()
        self.perceiver_encoder.eval()
        return self

    def load_pretrained(self) -> None:
        """Read ``gpt.pth``."""
        path = self._folder / WEIGHTS
        state = read_weights(path, BELOW)
        check_fit(self._upstream_state(), state, path)
        self.load_state_dict({_own_name(name): tensor for name, tensor in state.items()})

    def pretrained_digest(self) -> str:
        """SHA-256 of ``gpt.pth``."""
        return file_digest(self._folder / WEIGHTS)

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write ``gpt.pth``, which upstream loads in strict mode, and the small files unchanged."""
        state = self._upstream_state()
        write_torch(
            {name: t.detach().to("cpu", dtype or self.stored_dtype).contiguous() for name, t in state.items()},
            folder / WEIGHTS,
        )
        write_files(self.files, folder)

    def _upstream_state(self) -> dict[str, Tensor]:
        return {_upstream_name(name): tensor for name, tensor in self.state_dict().items()}

    @torch.no_grad()
    def voice_latents(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Encode references as latents ``[B, 32, D]`` with the frozen networks.

        Args:
            mel: ``[B, F, 100]``, right-padded.
            frames: ``[B]`` number of real frames of each reference.
        """
        dtype = self.perceiver_encoder.latents.dtype
        latents: Tensor = self.perceiver_encoder(*self.conditioning_encoder(mel.to(dtype), frames))
        return latents

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """``[B, P, D]``."""
        given = batch.conditioning
        latents = self.voice_latents(given["mel"], given["frames"])
        # Column indices without the padding of each row. Padding columns have negative indices and are masked later.
        columns = torch.arange(batch.prefix_length - 1, device=latents.device) - batch.starts[:, None]
        text = self.text_embedding(given["text"]) + self.text_pos_embedding((columns - LATENTS).clamp(min=0))
        rows = torch.arange(len(batch), device=latents.device)[:, None]
        voice = latents[rows, columns.clamp(0, LATENTS - 1)]
        start = torch.full((len(batch), 1), self.shape.start_mel_token, device=latents.device)
        return torch.cat([torch.where((columns < LATENTS)[..., None], voice, text), self._embed_mel(start, 0)], dim=1)

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """``[B, T, D]``, with the positions that `mel_positions` chooses."""
        return self._embed_mel(columns[..., 0], FIRST_POSITION[self.mel_positions] + offset[:, None])

    def _embed_mel(self, ids: Tensor, first: Tensor | int) -> Tensor:
        """Embed rows of the vocabulary ``[B, T]`` whose first column has position `first` ``[B, 1]``."""
        positions = first + torch.arange(ids.shape[1], device=ids.device)
        embedded: Tensor = self.mel_embedding(ids) + self.mel_pos_embedding(positions)
        return embedded

    def project(self, hidden: Tensor) -> Tensor:
        """Apply the second of the two final norms."""
        projected: Tensor = self.final_norm(hidden)
        return projected

    def speech_head(self) -> LinearHead:
        """A head of ``[1, V, D]`` with bias."""
        return LinearHead(self.mel_head.weight[None], self.mel_head.bias[None])

    def forbidden_tokens(self) -> Tensor:
        """The start token is never spoken."""
        return (torch.arange(self.speech_vocab_size) == self.shape.start_mel_token)[None]

    @torch.no_grad()
    def speech_latents(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """Latents ``[B, T, D]`` for upstream's vocoder, from a second pass over the whole speech.

        Upstream runs this pass with the positions of training, whatever positions its inference used, and under full
        attention. This method uses the same positions, under the given window.

        Args:
            batch: Conditioning and spoken codes, from `make_batch`.
            window: The window of this pass. Give a student the window that it was trained for.
        """
        embeds = torch.cat([self.embed_prefix(batch), self._embed_mel(batch.columns[..., 0], 1)], dim=1)
        context = AttentionContext(window, batch.prefix_length, batch.padded_starts)
        output = self.decoder(inputs_embeds=embeds, use_cache=False, attention_context=context)
        # The latent of a code is the state that predicted it.
        return self.project(output.last_hidden_state[:, batch.prefix_length - 1 : -1])


def _own_name(name: str) -> str:
    return name.replace("gpt.", "decoder.", 1) if name.startswith("gpt.") else name


def _upstream_name(name: str) -> str:
    return name.replace("decoder.", "gpt.", 1) if name.startswith("decoder.") else name


def _read_architecture(folder: Path) -> IndexTTSArchitecture:
    if missing := [name for name in (WEIGHTS, CONFIG, PIECES) if not (folder / name).is_file()]:
        raise ValueError(
            f"no IndexTTS at {folder}: it should hold {WEIGHTS}, {CONFIG} and {PIECES} ({', '.join(missing)} missing)"
        )
    path = folder / CONFIG
    try:
        config: Any = read_yaml(path)
        version, gpt = float(config.get("version", 1)), config["gpt"]
        names = {f.name for f in fields(IndexTTSArchitecture)} - {*CONDITION_MODULE, "dtype"}
        found = {name: gpt[name] for name in names}
        found |= {name: gpt["condition_module"][name] for name in CONDITION_MODULE}
        values = {name: int(value) for name, value in found.items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} does not describe an IndexTTS: {first_line(error)}") from error
    if version >= 2:
        raise ValueError(f"{path} describes IndexTTS {version:g}, which is another model: use 1.0 or 1.5")
    for name, supported in SUPPORTED.items():
        given = gpt
        for part in name.split("."):
            given = given.get(part, supported) if isinstance(given, dict) else given
        if given != supported:
            raise ValueError(f"{path} describes another model: gpt.{name} is {given!r}, IndexTTS 1.5 has {supported!r}")
    table = read_weights(folder / WEIGHTS, BELOW).get("mel_embedding.weight")
    if table is None:
        raise ValueError(f"{folder / WEIGHTS} holds another model: it has no tensor 'mel_embedding.weight'")
    return IndexTTSArchitecture(**values, dtype=str(table.dtype).removeprefix("torch."))
