"""Test whether the reference determines the voice: ``python -m recipes.teacher.voices wand/assets/encodec_lm``.

The model speaks the same sentences with a reference of every seen voice. A voice print (mean and spread of log mel
energies, median pitch) of each sound is compared with those of the real voices. The nearest one should be the voice of
the reference.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.console.tables import markdown
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.demo.coded import CodedCorpus
from wand.evaluation.takes import speak_examples
from wand.metrics.pitch import median_pitch, pitch_track
from wand.recognition.network import LogMel
from wand.speech.speaking import decode

RATE = 16_000
MELS = 40


def voice_print(audio: Tensor) -> Tensor:
    """Features of a voice that depend little on the text: ``[2 * MELS + 1]``."""
    mel = LogMel(MELS)(audio[None] / audio.std().clamp(min=1e-5) * 0.05)[0]
    loud = mel[mel.mean(1) > mel.mean()]
    return torch.cat([loud.mean(0), loud.std(0), 4 * torch.tensor([median_pitch(pitch_track(audio, RATE))]).log()])


def table(lm: EncodecLM, sentences: int) -> str:
    """Markdown table of every voice: pitch of the recordings and of the speech, and how often it is recognised."""
    codec = lm.load_codec()
    corpus = CodedCorpus()
    own: dict[str, list[Tensor]] = {}
    for utterance in corpus.utterances("test"):
        own.setdefault(utterance.speaker, []).append(corpus.codes(utterance).codes)
    own = {name: own[name][:sentences] for name in sorted(own) if len(own[name]) >= sentences}
    texts = [utterance.text for utterance in corpus.utterances("validation")[:sentences]]
    prints = {name: torch.stack([voice_print(decode(codec, c)) for c in codes]) for name, codes in own.items()}
    centres = torch.stack([p.mean(0) for p in prints.values()])
    scale = torch.cat(list(prints.values())).std(0)
    examples = [
        Example(f"{name}-{i}", text, name, lm.conditioner(text, Reference(codes[i])), codes[i])
        for name, codes in own.items()
        for i, text in enumerate(texts)
    ]
    spoken = speak_examples(Decoder(lm, AttentionWindow()), codec, examples)
    lines = []
    right_in_all = 0
    for name, codes in own.items():
        sounds = [decode(codec, s.codes) for s, e in zip(spoken, examples, strict=True) if e.speaker == name]
        sounds = [sound for sound in sounds if len(sound) > RATE // 2]
        nearest = [int(((centres - voice_print(s)) / scale).square().nansum(1).argmin()) for s in sounds]
        right = nearest.count(list(own).index(name))
        right_in_all += right
        f0 = [
            torch.tensor([median_pitch(pitch_track(x, RATE)) for x in part]).nanmedian()
            for part in ([decode(codec, c) for c in codes], sounds)
        ]
        lines.append([name, f"{f0[0]:.0f}", f"{f0[1]:.0f}", f"{right} of {len(texts)}"])
    lines.append(["all", "", "", f"{right_in_all} of {len(examples)}"])
    return markdown(["voice", "F0 recorded, Hz", "F0 spoken, Hz", "recognised"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of an exported voice")
    parser.add_argument("--sentences", type=int, default=8, help="number of sentences per voice (default: 8)")
    arguments = parser.parse_args()
    lm = EncodecLM(pretrained=arguments.folder)
    lm.load_pretrained()
    print(table(lm.eval(), arguments.sentences))


if __name__ == "__main__":
    main()
