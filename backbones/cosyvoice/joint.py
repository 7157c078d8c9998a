"""CosyVoice as a plain Qwen2 model over one table of embeddings, ``text | controls | speech``, for serving engines."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2ForCausalLM

from wand.backbones.cosyvoice.conditioner import CONTROL, SPEECH, TEXT, CosyVoiceArchitecture, control_rows
from wand.files.weights import write_weight_folder
from wand.files.writing import write_text
from wand.model.batch import Conditioning
from wand.model.causal_lm import CausalLM, PromptIds, write_config
from wand.model.tokenizers import TextTokenizer

FOLDER = "causal_lm"
# Bounds of the length of a speech, in columns for each token of the text (the ratios of upstream).
COLUMNS_PER_TOKEN = (2, 20)


def joint_model(
    shape: CosyVoiceArchitecture,
    decoder: PreTrainedModel,
    controls: Tensor | None,
    speech: Tensor,
    head: nn.Linear,
    tokenizer: TextTokenizer | None,
) -> CausalLM:
    """The model over one vocabulary. Text keeps its ids.

    The head of version 2 has a bias, the class of transformers has none. Its input comes out of an RMSNorm, which has
    no constant channel, so weights cannot replace the bias; it is in `CausalLM.bias`.

    Args:
        shape: Shape of the model.
        decoder: The body, with the table of the text.
        controls: ``[2, D]``, the table of start and task; None if they are rows of the speech (version 3).
        speech: ``[V, D]``, the table of the speech.
        head: The head over the rows of the speech.
        tokenizer: Tokenizer of the text; None if its files are missing.
    """
    text = decoder.get_input_embeddings().weight
    assert isinstance(text, Tensor)
    tables = [text, speech] if controls is None else [text, controls, speech]
    first = sum(len(table) for table in tables[:-1])
    before_controls = first if controls is None else len(text)
    start, task = (before_controls + row for row in control_rows(shape))

    def write(folder: Path, dtype: torch.dtype) -> None:
        state = {f"model.{name}": tensor for name, tensor in decoder.state_dict().items()}
        state["model.embed_tokens.weight"] = torch.cat(tables)
        # No slot of the speech has the ids of text and controls, so nothing reads their logits.
        state["lm_head.weight"] = torch.cat([head.weight.new_zeros(first, head.in_features), head.weight])
        folder.mkdir(parents=True, exist_ok=True)
        write_weight_folder(state, folder, dtype)
        write_config(
            folder,
            decoder.config,
            dtype,
            architectures=[Qwen2ForCausalLM.__name__],
            vocab_size=first + len(speech),
            tie_word_embeddings=False,
        )
        if tokenizer is not None:
            write_text(folder / "tokenizer.json", tokenizer.definition)
            kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
            write_text(folder / "tokenizer_config.json", json.dumps(kind, indent=2) + "\n")

    def prompt_ids(conditioning: Conditioning) -> Tensor:
        offsets = {TEXT: 0, CONTROL: shape.text_vocab_size, SPEECH: first}
        return conditioning["ids"] + torch.tensor([offsets[table] for table in conditioning["table"].tolist()])

    return CausalLM(
        row_ids=first + torch.arange(len(speech)),
        folder=FOLDER,
        write=write,
        bias=None if head.bias is None else head.bias.detach(),
        prompt=PromptIds(
            order=["start", "text", "task", "speech"],
            controls={"start": start, "task": task},
            offsets={"text": 0, "speech": first},
        ),
        prompt_ids=prompt_ids,
        columns_per_text_id=COLUMNS_PER_TOKEN,
    )
