"""`wand serve` under load: time to the first sound, throughput, clients that leave, bodies that are no requests.

    wand serve --ckpt_path runs/quickstart --voices voices --rows 16 &
    python -m benchmarks.serving --pid $! --clients 16 --leaving 1000 --fuzzed 2000 \
        --ckpt_path runs/quickstart --voices voices

Clients speak to a server that runs already, in a process of its own. Its memory is read by its process id. With
`--ckpt_path` and `--voices`, the sound of clients at the same time is compared with that of a stream alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from wand.codecs.reference import Reference
from wand.serving.voices import Voices
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer, load

TEXT = "The birds sat on the wall and sang for everybody who came by."
# Requests at the same time while clients leave.
CROWD = 16
BYTES_PER_SAMPLE = 2
FORMATS = ("pcm", "wav", "mp3", "opus", "flac")
# Memory is compared with that after this share of the requests: by then, everything has been used once.
WARM = 0.2
# The longest time until rows are free again, in seconds.
PATIENCE = 60


def memory_of(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@dataclass
class Spoken:
    """One response.

    Args:
        status: Its status; 499 if the client has left.
        first: Time to the first sound, in seconds.
        took: Time to its end, in seconds.
        rate: Sample rate, in Hz.
        content: Its sound.
    """

    status: int
    first: float = 0.0
    took: float = 0.0
    rate: float = 1.0
    content: bytes = b""

    @property
    def seconds(self) -> float:
        """Length of the sound as pcm, in seconds."""
        return len(self.content) / BYTES_PER_SAMPLE / self.rate


async def speak(
    client: httpx.AsyncClient, voice: str, seed: int, leave_after: float | None = None, response_format: str = "pcm"
) -> Spoken:
    """Speak once, and leave after some seconds if given."""
    body = {"input": TEXT, "voice": voice, "seed": seed, "response_format": response_format}
    begun, first, content, rate = time.perf_counter(), 0.0, b"", 1.0
    try:
        async with asyncio.timeout(leave_after), client.stream("POST", "/v1/audio/speech", json=body) as answer:
            if answer.status_code != 200:
                return Spoken(answer.status_code)
            rate = float(answer.headers["x-sample-rate"])
            async for part in answer.aiter_bytes():
                first = first or time.perf_counter() - begun
                content += part
    except TimeoutError:
        return Spoken(499)
    return Spoken(200, first, time.perf_counter() - begun, rate, content)


async def throughput(client: httpx.AsyncClient, voice: str, clients: int) -> list[Spoken]:
    """The same number of requests, one after another and at the same time. Returns the latter, of seeds 0, 1 ..."""
    for label, crowd in (("one after another", 1), ("at the same time", clients)):
        begun = time.perf_counter()
        spoken: list[Spoken] = []
        for start in range(0, clients, crowd):
            spoken += await asyncio.gather(*(speak(client, voice, start + i) for i in range(crowd)))
        took = time.perf_counter() - begun
        if refused := [one.status for one in spoken if one.status != 200 or not one.content]:
            raise ValueError(
                f"{len(refused)} of {clients} requests {label} got no sound, the first with status {refused[0]}"
            )
        firsts = sorted(one.first for one in spoken)
        sound = sum(one.seconds for one in spoken)
        print(
            f"{clients} requests {label}: {sound:.1f} s of sound in {took:.1f} s ({sound / took:.2f} times real time); "
            f"first sound: median {statistics.median(firsts):.2f} s, last {firsts[-1]:.2f} s; "
            f"slowest stream {max(one.took / one.seconds for one in spoken):.2f} (below 1 is real time)"
        )
    return spoken


def compare(spoken: Sequence[Spoken], model: Synthesizer, reference: Reference) -> int:
    """Compare responses with streams alone, of the same seeds. Returns how many are equal to one step."""
    equal, largest = 0, 0
    for seed, one in enumerate(spoken):
        parts = model.stream(TEXT, reference, SpeakOptions(seed=seed))
        alone = np.concatenate([part.audio.clamp(-1, 1).numpy() for part in parts])
        expected = np.round(alone * 32767).astype(int)
        heard = np.frombuffer(one.content, "<i2").astype(int)
        shared = min(len(heard), len(expected))
        difference = int(np.abs(heard[:shared] - expected[:shared]).max(initial=0))
        largest = max(largest, difference)
        equal += len(heard) == len(expected) and difference <= 1
    print(
        f"{equal} of {len(spoken)} clients at the same time heard what a stream says alone, to one step of 16 bit "
        f"(largest difference {largest} steps)"
    )
    return equal


async def leaving(client: httpx.AsyncClient, voice: str, requests: int, longest: float, pid: int) -> None:
    """Requests in all formats whose clients leave at random, a crowd at a time. No row may be lost."""
    choose, done, warm = random.Random(0), 0, 0.0
    counts: dict[int, int] = {}
    while done < requests:
        crowd = min(CROWD, requests - done)
        wishes = [
            speak(client, voice, done + i, choose.uniform(0, longest), choose.choice(FORMATS)) for i in range(crowd)
        ]
        for one in await asyncio.gather(*wishes):
            counts[one.status] = counts.get(one.status, 0) + 1
        done += crowd
        if not warm and done >= WARM * requests:
            warm = memory_of(pid)
        if done % (CROWD * 8) == 0 or done == requests:
            print(f"  {done} requests: {memory_of(pid):.1f} MiB, answers {counts}", flush=True)
    await idle(client)
    print(f"no row is lost; memory {warm:.1f} MiB after {WARM:.0%} of the requests, {memory_of(pid):.1f} MiB after all")


async def fuzzed(client: httpx.AsyncClient, voice: str, requests: int) -> None:
    """Bodies that are no requests, or odd ones."""
    choose = random.Random(1)
    counts: dict[int, int] = {}
    odd: list[object]
    odd = [None, True, -1, 0, 1e300, "", " ", "../x", "a" * 5000, "\0", [], {}, [[]], {"id": 1}, 2**70, "mp3", "wav"]
    names = [
        "input",
        "voice",
        "model",
        "speed",
        "seed",
        "sampling",
        "response_format",
        "stream_format",
        "first_seconds",
    ]
    for _ in range(requests):
        body = {"input": "", "voice": voice, **{choose.choice(names): choose.choice(odd) for _ in range(3)}}
        content = json.dumps(body).encode()
        if choose.random() < 0.3:  # damage it
            place = choose.randrange(len(content))
            content = content[:place] + choose.randbytes(choose.randrange(4)) + content[place + choose.randrange(9) :]
        answer = await client.post("/v1/audio/speech", content=content, headers={"content-type": "application/json"})
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
    print(f"{requests} fuzzed bodies: answers {counts}")
    assert max(counts, default=0) < 500


async def idle(client: httpx.AsyncClient) -> None:
    """Wait until no request is active, and check that none is left in the engine."""
    end = time.monotonic() + PATIENCE
    while (await client.get("/health")).json()["active"] or "wand_engine_requests 0.0" not in await figures(client):
        assert time.monotonic() < end, "a request is active, or in the engine, that nobody waits for"
        await asyncio.sleep(0.05)


async def figures(client: httpx.AsyncClient) -> str:
    """What the server tells Prometheus."""
    return (await client.get("/metrics")).text


async def run(options: argparse.Namespace) -> None:
    """Everything, in one event loop."""
    # The server closes connections that are kept, also while the next request is sent.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=options.url, timeout=600, limits=limits, trust_env=False) as client:
        voice = (await client.get("/v1/voices")).json()["data"][0]["id"]
        alone = await speak(client, voice, 0)
        print(f"one request: first sound {alone.first:.2f} s, {alone.seconds:.2f} s of sound in {alone.took:.2f} s")
        await throughput(client, voice, 4)
        spoken = await throughput(client, voice, options.clients)
        if options.ckpt_path is not None:
            model = load(options.ckpt_path)
            compare(spoken, model, Voices(model, options.voices)[voice])
        print(f"memory {memory_of(options.pid):.1f} MiB; {options.leaving} requests whose clients leave:")
        await leaving(client, voice, options.leaving, 3 * alone.took, options.pid)
        await fuzzed(client, voice, options.fuzzed)
        await idle(client)
        again = await speak(client, voice, 0)
        print(f"one request: first sound {again.first:.2f} s; memory {memory_of(options.pid):.1f} MiB")


def main() -> None:
    """Parse the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, required=True, help="process id of the server")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--leaving", type=int, default=1000)
    parser.add_argument("--fuzzed", type=int, default=2000)
    parser.add_argument("--ckpt_path", help="the model of the server, to compare its speech with streams of it")
    parser.add_argument("--voices", type=Path, help="its folder of voices")
    options = parser.parse_args()
    if (options.ckpt_path is None) != (options.voices is None):
        parser.error("give both of --ckpt_path and --voices, or none")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
