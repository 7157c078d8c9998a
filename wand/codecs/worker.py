"""A codec that runs as a separate process, in the Python environment of the released model."""

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
    """Properties of a codec, known before it runs.

    Args:
        sample_rate: Sample rate of the audio, in Hz.
        frame_rate: Frames of codes per second, in Hz.
        num_codebooks: K.
        codebook_size: Number of codes in one codebook.
        needs_reference: Whether decoding needs the voice.
        weights: File of the release that determines the codes; empty for your own script.
        needs_latents: Whether the vocoder takes latents of the model instead of codes.
        has_global_codes: Whether decoding takes global codes of the voice instead of reference audio.
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
    """Facts and worker script for a codec that wand supports by name; None for any other name."""
    if model not in CODECS:
        return None
    module = importlib.import_module(CODECS[model])
    facts: CodecFacts = module.CODEC
    return facts, Path(str(module.__file__)).with_name("codec_worker.py")


class WorkerCodec(Codec):
    """Runs the codec of a released model in a separate process, which starts when it is first needed.

    Args:
        model: ``cosyvoice2``, ``index_tts``, ``spark_tts``, or the path of your own script, which must call ``serve``
            (``wand/codecs/workers/serve.py``) and answer ``describe``.
        python: Python interpreter of the environment in which the released model runs.
        release: Folder of the released weights.
        repository: Folder of the code of the released model, if it is not installed in that environment.
        device: Device of the codec in the worker process (default: cpu).
        timeout: Maximum time to wait for an answer, in seconds (default: 600).

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
        self._lock = threading.RLock()  # threads share the worker, which handles one request at a time
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
        """Pickle only the settings. Each copy starts its own worker process."""
        settings = self.settings
        arguments = (settings["release"], settings["repository"], settings["device"], self.timeout)
        return type(self), (self.model, self.python, *arguments)

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that determine the codes, or of your own script."""
        file = Path(str(self.settings["release"])) / self._weights if self._weights else self.script
        if not file.is_file():
            raise ValueError(f"no {file.name} in {file.parent}: set release of data.codec to the folder of the weights")
        name = self.model if self._weights else self.script.stem
        return f"{name}-{file_digest(file)[:12]}"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio ``[B, 1, N]`` to codes ``[B, K, F]``, row by row. All rows have the same length."""
        return torch.stack([torch.from_numpy(self._hear(row[0], sample_rate)["codes"]) for row in audio])

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Global codes ``[B, G]`` of the voice; None if the codec has none."""
        found = [self._hear(row[0], sample_rate).get("global_codes") for row in audio]
        return None if found[0] is None else torch.stack([torch.from_numpy(voice) for voice in found])

    def _hear(self, audio: Tensor, sample_rate: int) -> dict[str, Any]:
        """Codes and, if the codec has them, global codes of a sound. The answer for the last sound is cached."""
        samples = audio.detach().float().cpu().numpy()
        key = sample_rate, samples.tobytes()
        with self._lock:
            if self._heard is None or self._heard[0] != key:
                self._heard = key, self.ask("encode", audio=samples, sample_rate=sample_rate)
            return self._heard[1]

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Decode codes ``[B, K, F]`` to audio ``[B, 1, N]``, row by row.

        Raises:
            ValueError: If the reference lacks something that the codec needs.
        """
        voice = self._voice(reference)
        sounds = [self.ask("decode", codes=row.cpu().numpy(), **voice)["audio"] for row in codes]
        return torch.stack([torch.from_numpy(sound)[None] for sound in sounds])

    def _voice(self, reference: Reference | None) -> dict[str, Any]:
        if self.needs_latents:
            raise ValueError(f"the vocoder of {self.model} takes latents, not codes: call vocode")
        if self._has_global_codes:
            if reference is None or reference.global_codes is None:
                raise ValueError(f"the codec {self.model} needs the voice's global codes: give a reference with them")
            return {"global_codes": reference.global_codes.cpu().numpy()}
        return self._sound_of(reference) if self.needs_reference else {}

    def _sound_of(self, reference: Reference | None) -> dict[str, Any]:
        if reference is None or reference.audio is None:
            raise ValueError(f"the codec {self.model} needs the sound of a reference: give a reference with audio")
        return {"reference": reference.audio.cpu().numpy(), "sample_rate": self.sample_rate}

    def vocode(self, latents: Tensor, reference: Reference | None) -> Tensor:
        """Turn latents ``[F, D]`` into audio ``[N]``, in the voice of a reference with audio."""
        given = {"latents": latents.float().cpu().numpy(), **self._sound_of(reference)}
        return torch.from_numpy(self.ask("vocode", **given)["audio"])

    def to(self, device: torch.device | str) -> Self:
        """Do nothing: the argument `device` of the class chooses the device."""
        return self

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer. Arrays are numpy arrays.

        Raises:
            ValueError: If the worker reports an error, dies or does not answer in time.
            CodecUnavailable: If the worker cannot start, or fails before its first answer.
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
        """End the process. The next request starts a new one."""
        if self._process is not None:
            self._process.close()
            self._process = None


class WorkerProcess:
    """A child process that answers each JSON line with one JSON line. Other output goes to a log, kept after a failure.

    Args:
        command: Program and arguments.

    Raises:
        CodecUnavailable: If it cannot be started.
    """

    def __init__(self, command: list[str]) -> None:
        self.program = command[0]
        # The user's own script must find `serve`.
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
            else:  # printed before `serve` reserved stdout for answers
                self.log.write(line.encode())
        self._answers.put(None)

    def ask(self, request: str, arguments: Any, timeout: float) -> dict[str, Any]:
        """Send one request and return its answer."""
        self._count += 1
        assert self.process.stdin is not None
        line = json.dumps({"id": self._count, "do": request, "arguments": arguments})
        with suppress(BrokenPipeError):  # reported below
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise self._failure(f"did not answer {request!r} in {timeout:g} s") from None
        if answer is None:
            raise self._failure(f"has ended: {self._last_words()}")
        made: dict[str, Any] = json.loads(answer)
        assert made["id"] == self._count, "a worker must answer in order"
        return made

    def _failure(self, what: str) -> ValueError:
        self._failed = True
        kind = CodecUnavailable if self._count == 1 else ValueError
        return kind(f"codec worker {self.program} {what} (log: {self.log.name})")

    def _last_words(self) -> str:
        said = Path(self.log.name).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(said) if line.strip()), "it printed nothing")

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        if self._failed:
            self.process.kill()  # it may stay busy for a long time
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()  # ends the loop of the worker
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)  # the reader writes to the log
        if self._failed:
            self.log.close()
        else:
            self._remove_log()

    def _remove_log(self) -> None:
        self.log.close()
        Path(self.log.name).unlink(missing_ok=True)
