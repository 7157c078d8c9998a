"""A codec that runs elsewhere: in the environment of the released model, as a process that speaks JSON lines."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from wand.codecs.base import Codec, CodecUnavailable
from wand.codecs.reference import Reference
from wand.codecs.workers.serve import ANSWER, pack, unpack
from wand.files.weights import file_digest
from wand.registry import CODECS

WORKERS = Path(__file__).parent / "workers"


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """What is known of a codec before it runs.

    Args:
        sample_rate: Of the sound, in Hz.
        frame_rate: Frames of codes a second.
        num_codebooks: K.
        codebook_size: Codes of a codebook.
        needs_reference: Whether decoding needs the voice.
        weights: File of the release that determines the codes; empty for a script of one's own.
        needs_latents: Whether the vocoder takes the model's latents, not codes.
        has_global_codes: Whether decoding takes global codes of the voice instead of a reference's sound.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    needs_reference: bool
    weights: str = ""
    needs_latents: bool = False
    has_global_codes: bool = False


def find_codec(model: str) -> tuple[CodecFacts, Path] | None:
    """Facts and script of the codec of a released model that comes with wand; None for any other name."""
    if model not in CODECS:
        return None
    module = importlib.import_module(CODECS[model])
    facts: CodecFacts = module.CODEC
    return facts, Path(str(module.__file__)).with_name("codec_worker.py")


class WorkerCodec(Codec):
    """A released model's own codec, in a process of its own environment; started when it is first needed.

    Args:
        model: ``cosyvoice2``, ``index_tts``, ``spark_tts``, or the path of a script of one's own that calls
            ``serve`` (``wand/codecs/workers/serve.py``) and also answers ``describe``.
        python: Interpreter of the environment in which the released model runs.
        release: Folder of the released weights.
        repository: The released model's code, where it is not installed in that environment.
        device: Where the codec runs there.
        timeout: Seconds to wait for an answer.

    Raises:
        ValueError: If there is no such model or script.
    """

    def __init__(
        self,
        model: str,
        python: str,
        release: str,
        repository: str | None = None,
        device: str = "cpu",
        timeout: float = 600.0,
    ) -> None:
        self.model = model
        self.settings = {"release": release, "repository": repository, "device": device}
        self.python = python
        self.timeout = timeout
        self._process: WorkerProcess | None = None
        self._lock = threading.RLock()  # threads share the worker: one request at a time
        self._heard: tuple[tuple[int, bytes], dict[str, Any]] | None = None
        known = find_codec(model)
        self.script = Path(model) if known is None else known[1]
        if not self.script.is_file():
            raise ValueError(f"codec worker {model!r} is neither one of {', '.join(CODECS)} nor a script")
        facts = CodecFacts(**self.ask("describe")) if known is None else known[0]
        self.sample_rate, self.frame_rate = facts.sample_rate, facts.frame_rate
        self.num_codebooks, self.codebook_size = facts.num_codebooks, facts.codebook_size
        self.needs_reference, self.needs_latents = facts.needs_reference, facts.needs_latents
        self._weights, self._has_global_codes = facts.weights, facts.has_global_codes

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, also in other processes, start a process of their own."""
        settings = self.settings
        arguments = (settings["release"], settings["repository"], settings["device"], self.timeout)
        return type(self), (self.model, self.python, *arguments)

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that determine the codes, or of one's own script."""
        file = Path(str(self.settings["release"])) / self._weights if self._weights else self.script
        if not file.is_file():
            raise ValueError(f"no {file.name} in {file.parent}: is data.codec's release the folder of the weights?")
        name = self.model if self._weights else self.script.stem
        return f"{name}-{file_digest(file)[:12]}"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio ``[B, 1, N]`` to codes ``[B, K, F]``, row by row; rows of one length."""
        return torch.stack([torch.from_numpy(self._hear(row[0], sample_rate)["codes"]) for row in audio])

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Codes ``[B, G]`` of the voice as a whole, where the codec has them."""
        found = [self._hear(row[0], sample_rate).get("global_codes") for row in audio]
        return None if found[0] is None else torch.stack([torch.from_numpy(voice) for voice in found])

    def _hear(self, audio: Tensor, sample_rate: int) -> dict[str, Any]:
        """Codes and, where there are any, global codes of a sound; the last sound is remembered."""
        samples = audio.detach().float().cpu().numpy()
        key = sample_rate, samples.tobytes()
        with self._lock:
            if self._heard is None or self._heard[0] != key:
                self._heard = key, self.ask("encode", audio=samples, sample_rate=sample_rate)
            return self._heard[1]

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Codes ``[B, K, F]`` to audio ``[B, 1, N]``, row by row.

        Raises:
            ValueError: If the codec needs what the reference lacks.
        """
        voice = self._voice(reference)
        sounds = [self.ask("decode", codes=row.cpu().numpy(), **voice)["audio"] for row in codes]
        return torch.stack([torch.from_numpy(sound)[None] for sound in sounds])

    def _voice(self, reference: Reference | None) -> dict[str, Any]:
        if self.needs_latents:
            raise ValueError(f"the vocoder of {self.model} takes latents, not codes: make them, and call vocode")
        if self._has_global_codes:
            if reference is None or reference.global_codes is None:
                raise ValueError(f"the codec {self.model} needs the voice's global codes: give a reference with them")
            return {"global_codes": reference.global_codes.cpu().numpy()}
        return self._sound_of(reference) if self.needs_reference else {}

    def _sound_of(self, reference: Reference | None) -> dict[str, Any]:
        if reference is None or reference.audio is None:
            raise ValueError(f"the codec {self.model} needs the sound of a reference to speak")
        return {"reference": reference.audio.cpu().numpy(), "sample_rate": self.sample_rate}

    def vocode(self, latents: Tensor, reference: Reference | None) -> Tensor:
        """Latents ``[F, D]`` in the voice of a reference with sound to audio ``[N]``."""
        given = {"latents": latents.float().cpu().numpy(), **self._sound_of(reference)}
        return torch.from_numpy(self.ask("vocode", **given)["audio"])

    def to(self, device: torch.device | str) -> Self:
        """Nothing: where the codec runs is said by `device` at the beginning."""
        return self

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer, arrays as numpy arrays.

        Raises:
            ValueError: If the worker refuses, dies or does not answer in time.
            CodecUnavailable: If it cannot start, or does not come as far as its first answer.
        """
        with self._lock:
            if self._process is None:
                self._process = WorkerProcess([self.python, "-u", str(self.script), json.dumps(self.settings)])
            try:
                answer = self._process.ask(request, pack(arguments), self.timeout)
            except ValueError:
                self.close()
                raise
        if "error" in answer:
            kind = ValueError if answer.get("made", True) else CodecUnavailable
            raise kind(f"codec worker {self.script.name}: {answer['error']}")
        result: dict[str, Any] = unpack(answer["result"])
        return result

    def close(self) -> None:
        """End the process; the next request starts another."""
        if self._process is not None:
            self._process.close()
            self._process = None


class WorkerProcess:
    """A child process, one JSON line in and one out; what it prints elsewhere goes to a log, kept if it fails.

    Args:
        command: Program and arguments.

    Raises:
        CodecUnavailable: If it cannot be started.
    """

    def __init__(self, command: list[str]) -> None:
        self.program = command[0]
        # So that a script of one's own finds `serve`.
        paths = [str(WORKERS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.log = tempfile.NamedTemporaryFile(prefix="wand-codec-", suffix=".log", delete=False)  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:
            self._remove_log()
            raise CodecUnavailable(f"codec worker: {self.program} cannot be started ({error.strerror})") from error
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._count = 0
        self._failed = False
        atexit.register(self.close)

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        yield from self.process.stdout

    def _read(self) -> None:
        for line in self._lines():
            if line.startswith(ANSWER):
                self._answers.put(line)
            else:  # said before `serve` kept stdout for answers
                self.log.write(line.encode())
        self._answers.put(None)

    def ask(self, request: str, arguments: Any, timeout: float) -> dict[str, Any]:
        """One request and its answer."""
        self._count += 1
        assert self.process.stdin is not None
        line = json.dumps({"id": self._count, "do": request, "arguments": arguments})
        with suppress(BrokenPipeError):  # its end is told below
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise self._failure(f"gave no answer to {request!r} in {timeout:g} s") from None
        if answer is None:
            raise self._failure(f"has ended: {self._last_words()}")
        made: dict[str, Any] = json.loads(answer)
        assert made["id"] == self._count, "a worker answers in order"
        return made

    def _failure(self, what: str) -> ValueError:
        self._failed = True
        kind = CodecUnavailable if self._count == 1 else ValueError
        return kind(f"codec worker {self.program} {what} (log: {self.log.name})")

    def _last_words(self) -> str:
        said = Path(self.log.name).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")

    def close(self) -> None:
        """End it."""
        atexit.unregister(self.close)
        if self._failed:
            self.process.kill()  # it may be busy for long
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()  # the worker's loop ends
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)  # it writes to the log
        if self._failed:
            self.log.close()
        else:
            self._remove_log()

    def _remove_log(self) -> None:
        self.log.close()
        Path(self.log.name).unlink(missing_ok=True)
