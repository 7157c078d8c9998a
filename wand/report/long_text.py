"""One long text, spoken by the student of a run in one continuous decode and sentence by sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from wand.files.audio import write_audio
from wand.files.plain_values import read_json
from wand.files.text import read_text
from wand.files.typed import build, reading
from wand.files.writing import write_text
from wand.metrics.words import errors
from wand.passages.rules import reason_against_passages
from wand.recognition import Piecewise, Recogniser, open_recogniser
from wand.report.listening import Sentence, Sound, check_inside, find_sentences
from wand.report.source import Source
from wand.runs.checkpoints import setting_of_run
from wand.speech.long_text import LongText
from wand.speech.speaking import SpeakOptions, check_text
from wand.speech.synthesizer import Synthesizer, load

NAME = "long.json"
# How the text is spoken, in the words of the page.
WAYS: dict[LongText, str] = {"passage": "in one continuous decode", "split": "sentence by sentence"}
VOICES = ("recorded", "reference")


@dataclass(frozen=True)
class Transcript:
    """What a recogniser has heard of the text.

    Args:
        heard: The transcript.
        wrong_letters: Edit distance from the text in letters.
        letters: Number of letters in the text.
    """

    heard: str
    wrong_letters: int
    letters: int

    @property
    def wrong(self) -> str:
        """The errors in words."""
        return (
            f"{self.wrong_letters} of {self.letters} letters wrong, CER {100 * self.wrong_letters / self.letters:.1f} %"
        )


@dataclass(frozen=True)
class SpokenLongText:
    """What ``long.json`` holds.

    Args:
        text: The text.
        voice: The sound file whose voice speaks.
        sounds: The sound files in the same folder, by the way in which the text is spoken: ``passage`` or ``split``.
        ended: Why each speech ended.
        missing: Why there is no passage; None if there is one.
        recogniser: What has heard the sounds; None if the run has no recogniser.
        transcripts: What it has heard, by the way in which the text is spoken.
    """

    text: str
    voice: str
    sounds: dict[str, str]
    ended: dict[str, str]
    missing: str | None = None
    recogniser: str | None = None
    transcripts: dict[str, Transcript] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """How the text was spoken, in sentences."""
        lines = [f"{WAYS[way]}: ended by {ended}" for way, ended in self.ended.items() if way in WAYS]
        said = f"The student speaks in the voice of {self.voice}; {'; '.join(lines)}."
        said += f" Heard by {self.recogniser}." if self.recogniser else ""
        return [said, *([f"There is no continuous decode: {self.missing}."] if self.missing else [])]


def folder_of(run: Path) -> Path:
    """The folder of a run's long text."""
    return run / "evaluation" / "long"


def speak_long_text(source: Source, file: Path) -> None:
    """Speak a long text with the student of a run, both ways, and write it into the folder of the run.

    Args:
        source: The run. The voice is that of its first recorded test sentence, or else validation sentence.
        file: The text.

    Raises:
        ValueError: If there is no such text, run or voice, or the run names code that it may not start.
    """
    text = read_text(file).strip()
    check_text(text)
    if source.run is None:
        raise ValueError(f"{source.folder} is no run, whose student could speak the long text: leave out --long_text")
    voice, words = _voice(replace(source, study=None))
    model = load(source.run)
    missing = reason_against_passages(model.backbone, model.window, model.codec)
    ear = _ear(source.run, model)
    reference = model.read_voice(voice, words)
    folder = folder_of(source.run)
    sounds, ended, transcripts = dict[str, str](), dict[str, str](), dict[str, Transcript]()
    for way in WAYS:
        if way == "passage" and missing is not None:
            continue
        (speech,) = model.generate([text], reference, SpeakOptions(long_text=way))
        if speech.audio is None:
            raise ValueError(f"the run {source.run} has no codec, so its student makes no sound: leave out --long_text")
        write_audio(folder / f"{way}.flac", speech.audio, speech.sample_rate)
        sounds[way], ended[way] = f"{way}.flac", str(speech.reason)
        if ear is not None:
            (heard,) = ear.transcribe([speech.audio], speech.sample_rate)
            transcripts[way] = Transcript(heard, *errors(heard, text, ear.language)[:2])
    name = None if ear is None else ear.name
    spoken = SpokenLongText(text, source.named(voice), sounds, ended, missing, name, transcripts)
    write_text(folder / NAME, json.dumps(asdict(spoken), indent=2, ensure_ascii=False) + "\n")


def find_long_text(source: Source) -> tuple[SpokenLongText, Sentence] | None:
    """The long text of a run and its sounds; None if the run has none."""
    if source.run is None or not (folder_of(source.run) / NAME).is_file():
        return None
    folder = folder_of(source.run)
    with reading(folder / NAME):
        spoken = build(SpokenLongText, read_json(folder / NAME), str(folder / NAME))
        sounds = []
        for way, said in WAYS.items():
            if way in spoken.sounds:
                found = spoken.transcripts.get(way)
                heard = (None, None) if found is None else (found.heard, found.wrong)
                sounds.append(Sound(said, "student", folder / spoken.sounds[way], *heard))
    for sound in sounds:
        check_inside(sound.file, folder)
    return spoken, Sentence(source.named(folder), spoken.text, "", sounds)


def _ear(run: Path, model: Synthesizer) -> Recogniser | None:
    """The recogniser of a run, for long sounds."""
    name = setting_of_run(run, "recogniser", str)
    return None if name is None else Piecewise(open_recogniser(name, language=model.backbone.language or "en"))


def _voice(source: Source) -> tuple[Path, str]:
    """A recorded sentence of a run: its sound file and its text."""
    for sentence in find_sentences(source)[0]:
        for sound in sentence.sounds:
            if sound.kind in VOICES:
                return sound.file, sentence.text
    raise ValueError(f"{source.folder} has no recorded sentence, in whose voice the long text could be spoken")
