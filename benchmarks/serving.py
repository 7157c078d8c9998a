"""`wand serve` under load: time to the first sound, throughput, clients that leave, bodies that are no requests.

    wand serve --ckpt_path runs/quickstart --voices voices --rows 16 &
    python -m benchmarks.serving --pid $! --clients 16 --leaving 1000 --fuzzed 2000

Clients speak to a server that runs already, in a process of its own. Its memory is read by its process id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from pathlib import Path

import httpx

TEXT = "The birds sat on the wall and sang for everybody who came by."
# Requests at the same time while clients leave.
CROWD = 16
BYTES_PER_SAMPLE = 2


def memory_of(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def speak(client: httpx.AsyncClient, voice: str, seed: int, leave_after: float | None = None) -> dict[str, float]:
    """Speak once, and leave after some seconds if given. Returns the times, in seconds."""
    body = {"input": TEXT, "voice": voice, "seed": seed, "response_format": "pcm"}
    begun, first, size, rate = time.perf_counter(), 0.0, 0, 1.0
    try:
        async with asyncio.timeout(leave_after), client.stream("POST", "/v1/audio/speech", json=body) as answer:
            if answer.status_code != 200:
                return {"status": answer.status_code}
            rate = float(answer.headers["x-sample-rate"])
            async for part in answer.aiter_bytes():
                first = first or time.perf_counter() - begun
                size += len(part)
    except TimeoutError:
        return {"status": 499}
    took = time.perf_counter() - begun
    return {"status": 200, "first": first, "took": took, "sound": size / BYTES_PER_SAMPLE / rate}


async def throughput(client: httpx.AsyncClient, voice: str, clients: int) -> None:
    """The same number of requests, one after another and at the same time."""
    for label, crowd in (("one after another", 1), ("at the same time", clients)):
        begun = time.perf_counter()
        spoken = []
        for start in range(0, clients, crowd):
            spoken += await asyncio.gather(*(speak(client, voice, start + i) for i in range(crowd)))
        took = time.perf_counter() - begun
        firsts = sorted(one["first"] for one in spoken)
        sound = sum(one["sound"] for one in spoken)
        print(
            f"{clients} requests {label}: {sound:.1f} s of sound in {took:.1f} s ({sound / took:.2f} times real time); "
            f"first sound: median {statistics.median(firsts):.2f} s, last {firsts[-1]:.2f} s; "
            f"slowest stream {max(one['took'] / one['sound'] for one in spoken):.2f} (below 1 is real time)"
        )


async def leaving(client: httpx.AsyncClient, voice: str, requests: int, longest: float, pid: int) -> None:
    """Requests whose clients leave at random, a crowd at a time."""
    times, done = random.Random(0), 0
    counts: dict[int, int] = {}
    while done < requests:
        crowd = min(CROWD, requests - done)
        wishes = [speak(client, voice, done + i, times.uniform(0, longest)) for i in range(crowd)]
        for one in await asyncio.gather(*wishes):
            counts[int(one["status"])] = counts.get(int(one["status"]), 0) + 1
        done += crowd
        if done % (CROWD * 8) == 0 or done == requests:
            print(f"  {done} requests: {memory_of(pid):.1f} MiB, answers {counts}", flush=True)
    await idle(client)


async def fuzzed(client: httpx.AsyncClient, voice: str, requests: int) -> None:
    """Bodies that are no requests, or odd ones."""
    choose, counts = random.Random(1), {}
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
    """Wait until no request is active."""
    while (await client.get("/health")).json()["active"]:
        await asyncio.sleep(0.05)


async def run(options: argparse.Namespace) -> None:
    """Everything, in one event loop."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=options.url, timeout=600, limits=limits, trust_env=False) as client:
        voice = (await client.get("/v1/voices")).json()["data"][0]["id"]
        alone = await speak(client, voice, 0)
        print(
            f"one request: first sound {alone['first']:.2f} s, {alone['sound']:.2f} s of sound in {alone['took']:.2f} s"
        )
        await throughput(client, voice, 4)
        await throughput(client, voice, options.clients)
        print(f"memory {memory_of(options.pid):.1f} MiB; {options.leaving} requests whose clients leave:")
        await leaving(client, voice, options.leaving, 3 * alone["took"], options.pid)
        await fuzzed(client, voice, options.fuzzed)
        await idle(client)
        again = await speak(client, voice, 0)
        print(f"one request: first sound {again['first']:.2f} s; memory {memory_of(options.pid):.1f} MiB")


def main() -> None:
    """Parse the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, required=True, help="process id of the server")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--leaving", type=int, default=1000)
    parser.add_argument("--fuzzed", type=int, default=2000)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
