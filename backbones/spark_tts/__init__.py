"""Spark-TTS 0.5B: a Qwen2.5 model over the tokens of BiCodec, at 50 Hz (facts read at SparkAudio/Spark-TTS 2f1ea90).

Cloning needs the 32 global tokens of the voice. If the reference has a transcript, the model continues its speech. The
codec is not part of this module; upstream's is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wand.attention import AttentionContext, AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.decoding.sampler import Sampler
from wand.model.batch import Conditioning
from wand.model.prompts import SpeechFormat, SpeechTokens
from wand.model.sampling import Sampling

SPEECH_BEGINS = "<|start_semantic_token|>"
_VOICE = "<|end_content|><|start_global_token|>{global_codes}<|end_global_token|>"
FORMAT = SpeechFormat(
    speech_tokens=[SpeechTokens("<|bicodec_semantic_{}|>")],
    stop_tokens=["<|end_semantic_token|>", "<|im_end|>"],
    # If the reference has no transcript, upstream lets the model generate the last token of the prompt. This token
    # starts the speech, so here it is part of the prefix.
    prompt=f"<|task_tts|><|start_content|>{{text}}{_VOICE}{SPEECH_BEGINS}",
    prompt_with_reference=f"<|task_tts|><|start_content|>{{reference_text}}{{text}}{_VOICE}{SPEECH_BEGINS}{{reference}}",
    frame_rate=50.0,
    sample_rate=16_000,
    global_tokens=SpeechTokens("<|bicodec_global_{}|>"),
    sampling=Sampling(temperature=0.8, top_k=50, top_p=0.95),
)
GENDERS = ("female", "male")
LEVELS = ("very_low", "low", "moderate", "high", "very_high")
# Maximum number of tokens that describe a voice. The attributes, 32 global tokens and their marks take about 50.
MOST_ATTRIBUTES = 128


class SparkTTS(CausalSpeechLM):
    """Reads and writes the folder ``LLM`` of a released Spark-TTS.

    Args:
        pretrained: Folder of the release, which holds ``LLM``; None starts from random weights.
        architecture: Plain values that describe a model without original weights.
        allow_special_tokens: Let all tokens of the tokenizer act in a text; needs `pretrained`.

    Raises:
        ValueError: If not exactly one of the two is given, or the folder does not hold the model.
    """

    subfolder = "LLM"
    licence = (
        "Spark-TTS's weights are under CC BY-NC-SA 4.0: name the original, and do not use them commercially. These "
        "weights are derived from them and are under the same licence."
    )

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: dict[str, Any] | None = None,
        allow_special_tokens: bool = False,
    ) -> None:
        format = replace(FORMAT, allow_special_tokens=allow_special_tokens)
        super().__init__(pretrained, None if pretrained is None else format, architecture)

    def describe_voice(self, text: str, gender: str, pitch: str = "moderate", speed: str = "moderate") -> Conditioning:
        """The prompt of the controllable mode, which needs no reference: ``ids [L]`` and ``text [2]``.

        Args:
            text: The text to speak.
            gender: ``female`` or ``male``.
            pitch: ``very_low``, ``low``, ``moderate``, ``high`` or ``very_high``.
            speed: ``very_low``, ``low``, ``moderate``, ``high`` or ``very_high``.

        Raises:
            ValueError: If a value is not one of these.
        """
        chosen = {"gender": (gender, GENDERS), "pitch": (pitch, LEVELS), "speed": (speed, LEVELS)}
        for name, (value, known) in chosen.items():
            if value not in known:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        style = (
            f"<|gender_{GENDERS.index(gender)}|><|pitch_label_{LEVELS.index(pitch)}|>"
            f"<|speed_label_{LEVELS.index(speed)}|>"
        )
        template = "<|task_controllable_tts|><|start_content|>{text}<|end_content|><|start_style_label|>"
        return self.conditioner.fill(f"{template}{style}<|end_style_label|>", text)

    @torch.inference_mode()
    def invent_voice(self, described: Conditioning, seed: int = 0) -> tuple[Conditioning, Tensor]:
        """Let the model choose the attributes and the global tokens of a described voice.

        They are part of the prefix, so every later step sees them under any window.

        Args:
            described: The prompt, from `describe_voice`.
            seed: Random seed.

        Returns:
            The whole prefix, up to the token that starts the speech, and the global codes ``[G]`` of the voice.

        Raises:
            ValueError: If the model does not start the speech.
        """
        tokenizer = self.conditioner.known_tokenizer
        begins = tokenizer.token_id(SPEECH_BEGINS)
        stops = {tokenizer.token_id(token) for token in self.format.stop_tokens}
        ids = described["ids"].to(self.speech_ids.device)
        sampler = Sampler(self.sampling, [seed], device=ids.device)
        for _ in range(MOST_ATTRIBUTES):
            token = sampler(self.next_logits(ids)[None, None])[0]
            ids = torch.cat([ids, token])
            if int(token) == begins:
                return {**described, "ids": ids.cpu()}, self.conditioner.global_codes(ids.cpu())
            if int(token) in stops:
                break
        raise ValueError(
            f"the model did not finish a voice within {MOST_ATTRIBUTES} tokens (seed {seed}): try another seed"
        )

    def next_logits(self, ids: Tensor) -> Tensor:
        """Logits ``[vocabulary]`` of the token after ids ``[L]``, under full attention."""
        output = self.decoder(
            inputs_embeds=self.decoder.get_input_embeddings()(ids[None]),
            use_cache=False,
            attention_context=AttentionContext(AttentionWindow(), len(ids), None),
        )
        return self.full_logits(output.last_hidden_state[:, -1])[0]
