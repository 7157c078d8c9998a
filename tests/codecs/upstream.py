"""Stand-ins for the code of released models, with the signatures and the frame arithmetic that upstream has.

They assert that gradients are off, and write down what they open and extract in the file ``record`` of the release.
"""

from __future__ import annotations

from pathlib import Path


def write_package(folder: Path, files: dict[str, str]) -> Path:
    """Write modules below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


SPARK = {
    "sparktts/models/audio_tokenizer.py": """
import numpy as np, torch
class BiCodecTokenizer:
    def __init__(self, model_dir, device=None):
        self.model = self
        self.config = {"volume_normalize": True}
    def get_ref_clip(self, wav):
        return wav[:10]
    def extract_wav2vec2_features(self, wavs):
        assert not torch.is_grad_enabled()
        return torch.from_numpy(wavs).unfold(0, 400, 320)[None, :, 0]
    def tokenize(self, batch):
        assert not torch.is_grad_enabled()
        assert batch["wav"].shape[0] == 1 and batch["ref_wav"].shape == (1, 10)
        return (batch["feat"] * 8).long(), torch.arange(32)[None, None]
    def detokenize(self, global_tokens, semantic_tokens):
        assert not torch.is_grad_enabled()
        assert global_tokens.shape == (1, 32) and semantic_tokens.shape[0] == 1
        return (semantic_tokens[0] / 8).repeat_interleave(320).numpy()
""",
    "sparktts/utils/audio.py": "def audio_volume_normalize(audio):\n    return audio / 2\n",
}

COSYVOICE = """
import os, torch
def record(folder, what):
    with open(os.path.join(folder, "record"), "a") as file:
        file.write(what + "\\n")
class Session:
    pass
class Frontend:
    def __init__(self, folder):
        from wetext import Normalizer
        self.normalizer, self.folder = Normalizer(remove_erhua=False), folder
        self.speech_tokenizer_session = Session()
    def _read(self, given, rate):
        if isinstance(given, str):
            import soundfile
            given, found = soundfile.read(given, dtype="float32")
            assert found == rate
            given = torch.from_numpy(given)[None]
        return given
    def _extract_speech_feat(self, SPEECH):
        assert not torch.is_grad_enabled()
        record(self.folder, "mel")
        audio = self._read(SPEECH, 24000)
        frames = (audio.shape[1] - 480) // 480 + 1
        return torch.ones(1, frames, 80), torch.tensor([frames])
    def _extract_spk_embedding(self, SPEECH):
        assert not torch.is_grad_enabled()
        record(self.folder, "embedding")
        return self._read(SPEECH, 16000)[:, :1].expand(1, 192)
class Model:
    def __init__(self):
        self.hift_cache_dict, self.llm = {}, Session()
    def token2wav(self, token, prompt_token, prompt_feat, embedding, token_offset, uuid, finalize):
        assert not torch.is_grad_enabled() and self.llm is None
        assert self.hift_cache_dict == {uuid: None} and finalize and token_offset == 0
        assert prompt_feat.shape[1] == 2 * prompt_token.shape[1] and embedding.shape == (1, 192)
        return (token.float() * embedding[0, 0]).repeat_interleave(960, dim=1)
class CosyVoice2:
    def __init__(self, model_dir):
        record(model_dir, "llm.pt")
        self.frontend, self.model = Frontend(model_dir), Model()
"""
LOG_MEL = """
def log_mel_spectrogram(audio, n_mels):
    import torch
    padded = torch.nn.functional.pad(audio, (200, 200), mode="reflect")[:, 200:]
    return audio[:, None, ::160].expand(-1, n_mels, -1)
"""
TORCHAUDIO = """
from torch.nn.functional import interpolate
class functional:
    def resample(audio, rate, wanted):
        return interpolate(audio[None], size=-(-audio.shape[1] * wanted // rate))[0]
"""
ONNXRUNTIME = """
import os
class SessionOptions:
    pass
class InferenceSession:
    class Given:
        def __init__(self, name):
            self.name = name
    def __init__(self, path, sess_options, providers):
        assert sess_options.intra_op_num_threads == 1 and providers == ["CPUExecutionProvider"]
        self.folder, name = os.path.split(path)
        self.record(name)
        self.record("GPUs " + os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    def record(self, what):
        with open(os.path.join(self.folder, "record"), "a") as file:
            file.write(what + "\\n")
    def get_inputs(self):
        return [self.Given("feats"), self.Given("feats_length")]
    def run(self, outputs, given):
        self.record("codes")
        assert given["feats_length"].tolist() == [given["feats"].shape[2]]
        return [given["feats"][0, :1, ::4].astype(int)]
"""
WETEXT = """
class Normalizer:
    def __init__(self, **settings):
        raise OSError("no network")
"""


def cosyvoice_code(parameter: str) -> dict[str, str]:
    """Upstream's code and what it needs, with the name that a parameter has in that version."""
    code = COSYVOICE.replace("SPEECH", parameter)
    others = {"whisper.py": LOG_MEL, "torchaudio.py": TORCHAUDIO, "onnxruntime.py": ONNXRUNTIME, "wetext.py": WETEXT}
    return {"cosyvoice/cli/cosyvoice.py": code, **others}


INDEX = {
    "indextts/utils/feature_extractors.py": """
import torch
class MelSpectrogramFeatures(torch.nn.Module):
    def __init__(self, rate):
        super().__init__()
    def forward(self, audio):
        padded = torch.nn.functional.pad(audio, (512, 512), mode="reflect")
        return audio[:, None, ::256].expand(-1, 100, -1)
""",
    "indextts/vqvae/xtts_dvae.py": """
import torch
class DiscreteVAE(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))
    def get_codebook_indices(self, mel):
        assert not torch.is_grad_enabled()
        return (mel[:, 0, ::4] * self.gain).long()
""",
    "indextts/BigVGAN/models.py": """
import torch
class BigVGAN(torch.nn.Module):
    def __init__(self, h, use_cuda_kernel):
        super().__init__()
        self.up, self.gain = h.up, torch.nn.Parameter(torch.zeros(1))
    def remove_weight_norm(self):
        pass
    def forward(self, latents, mel):
        assert mel.shape[2] == 100 and not torch.is_grad_enabled()
        return (latents[..., 0] * self.gain).repeat_interleave(self.up, dim=1)[:, None], None
""",
}
