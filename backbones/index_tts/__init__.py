"""IndexTTS 1.5: the GPT of index-tts/index-tts (class ``UnifiedVoice``; facts read at tag v1.5.0, commit 9098497).

A GPT-2 body between embeddings of its own. The prefix is ``32 latents of the reference | start, text, stop | start of
speech``; text and speech have learned positions, each their own, the latents none. Speech comes at 24,000 / 1,024 Hz.
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
from wand.files.weights import check_fit, file_digest, read_weights
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.model.sampling import Sampling
from wand.model.tokenizers import Files, read_files, write_files

WEIGHTS, CONFIG = "gpt.pth", "config.yaml"
# Tensors may lie below this key.
BELOW = "model"
SAMPLES_A_CODE = 1024
# What upstream's generate() stands in place of the prefix; its repetition penalty takes it for spoken.
PLACEHOLDER = 1
# What must be in a config where it is named at all: other models of the same family are not this one.
SUPPORTED = {
    "condition_type": "conformer_perceiver",
    "condition_module.input_layer": "conv2d2",
    "use_mel_codes_as_input": True,
    "mel_length_compression": SAMPLES_A_CODE,
    "max_conditioning_inputs": 1,
}

# Of the shape, what upstream keeps one level deeper.
CONDITION_MODULE = ("output_size", "linear_units", "attention_heads", "num_blocks", "perceiver_mult")

MelPositions = Literal["training", "cached"]
# The first code's place in the table of positions; place 0 is that of the start.
FIRST_POSITION: dict[MelPositions, int] = {"training": 1, "cached": 2}


class _LearnedPositions(nn.Module):
    """A table of positions, under upstream's name."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(rows, width)

    def forward(self, positions: Tensor) -> Tensor:
        embedded: Tensor = self.emb(positions)
        return embedded


class _NoPositions(nn.Module):
    """In place of GPT-2's own table, which upstream takes out too."""

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros((), device=position_ids.device)


class IndexTTS(Backbone):
    """Reads and writes ``gpt.pth``, ``config.yaml`` and ``bpe.model`` of a released IndexTTS 1.5 (or 1.0).

    Its codec (DVAE) and its vocoder stay upstream; the vocoder takes `speech_latents`. The conditioning network stays
    frozen. The learned positions end after about 34 seconds, whatever the window.

    Args:
        pretrained: Folder of the release; None starts from random weights.
        architecture: Shape of a model without original weights.
        mel_positions: Which positions codes have, in training and speaking, of student and teacher alike: ``training``
            counts the start as 0 and the codes from 1; ``cached`` counts them from 2, as upstream's inference with a
            cache does.
        num_beams: Only 1 is possible.

    Raises:
        ValueError: If both or neither of the first two are given, or the folder does not hold the model.
    """

    licence = (
        "IndexTTS's code is under Apache-2.0, its weights are under bilibili's model licence: not for commercial use "
        "unless authorised in writing. A model distilled from them is a derivative, which states its changes, carries "
        "that licence and shows `bilibili Index` where it is published."
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
            raise ValueError(f"num_beams {num_beams}: beams are not supported, a window keeps one speech a row; give 1")
        if mel_positions not in FIRST_POSITION:
            raise ValueError(f"mel_positions {mel_positions!r} is not one of {', '.join(FIRST_POSITION)}")
        if (pretrained is None) == (architecture is None):
            raise ValueError("IndexTTS takes either `pretrained` or `architecture`, exactly one of them")
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
        # Inputs are embedded here, positions and all.
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
        # The text head is upstream's for training text; here it is kept for the files alone.
        for frozen in (self.conditioning_encoder, self.perceiver_encoder, self.text_head):
            frozen.requires_grad_(False)
        self.use_files({} if pretrained is None else read_files(self._folder, [CONFIG, PIECES]))
        self.finish_init()

    @property
    def _folder(self) -> Path:
        assert self.pretrained is not None
        return Path(self.pretrained)

    def architecture(self) -> dict[str, Any]:
        """The shape and the positions in plain values."""
        return {**asdict(self.shape), "mel_positions": self.mel_positions}

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        shape = {name: value for name, value in architecture.items() if name != "mel_positions"}
        return cls(architecture=IndexTTSArchitecture(**shape), mel_positions=architecture["mel_positions"])

    def use_files(self, files: Files) -> None:
        """Make the tokenizer of its file."""
        self.files = files
        self.conditioner = IndexTTSConditioner(self.shape, PieceTokenizer(files[PIECES]) if PIECES in files else None)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the frozen networks."""
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
        """Write ``gpt.pth`` as upstream loads it (strictly), and the small files as they were."""
        folder.mkdir(parents=True, exist_ok=True)
        state = self._upstream_state()
        torch.save(
            {name: t.detach().to("cpu", dtype or self.stored_dtype).contiguous() for name, t in state.items()},
            folder / WEIGHTS,
        )
        write_files(self.files, folder)

    def _upstream_state(self) -> dict[str, Tensor]:
        return {_upstream_name(name): tensor for name, tensor in self.state_dict().items()}

    @torch.no_grad()
    def voice_latents(self, mel: Tensor, frames: Tensor) -> Tensor:
        """References as latents ``[B, 32, D]``, by the frozen networks.

        Args:
            mel: ``[B, F, 100]``, right-padded.
            frames: ``[B]`` real frames of each.
        """
        dtype = self.perceiver_encoder.latents.dtype
        latents: Tensor = self.perceiver_encoder(*self.conditioning_encoder(mel.to(dtype), frames))
        return latents

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """``[B, P, D]``."""
        given = batch.conditioning
        latents = self.voice_latents(given["mel"], given["frames"])
        # Columns of each row without its padding; what stands there is hidden.
        columns = torch.arange(batch.prefix_length - 1, device=latents.device) - batch.starts[:, None]
        text = self.text_embedding(given["text"]) + self.text_pos_embedding((columns - LATENTS).clamp(min=0))
        rows = torch.arange(len(batch), device=latents.device)[:, None]
        voice = latents[rows, columns.clamp(0, LATENTS - 1)]
        start = torch.full((len(batch), 1), self.shape.start_mel_token, device=latents.device)
        return torch.cat([torch.where((columns < LATENTS)[..., None], voice, text), self._embed_mel(start, 0)], dim=1)

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """``[B, T, D]``, positions as `mel_positions` says."""
        return self._embed_mel(columns[..., 0], FIRST_POSITION[self.mel_positions] + offset[:, None])

    def _embed_mel(self, ids: Tensor, first: Tensor | int) -> Tensor:
        """Rows of the vocabulary ``[B, T]``, the first at a position ``[B, 1]``."""
        positions = first + torch.arange(ids.shape[1], device=ids.device)
        embedded: Tensor = self.mel_embedding(ids) + self.mel_pos_embedding(positions)
        return embedded

    def project(self, hidden: Tensor) -> Tensor:
        """The second of two final norms."""
        projected: Tensor = self.final_norm(hidden)
        return projected

    def speech_head(self) -> LinearHead:
        """``[1, V, D]`` with bias."""
        return LinearHead(self.mel_head.weight[None], self.mel_head.bias[None])

    def forbidden_tokens(self) -> Tensor:
        """The start is never spoken."""
        return (torch.arange(self.speech_vocab_size) == self.shape.start_mel_token)[None]

    @torch.no_grad()
    def speech_latents(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """What upstream's vocoder takes: a second pass over all that was spoken, ``[B, T, D]``.

        Upstream runs it with the positions of training, whichever its inference had, and under full attention.

        Args:
            batch: Conditioning and spoken codes, as `make_batch` aligns them.
            window: What this pass sees; a student's own window is what it was adapted to.
        """
        embeds = torch.cat([self.embed_prefix(batch), self._embed_mel(batch.columns[..., 0], 1)], dim=1)
        context = AttentionContext(window, batch.prefix_length, batch.padded_starts)
        output = self.decoder(inputs_embeds=embeds, use_cache=False, attention_context=context)
        # A code's latent is the state that spoke it.
        return self.project(output.last_hidden_state[:, batch.prefix_length - 1 : -1])


def _own_name(name: str) -> str:
    return name.replace("gpt.", "decoder.", 1) if name.startswith("gpt.") else name


def _upstream_name(name: str) -> str:
    return name.replace("decoder.", "gpt.", 1) if name.startswith("decoder.") else name


def _read_architecture(folder: Path) -> IndexTTSArchitecture:
    # Here, so that a model with random weights needs torch and transformers alone.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if missing := [name for name in (WEIGHTS, CONFIG, PIECES) if not (folder / name).is_file()]:
        raise ValueError(
            f"no IndexTTS at {folder}: it should hold {WEIGHTS}, {CONFIG} and {PIECES} ({', '.join(missing)} missing)"
        )
    path = folder / CONFIG
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(path))
        version, gpt = float(config.get("version", 1)), config["gpt"]
        names = {f.name for f in fields(IndexTTSArchitecture)} - {*CONDITION_MODULE, "dtype"}
        found = {name: gpt[name] for name in names}
        found |= {name: gpt["condition_module"][name] for name in CONDITION_MODULE}
        values = {name: int(value) for name, value in found.items()}
    except (AttributeError, KeyError, TypeError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} does not describe an IndexTTS: {str(error).splitlines()[0]}") from error
    if version >= 2:
        raise ValueError(f"{path} describes IndexTTS {version:g}, which is another model: only 1.0 and 1.5 are known")
    for name, supported in SUPPORTED.items():
        given = OmegaConf.select(OmegaConf.create(gpt), name, default=supported)
        if given != supported:
            raise ValueError(f"{path} describes another model: gpt.{name} is {given!r}, IndexTTS 1.5 has {supported!r}")
    table = read_weights(folder / WEIGHTS, BELOW).get("mel_embedding.weight")
    if table is None:
        raise ValueError(f"{folder / WEIGHTS} holds another model: it has no tensor 'mel_embedding.weight'")
    return IndexTTSArchitecture(**values, dtype=str(table.dtype).removeprefix("torch."))
