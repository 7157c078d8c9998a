"""A codec that runs as a separate process, in the Python environment of the released model."""

from __future__ import annotations

import hashlib
import importlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from wand.checks import check_number
from wand.codecs.base import Codec, CodecUnavailable
from wand.codecs.facts import CodecFacts
from wand.codecs.reference import Reference
from wand.codecs.worker_process import WorkerProcess, one_line
from wand.codecs.workers.serve import pack, unpack
from wand.files.contents import content_digests
from wand.files.weights import file_digest
from wand.registry import CODECS

# Largest answer in bytes, beside the codes or the sound that were asked for: 8 bytes each, written in base64.
LARGEST_ANSWER = 1 << 20
BYTES_PER_NUMBER = 11

# After this many failures in a row the codec counts as unusable.
MOST_FAILURES = 3
# Logs of failed processes that one codec keeps: the newest ones.
MOST_LOGS = 5

Made = TypeVar("Made")


def find_codec(model: str) -> tuple[CodecFacts, Path] | None:
    """Facts and worker script for a codec that wand supports by name; None for any other name."""
    if model not in CODECS:
        return None
    module = importlib.import_module(CODECS[model])
    facts: CodecFacts = module.CODEC
    return facts, Path(str(module.__file__)).parent / "worker" / "codec_worker.py"


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
        ValueError: If there is no such model or script, or its description of the codec is wrong.
    """

    starts_programs = ("python", "repository", "model")

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
        check_number("the timeout of the codec worker", timeout, "(0, inf]", hint="give seconds")
        self.timeout = timeout
        self._process: WorkerProcess | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._answered, self._failures = False, 0
        self._logs: deque[Path] = deque()
        self._lock = threading.RLock()  # threads share the worker, which handles one request at a time
        self._heard: tuple[tuple[int, bytes], tuple[Tensor, Tensor | None]] | None = None
        known = find_codec(model)
        self.script = Path(model) if known is None else known[1]
        if not self.script.is_file():
            raise ValueError(f"codec worker {model!r} is neither one of {', '.join(CODECS)} nor a script")
        self._facts = facts = self._describe() if known is None else known[0]
        self.sample_rate, self.frame_rate = facts.sample_rate, facts.frame_rate
        self.num_codebooks, self.codebook_size = facts.num_codebooks, facts.codebook_size
        self.needs_reference, self.needs_latents = facts.needs_reference, facts.needs_latents

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the settings. Each copy starts its own worker process."""
        settings = self.settings
        arguments = (settings["release"], settings["repository"], settings["device"], self.timeout)
        return type(self), (self.model, self.python, *arguments)

    def _describe(self) -> CodecFacts:
        try:
            return self._checked("describe", partial(CodecFacts.described, self.ask("describe")))
        except ValueError as error:
            self.close()
            raise CodecUnavailable(str(error)) from error

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that determine the codes.

        For your own script, it is the digest of the script and of the weights that it names in ``describe``, or else of
        all files in the release.
        """
        release = Path(str(self.settings["release"]))
        weights = release / self._facts.weights if self._facts.weights else None
        if weights is not None and not weights.is_file():
            raise ValueError(f"no {weights.name} in {release}: set release of data.codec to the folder of the weights")
        if find_codec(self.model) is not None and weights is not None:
            return f"{self.model}-{file_digest(weights)[:12]}"
        files = [self.script, *(_files_of(release) if weights is None else [weights])]
        contents = [(path.name, digest) for path, digest in content_digests(files).items()]
        return f"{self.script.stem}-{hashlib.sha256(repr(contents).encode()).hexdigest()[:12]}"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio ``[B, 1, N]`` to codes ``[B, K, F]``, row by row. All rows have the same length.

        Raises:
            ValueError: If the worker refuses a sound, or its codes do not fit the description of the codec.
        """
        return self._stacked("encode", [self._hear(row[0], sample_rate)[0] for row in audio])

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Global codes ``[B, G]`` of the voice; None if the codec has none."""
        found = [self._hear(row[0], sample_rate)[1] for row in audio]
        voices = [voice for voice in found if voice is not None]
        return self._stacked("encode", voices) if len(voices) == len(found) else None

    def _hear(self, audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor | None]:
        """Codes and, if the codec has them, global codes of a sound. The answer for the last sound is cached."""
        samples = audio.detach().float().cpu().numpy()
        key, seconds = (sample_rate, samples.tobytes()), len(samples) / sample_rate
        most = self.num_codebooks * self._facts.frames_of(seconds)[1]
        with self._lock:
            if self._heard is None or self._heard[0] != key:
                answer = self.ask("encode", most, audio=samples, sample_rate=sample_rate)
                codes = self._checked("encode", lambda: self._facts.codes(answer, seconds))
                self._heard = key, (codes, self._checked("encode", lambda: self._facts.global_codes(answer)))
            return self._heard[1]

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Decode codes ``[B, K, F]`` to audio ``[B, 1, N]``, row by row.

        Raises:
            ValueError: If the reference lacks something that the codec needs, the worker refuses, or its sound does not
                fit the description of the codec.
        """
        voice = self._voice(reference)
        sounds = [self._sound("decode", row.shape[1], codes=row.cpu().numpy(), **voice)[None] for row in codes]
        return self._stacked("decode", sounds)

    def _voice(self, reference: Reference | None) -> dict[str, Any]:
        if self.needs_latents:
            raise ValueError(f"the vocoder of {self.model} takes latents, not codes: call vocode")
        if self._facts.has_global_codes:
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
        voice = self._sound_of(reference)
        return self._sound("vocode", len(latents), latents=latents.float().cpu().numpy(), **voice)

    def _sound(self, request: str, frames: int, **arguments: Any) -> Tensor:
        answer = self.ask(request, self._facts.samples_of(frames)[1], **arguments)
        return self._checked(request, lambda: self._facts.audio(answer, frames))

    def _stacked(self, request: str, rows: list[Tensor]) -> Tensor:
        if len({row.shape for row in rows}) > 1:
            shapes = " and ".join(sorted({str(list(row.shape)) for row in rows})[:2])
            raise ValueError(f"{self._name}: {request!r} gave rows of different shapes, {shapes}")
        return torch.stack(rows)

    def _checked(self, request: str, check: Callable[[], Made]) -> Made:
        """The result of a check of an answer, with the name of the worker in its error."""
        try:
            return check()
        except ValueError as error:
            raise ValueError(f"{self._name}: {request!r} gave {error}: correct the script") from error

    @property
    def _name(self) -> str:
        return f"codec worker {self.script.name} run by {self.python}"

    def to(self, device: torch.device | str) -> Self:
        """Do nothing: the argument `device` of the class chooses the device."""
        return self

    def ask(self, request: str, most: int = 0, /, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer. Arrays are numpy arrays.

        Args:
            request: Name of the request.
            most: Numbers in the largest valid answer. A larger answer is not read.
            arguments: Arguments of the request.

        Raises:
            ValueError: If the worker reports an error, dies, does not answer in time or answers something invalid.
            CodecUnavailable: If the worker cannot start, fails before its first answer, or fails again and again.
        """
        with self._lock:
            process = self._started()
            try:
                answer = process.ask(request, pack(arguments), self.timeout, LARGEST_ANSWER + BYTES_PER_NUMBER * most)
                result = {} if "error" in answer else self._unpacked(process, request, answer["result"])
            except BaseException as error:  # whatever comes next from this process answers another request
                self.close(wait=False)
                self._keep_log(process)
                self._failures += 1
                if isinstance(error, ValueError) and (not self._answered or self._failures >= MOST_FAILURES):
                    raise CodecUnavailable(str(error)) from error
                raise
            self._failures = 0
            self._answered = self._answered or answer.get("made", True)
        if "error" not in answer:
            return result
        said = one_line(answer["error"], 500)
        if answer.get("made", True):
            raise ValueError(f"codec worker {self.script.name}: {said}")
        raise CodecUnavailable(f"{self._name}: {said}")

    def _unpacked(self, process: WorkerProcess, request: str, packed: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = unpack(packed)
        except (ValueError, RecursionError) as error:
            raise process.failure(f"answered {request!r} wrongly: {one_line(str(error))}") from None
        if not isinstance(result, dict):
            raise process.failure(f"answered {request!r} with one array, not with a dict")
        return result

    def _keep_log(self, process: WorkerProcess) -> None:
        self._logs.append(Path(process.log.name))
        if len(self._logs) > MOST_LOGS:
            self._logs.popleft().unlink(missing_ok=True)

    def _started(self) -> WorkerProcess:
        """The process of this codec. A fork of Python does not use the process of its parent."""
        if self._process is None or not self._process.is_ours:
            self._process = WorkerProcess(self.python, self.script, self.settings)
            self._end = weakref.finalize(self, self._process.close)
        return self._process

    def close(self, wait: bool = True) -> None:
        """End the process. The next request starts a new one.

        Args:
            wait: Whether it may finish what it does.
        """
        with self._lock:
            if self._process is not None:
                assert self._end is not None
                self._end.detach()
                self._process.close(wait)
                self._process = None


def _files_of(release: Path) -> list[Path]:
    """All files of a release, without hidden ones and compiled Python code."""
    if release.is_file():
        return [release]
    found = (path for path in sorted(release.rglob("*")) if path.is_file())
    return [
        path
        for path in found
        if not any(part[0] == "." or part == "__pycache__" for part in path.relative_to(release).parts)
    ]
