"""CosyVoice 2 and 3: the text-to-token model of FunAudioLLM/CosyVoice (facts read at commit ace7c47).

A Qwen2 body with its own speech embedding and head. The prefix is ``sos | text | task | prompt speech``; the frame
rate is 25 Hz.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from wand.backbones.cosyvoice.conditioner import (
    ADDED_TOKENS,
    CONTROL,
    CONTROL_ROWS,
    QWEN,
    SPEECH,
    TEXT,
    CosyVoiceArchitecture,
    CosyVoiceConditioner,
)
from wand.backbones.cosyvoice.joint import COLUMNS_PER_TOKEN, joint_model
from wand.files.plain_values import read_json
from wand.files.typed import build
from wand.files.weights import check_fit, file_digest, read_weights, write_torch
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.causal_lm import CausalLM, write_config
from wand.model.columns import ColumnLayout
from wand.model.heads import LinearHead
from wand.model.sampling import RepetitionAware, Sampling
from wand.model.tokenizers import Files, TextTokenizer, read_files, write_files

WEIGHTS, WEIGHTS_SUFFIX = "llm.pt", ".pt"
# Codes of silence and breath, by version (cosyvoice/cli/model.py). Upstream drops what exceeds five of them in a row.
SILENT_CODES: dict[int, tuple[int, ...]] = {2: (), 3: (1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323)}
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.json")
CONFIG_KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "text_vocab_size": "vocab_size",
}


class CosyVoice2(Backbone):
    """Reads the weights and ``CosyVoice-BlankEN/`` of a released CosyVoice 2 or 3, and writes them as ``llm.pt``.

    Flow, vocoder and speech tokenizer are not part of this class; upstream's are used. Bi-streaming (text and speech in
    turns) is not supported, because its conditioning is not a prefix.

    Args:
        pretrained: Folder of the release, or a file of weights in it; None starts from random weights.
        architecture: Shape of a model without original weights.
        instruction: An instruction in words for how to speak (upstream's instruct2); needs `pretrained`. For version 3,
            upstream's system sentence is put before it.
        bistream: Must be False.
        weights: File of the weights in the folder. CosyVoice 3 also has ``llm.rl.pt``.
        allow_special_tokens: Let all tokens of the tokenizer act in a text, not only upstream's tags; needs
            `pretrained`.

    Raises:
        ValueError: If not exactly one of `pretrained` and `architecture` is given, or the folder does not hold a model.
    """

    licence = (
        "CosyVoice 2's code and weights are under Apache-2.0. These weights are derived from them and stay under it."
    )
    frame_rate = 25.0
    sample_rate = 24_000
    num_codebooks = 1
    body = "model"  # in upstream's `llm.model`, a Qwen2ForCausalLM

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: CosyVoiceArchitecture | None = None,
        instruction: str | None = None,
        bistream: bool = False,
        weights: str = WEIGHTS,
        allow_special_tokens: bool = False,
    ) -> None:
        super().__init__(pretrained)
        if bistream:
            raise ValueError(
                "bistream true is not supported: text that arrives between speech is not in the prefix, so the window "
                "would drop it; speak whole texts (bistream false)"
            )
        if (pretrained is None) == (architecture is None):
            raise ValueError("CosyVoice2 takes exactly one of `pretrained` and `architecture`")
        if weights != WEIGHTS:
            if pretrained is None or Path(weights).name != weights or Path(weights).suffix != WEIGHTS_SUFFIX:
                raise ValueError(f"weights {weights!r} is not the name of a {WEIGHTS_SUFFIX} file in pretrained")
            pretrained = str(Path(pretrained) / weights)
        self.pretrained = pretrained
        if architecture is None:
            architecture = _read_architecture(self._weights)
        self.stored_dtype = getattr(torch, architecture.dtype)
        self.shape = shape = replace(
            architecture,
            instruction=instruction or architecture.instruction,
            allow_special_tokens=allow_special_tokens or architecture.allow_special_tokens,
        )
        self.speech_tokenizer = f"speech_tokenizer_v{shape.version}"
        rows = self.speech_vocab_size = shape.speech_rows
        # In version 3 the first control row is the start.
        end = shape.speech_tokens if shape.version == 2 else shape.speech_tokens + 1
        self.stop_ids = tuple(range(shape.speech_tokens, rows))
        self.layout = ColumnLayout(1, stop_id=end, filler_id=end + 2)
        self.silent_codes = SILENT_CODES[shape.version]
        self.sampling = Sampling(top_k=25, top_p=0.8, repetition=RepetitionAware())
        config = Qwen2Config(
            vocab_size=shape.text_vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_key_value_heads,
            max_position_embeddings=32_768,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        )
        self.decoder = Qwen2Model(config)
        if shape.version == 2:
            self.llm_embedding = nn.Embedding(2, shape.hidden_size)
        self.speech_embedding = nn.Embedding(rows, shape.hidden_size)
        self.llm_decoder = nn.Linear(shape.hidden_size, rows, bias=shape.version == 2)
        self.use_files({} if pretrained is None else _read_tokenizer_files(self._weights.parent))
        self.finish_init()

    @property
    def _weights(self) -> Path:
        assert self.pretrained is not None
        path = Path(self.pretrained)
        return path if path.suffix == WEIGHTS_SUFFIX and not path.is_dir() else path / WEIGHTS

    def architecture(self) -> dict[str, Any]:
        """The shape as plain values."""
        return asdict(self.shape)

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        return cls(architecture=build(CosyVoiceArchitecture, architecture, "architecture"))

    def use_files(self, files: Files) -> None:
        """Build the tokenizer from its files."""
        self.files = files
        plain = {name.removeprefix(f"{QWEN}/"): content for name, content in files.items()}
        tokenizer = TextTokenizer.from_files(plain, ADDED_TOKENS[self.shape.version]) if files else None
        if tokenizer is not None and len(tokenizer) > self.shape.text_vocab_size:
            rows = self.shape.text_vocab_size
            raise ValueError(f"the tokenizer of {QWEN} has {len(tokenizer)} tokens, the model has {rows} embeddings")
        self.conditioner: CosyVoiceConditioner = CosyVoiceConditioner(self.shape, tokenizer)

    def load_pretrained(self) -> None:
        """Read the weights."""
        path = self._weights
        state = read_weights(path)
        tied = state.pop("llm.model.lm_head.weight", None)
        if tied is None or not torch.equal(tied, state.get("llm.model.model.embed_tokens.weight", tied.new_empty(0))):
            raise ValueError(f"{path} is not CosyVoice's llm.pt: its text head is missing or not tied to the embedding")
        check_fit({_upstream_name(name): tensor for name, tensor in self.state_dict().items()}, state, path)
        self.load_state_dict({_own_name(name): tensor for name, tensor in state.items()})

    def pretrained_digest(self) -> str:
        """SHA-256 of the file of the weights."""
        return file_digest(self._weights)

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write ``llm.pt``, which upstream loads in strict mode, and ``CosyVoice-BlankEN/`` without its weights."""
        dtype = dtype or self.stored_dtype
        state = {
            _upstream_name(name): tensor.detach().to("cpu", dtype).contiguous()
            for name, tensor in self.state_dict().items()
        }
        state["llm.model.lm_head.weight"] = state["llm.model.model.embed_tokens.weight"]
        write_torch(state, folder / WEIGHTS)
        write_config(folder / QWEN, self.decoder.config, dtype, tie_word_embeddings=True)
        write_files(self.files, folder)

    def causal_lm(self) -> CausalLM:
        """The model over one table of embeddings."""
        controls = self.llm_embedding.weight if self.shape.version == 2 else None
        speech, tokenizer = self.speech_embedding.weight, self.conditioner.tokenizer
        return joint_model(self.shape, self.decoder, controls, speech, self.llm_decoder, tokenizer)

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """``[B, P, D]``."""
        ids, table = batch.conditioning["ids"], batch.conditioning["table"]
        text = self.decoder.get_input_embeddings()(torch.where(table == TEXT, ids, 0))
        speech = self.speech_embedding(torch.where(table == SPEECH, ids, 0))
        embeds = torch.where((table == SPEECH)[..., None], speech, text)
        if self.shape.version == 2:
            controls = self.llm_embedding(torch.where(table == CONTROL, ids, 0))
            embeds = torch.where((table == CONTROL)[..., None], controls, embeds)
        return embeds

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """``[B, T, D]``. `offset` is not used: positions are rotary."""
        embeds: Tensor = self.speech_embedding(columns[..., 0])
        return embeds

    def speech_bounds(self, batch: ConditionedBatch) -> tuple[Tensor, Tensor]:
        """From 2 to 20 columns per token of the text, without the prompt."""
        least, most = COLUMNS_PER_TOKEN
        spoken = batch.conditioning["spoken"]
        return least * spoken, most * spoken

    def speech_head(self) -> LinearHead:
        """A head of ``[1, V, D]``, with bias in version 2."""
        bias = self.llm_decoder.bias
        return LinearHead(self.llm_decoder.weight[None], None if bias is None else bias[None])


def _own_name(name: str) -> str:
    return name.replace("llm.model.model.", "decoder.", 1) if name.startswith("llm.model.model.") else name


def _upstream_name(name: str) -> str:
    return name.replace("decoder.", "llm.model.model.", 1) if name.startswith("decoder.") else name


def _read_architecture(weights: Path) -> CosyVoiceArchitecture:
    folder = weights.parent
    config_file = folder / QWEN / "config.json"
    if not (config_file.is_file() and weights.is_file()):
        raise ValueError(f"no CosyVoice at {folder}: it should hold {weights.name} and {QWEN}/config.json")
    config = read_json(config_file)
    sizes: dict[str, Any] = {name: config.get(key) for name, key in CONFIG_KEYS.items()}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"{config_file} does not describe a Qwen2 decoder: {CONFIG_KEYS[name]} is {size!r}")
    state = read_weights(weights)
    rows = state.get("speech_embedding.weight")
    if rows is None:
        raise ValueError(f"{weights} holds another model: it has no tensor 'speech_embedding.weight'")
    version = 2 if "llm_embedding.weight" in state else 3
    codes = len(rows) - CONTROL_ROWS[version]
    dtype = str(rows.dtype).removeprefix("torch.")
    return CosyVoiceArchitecture(**sizes, speech_tokens=codes, version=version, dtype=dtype)


def _read_tokenizer_files(folder: Path) -> Files:
    return read_files(folder, [f"{QWEN}/{name}" for name in TOKENIZER_FILES])
