"""A plugin of vLLM: exports of ``wand export`` run under their window, and speak only ids of speech."""

from __future__ import annotations

# The minor version of vLLM whose internals this plugin changes.
VLLM = "0.32"


def register() -> None:
    """Prepare vLLM for windowed models. vLLM calls it in each of its processes, before it reads a model.

    Models without `rswa_window` in their configuration and without ``speech.json`` run as before.

    Raises:
        ValueError: If vLLM has another minor version.
    """
    from importlib.metadata import version

    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend
    from vllm.version import __version__ as found

    if found.split(".")[:2] != VLLM.split("."):
        raise ValueError(f"wand-vllm {version('wand-vllm')} is for vLLM {VLLM}, not {found}: install vllm=={VLLM}.*")
    from wand_vllm import defaults, window

    window.install()
    defaults.install()
    register_backend(AttentionBackendEnum.CPU_ATTN, "wand_vllm.cpu.WindowBackend")
