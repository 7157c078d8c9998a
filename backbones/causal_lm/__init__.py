"""Any transformers causal language model with speech tokens in its vocabulary: Spark-TTS, Llasa, Orpheus, NeuTTS.

A `SpeechFormat` describes the prompts and the speech tokens of a model. A new model needs a new format but no code.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from wand.attention import AttentionContext, AttentionWindow
from wand.files.plain_values import read_json
from wand.files.weights import (
    check_fit,
    folder_digest,
    read_weight_folder,
    stored_dtype,
    write_weight_folder,
)
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.causal_lm import CausalLM, write_config
from wand.model.heads import LinearHead
from wand.model.prompts import PromptConditioner, SpeechFormat
from wand.model.tokenizers import Files, TextTokenizer, read_files, write_files

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


class CausalSpeechLM(Backbone):
    """A transformers causal language model. Its speech tokens are found by name in its tokenizer.

    The head computes logits only for the allowed rows: codes and stop tokens.

    Args:
        pretrained: Folder with ``config.json``, ``*.safetensors`` and the tokenizer's files.
        format: Prompts and speech tokens; required with `pretrained`.
        architecture: Plain values that describe a model without original weights.

    Raises:
        ValueError: If the folder does not hold such a model, its tokenizer lacks a token of the format, or the model
            needs custom code.

    Attributes:
        subfolder: Folder of the language model inside a release.
    """

    num_codebooks = 1
    subfolder = ""

    def __init__(
        self,
        pretrained: str | None = None,
        format: SpeechFormat | None = None,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(pretrained)
        self.pretrained = pretrained
        if (pretrained is None) == (architecture is None):
            raise ValueError(f"{type(self).__name__} takes exactly one of `pretrained` and `architecture`")
        files: Files = {}
        if architecture is not None:
            values = dict(architecture["config"])
            config = AutoConfig.for_model(values.pop("model_type"), **values)
            self.format = SpeechFormat.of(architecture["format"])
            self.stored_dtype = getattr(torch, architecture["dtype"])
        else:
            if format is None:
                raise ValueError(f"{type(self).__name__} needs a `format` for the model at {pretrained}")
            config = _read_config(self._folder)
            files = read_files(Path(str(pretrained)), [str(Path(self.subfolder) / name) for name in TOKENIZER_FILES])
            self.format = format.counted(self._tokenizer_of(files))
            self.stored_dtype = stored_dtype(self._folder)
        self.frame_rate, self.sample_rate = self.format.frame_rate, self.format.sample_rate
        self.language = self.format.language if self.format.front_end == "phones" else None
        self.layout, self.speech_vocab_size = self.format.layout(), self.format.rows
        self.stop_ids = tuple(range(self.layout.stop_id, self.speech_vocab_size))
        self.sampling = self.format.sampling
        self.decoder = AutoModel.from_config(config, dtype=torch.float32)
        self.body = self._causal_class().base_model_prefix
        self.tied = bool(getattr(config, "tie_word_embeddings", False))
        if not self.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Not stored with the weights: `use_files` looks the ids up in the tokenizer, whose files checkpoints contain.
        self.speech_ids: Tensor
        self.register_buffer("speech_ids", torch.arange(self.speech_vocab_size), persistent=False)
        self._allowed: tuple[object, Tensor] | None = None
        self.use_files(files)
        self.finish_init()
        self._check_head()

    @property
    def _folder(self) -> Path:
        assert self.pretrained is not None
        return Path(self.pretrained) / self.subfolder

    def architecture(self) -> dict[str, Any]:
        """The transformers configuration, the format and the stored dtype."""
        config = {**self.decoder.config.to_diff_dict(), "model_type": self.decoder.config.model_type}
        config.pop("transformers_version", None)
        dtype = str(self.stored_dtype).removeprefix("torch.")
        plain: dict[str, Any] = json.loads(
            json.dumps({"config": config, "format": asdict(self.format), "dtype": dtype})
        )
        return plain

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""
        return cls(architecture=architecture)

    def use_files(self, files: Files) -> None:
        """Build the tokenizer from its files, and look up the speech tokens in it."""
        self.files = files
        tokenizer = self._tokenizer_of(files) if files else None
        self.conditioner: PromptConditioner = PromptConditioner(self.format, tokenizer)
        if tokenizer is None:
            return
        self.format.check(tokenizer)
        ids = torch.tensor(self.format.row_ids(tokenizer), device="cpu")
        rows = self.decoder.config.vocab_size
        if int(ids.max()) >= rows:
            raise ValueError(
                f"the speech tokens of the tokenizer go up to id {int(ids.max())}, but the model has {rows} embeddings"
            )
        self.speech_ids = ids.to(self.speech_ids.device)

    @staticmethod
    def _tokenizer_of(files: Files) -> TextTokenizer:
        return TextTokenizer.from_files({Path(name).name: content for name, content in files.items()})

    def load_pretrained(self) -> None:
        """Read the weights. A tied head may be missing from the file."""
        state = read_weight_folder(self._folder)
        if self.tied:
            state.pop("lm_head.weight", None)
        state = {name: tensor for name, tensor in state.items() if not name.endswith("rotary_emb.inv_freq")}
        check_fit(self._upstream_state(), state, self._folder)
        prefix = self._body_prefix()
        self.load_state_dict(
            {
                name.replace(prefix, "decoder.", 1) if name.startswith(prefix) else name: tensor
                for name, tensor in state.items()
            }
        )

    def pretrained_digest(self) -> str:
        """SHA-256 of the weight files."""
        return folder_digest(self._folder)

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder, including the tokenizer files, that ``from_pretrained`` of transformers opens."""
        write_files(self.files, folder)
        folder = folder / self.subfolder
        folder.mkdir(parents=True, exist_ok=True)
        dtype = dtype or self.stored_dtype
        write_weight_folder(self._upstream_state(), folder, dtype)
        write_config(folder, self.decoder.config, dtype, architectures=[self._causal_class().__name__])

    def causal_lm(self) -> CausalLM:
        """The original itself, which `save_pretrained` writes."""
        return CausalLM(self.speech_ids, self.subfolder or ".")

    def _upstream_state(self) -> dict[str, Tensor]:
        prefix = self._body_prefix()
        return {
            name.replace("decoder.", prefix, 1) if name.startswith("decoder.") else name: tensor
            for name, tensor in self.state_dict().items()
        }

    def _causal_class(self) -> Any:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(self.decoder.config)]

    def _body_prefix(self) -> str:
        return f"{self.body}."

    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """``[B, P, D]``."""
        return self._embed(batch.conditioning["ids"])

    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """``[B, T, D]``. `offset` is not used: the body adds the positions."""
        return self._embed(self.speech_ids[columns[..., 0]])

    def _embed(self, ids: Tensor) -> Tensor:
        embeds: Tensor = self.decoder.get_input_embeddings()(ids)
        return embeds

    def _head_weight(self) -> Tensor:
        weight = self.decoder.get_input_embeddings().weight if self.tied else self.lm_head.weight
        assert isinstance(weight, Tensor)
        return weight

    def speech_head(self) -> LinearHead:
        """A head of ``[1, V, D]`` without bias. The rows are gathered once for as long as the weights do not change."""
        weight = self._head_weight()
        # FSDP2 writes the gathered weights of every step to the same address and counts no version.
        if self.is_sharded or (weight.requires_grad and torch.is_grad_enabled()):
            return LinearHead(weight[self.speech_ids][None])
        version = -1 if weight.is_inference() else weight._version
        state = (weight.data_ptr(), version, weight.dtype)
        gathered = self._allowed  # another thread may replace it
        if gathered is None or gathered[0] != state:
            with torch.inference_mode(False):  # the model may be trained later
                gathered = self._allowed = state, weight.detach()[self.speech_ids][None]
        return LinearHead(gathered[1])

    def __getstate__(self) -> dict[str, Any]:
        """A copy gathers the rows of its own weights."""
        return {**self.__dict__, "_allowed": None}

    @torch.no_grad()
    def _check_head(self) -> None:
        """Check that the causal language model of this config has this head: without bias, scale or soft cap."""
        with torch.device("meta"):
            original: Any = self._causal_class()(self.decoder.config).eval()
        setattr(original, original.base_model_prefix, self.decoder)
        training, weight = self.decoder.training, self._head_weight()
        kind = self.decoder.config.model_type
        head = original.get_output_embeddings()
        if not isinstance(head, nn.Linear) or head.bias is not None:
            raise ValueError(f"the head of this {kind} model is not one matrix without bias: it needs its own adapter")
        if weight.is_meta:
            return
        head.weight = nn.Parameter(weight, requires_grad=False)
        embeds = torch.linspace(-1, 1, self.decoder.config.hidden_size, device=weight.device, dtype=weight.dtype)
        context = AttentionContext(AttentionWindow(), 1)
        self.decoder.eval()
        inputs = {"inputs_embeds": embeds[None, None], "use_cache": False, "attention_context": context}
        own, expected = self.full_logits(self.decoder(**inputs).last_hidden_state), original(**inputs).logits
        self.decoder.train(training)
        if not torch.allclose(own, expected, rtol=1e-3, atol=1e-6):
            raise ValueError(
                f"the head of this {kind} model changes its logits (scale or soft cap): it needs an adapter"
            )

    def full_logits(self, hidden: Tensor) -> Tensor:
        """Logits over the whole vocabulary ``[B, S, vocabulary]``, to compare with the original model."""
        return nn.functional.linear(self.project(hidden), self._head_weight())


def _read_config(folder: Path) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no transformers model at {folder}: it should hold config.json, *.safetensors and the tokenizer "
            f"(hf download NAME --local-dir FOLDER)"
        )
    values = read_json(folder / "config.json")
    try:
        if "auto_map" in values:
            raise ValueError("it needs custom code, which wand does not run")
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(f"{type(config).__name__} has no causal language model")
    except Exception as error:  # transformers raises many kinds of errors for a bad config
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / 'config.json'} is not a transformers causal language model: {reason}") from error
    return config
