"""`wand serve`: speak over HTTP, with OpenAI's interface."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
from dataclasses import replace
from pathlib import Path

from wand.checks import check_device, check_whole_number
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser
from wand.console.interrupt import raise_if_stopped
from wand.runs.checkpoints import LAST, find_checkpoint, is_export, run_folder
from wand.speech.synthesizer import Synthesizer, load

# What the extra `serve` installs, by the names that are imported.
NEEDED = ("fastapi", "uvicorn", "websockets", "python_multipart", "prometheus_client", "httpx")
KEY = "WAND_SERVE_KEY"
# The environment variable with the key of the other engine. vLLM itself reads the same.
ENGINE_KEY = "VLLM_API_KEY"

log = logging.getLogger("wand.serving")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand serve",
        description="Speak over HTTP, with OpenAI's interface (docs/serving.md). "
        f"If the environment variable {KEY} is set, clients must send it as bearer token.",
    )
    parser.add_argument(
        "--ckpt_path",
        default=LAST,
        help="run folder, checkpoint file, folder of `wand export`, or `last` (newest run; default: last)",
    )
    parser.add_argument(
        "--config",
        help="config whose codec (data.codec) is used (default: that of the run); needed for exports, which name none, "
        "of models without a codec of their own, such as CosyVoice, Spark-TTS, Llasa, NeuTTS and Orpheus",
    )
    parser.add_argument(
        "--voices",
        type=Path,
        required=True,
        help="folder of sound files and saved voices (*.safetensors); a voice is named as its file",
    )
    parser.add_argument(
        "--engine",
        metavar="URL",
        help="address of vLLM, which speaks instead of wand's own engine: `vllm serve` with an export of this model "
        "and the plugin wand-vllm (docs/serving.md); --rows and --queue together limit the requests",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--allowed_hosts",
        nargs="+",
        default=[],
        metavar="HOST",
        help="further names of this server in requests, such as that of a proxy; a server that only this "
        "machine reaches refuses others (default: 127.0.0.1 localhost [::1])",
    )
    parser.add_argument("--rows", type=int, default=8, help="requests that are spoken at the same time (default: 8)")
    parser.add_argument(
        "--queue", type=int, default=32, help="further requests that wait; more get status 429 (default: 32)"
    )
    parser.add_argument("--max_letters", type=int, default=4096, help="longest text (default: 4096)")
    parser.add_argument(
        "--max_seconds",
        type=float,
        default=600.0,
        help="longest speech in seconds; it ends there; a part of a text that is split has 30 at most (default: 600)",
    )
    parser.add_argument(
        "--send_seconds",
        type=float,
        default=60.0,
        help="a client that takes no data for this time, in seconds, is disconnected (default: 60)",
    )
    parser.add_argument(
        "--model_name", help="name of the model for clients (default: that of the folder of the run or export)"
    )
    parser.add_argument("--allow_upload", action="store_true", help="let clients add voices to the folder")
    parser.add_argument(
        "--int8", action="store_true", help="use int8 weights (CPU only): faster, with slightly different results"
    )
    parser.add_device()
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Serve until a signal ends the server."""
    options = parse(arguments)
    _check_packages()
    check_device(options.device)
    if options.engine is not None and options.int8:
        raise ValueError("--int8 is for wand's own engine: leave it out, or leave out --engine")
    check_whole_number("--port", options.port, least=0, most=65535)
    from wand.serving.app import make_app
    from wand.serving.engines.remote import RemoteEngine
    from wand.serving.metrics import Metrics
    from wand.serving.server import Server, bound_socket
    from wand.serving.settings import ServerSettings, check_key, hosts_at, is_local
    from wand.serving.speaker import Speaker, server_rules
    from wand.serving.voices import Voices

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(logging.INFO)
    place = bound_socket(options.host, options.port)
    address = place.getsockname()[0]
    if engine_key := os.environ.get(ENGINE_KEY):
        check_key(engine_key, "engine")
    limits = ServerSettings(
        rows=options.rows,
        queue=options.queue,
        max_letters=options.max_letters,
        max_seconds=options.max_seconds,
        send_seconds=options.send_seconds,
        allow_upload=options.allow_upload,
        key=os.environ.get(KEY),
        allowed_hosts=hosts_at(address, options.allowed_hosts),
    )
    if not options.voices.is_dir():
        raise ValueError(f"--voices {options.voices} is not a folder: give one with sound files or saved voices")
    _leave_a_core()
    if options.ckpt_path == LAST:  # a newer run may begin meanwhile
        options.ckpt_path = str(find_checkpoint(LAST))
    settings = replace(limits, model=options.model_name or _name_of(options.ckpt_path))
    synthesizer = _load(options)
    voices = Voices(synthesizer, options.voices)
    if not voices and not options.allow_upload:
        raise ValueError(f"--voices {options.voices} has no voice that can be used: add a sound file or a saved voice")
    if not is_local(address) and settings.key is None:
        log.warning("everyone who reaches %s may use this server: set %s to a key", options.host, KEY)
    metrics = Metrics()
    engine = None
    if options.engine is not None:
        rules = server_rules(synthesizer, settings)
        engine = RemoteEngine.connect(options.engine, synthesizer.backbone, rules, settings.model, engine_key)
    raise_if_stopped()
    app = make_app(Speaker(synthesizer, voices, settings, metrics, engine), settings, metrics)
    Server(app, settings, place, metrics).run()


def _load(options: argparse.Namespace) -> Synthesizer:
    """The model, with a codec.

    Raises:
        ValueError: If it cannot be loaded, or has no codec.
    """
    codec = None
    if options.config is not None:
        from wand.cli.parts.opening import open_codec

        codec = open_codec(options.config)
    synthesizer = load(options.ckpt_path, codec, options.device, options.int8)
    if synthesizer.codec is None:
        raise ValueError(
            f"{options.ckpt_path} names no codec for {type(synthesizer.backbone).__name__}: give --config with a "
            f"config that has data.codec, such as the config.yaml of the run"
        )
    return synthesizer


def _leave_a_core() -> None:
    """Keep a core for the codec and for HTTP, which run beside the engine.

    The threads of an operation wait for each other: if one of them shares its core, all are slow. On two cores, four
    streams took 1.3 to 1.9 times as long with two threads as with one.
    """
    import torch

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and threads > 1:
        torch.set_num_threads(threads - 1)


def _check_packages() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"wand serve needs {', '.join(missing)}: pip install 'wand-tts[serve]'")


def _name_of(path: str) -> str:
    """The name of the folder of an export or a run; that of the file for a checkpoint in no run folder."""
    if is_export(path):
        return Path(path).resolve().name
    checkpoint = find_checkpoint(path).resolve()
    return (run_folder(checkpoint) or checkpoint).name
