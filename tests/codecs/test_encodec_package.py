"""EnCodec's own package against transformers with the same weights, and its import without torchaudio."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from tests.codecs.test_streaming import cut, draw_codes, make_codec, play, same
from tests.workplace import ESPEAK, Workplace
from wand.cli import main
from wand.codecs import EncodecCodec, EncodecPackageCodec
from wand.codecs.encodec import EncodecStream
from wand.codecs.encodec_package import INSTALL, import_encodec
from wand.codecs.streaming import ContextStream

# The package makes its layers with it.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")

ROOT = Path(__file__).parents[2]
RATE, CODEBOOKS, CODES, WIDTH = 800, 3, 16, 8
SEANET: dict[str, Any] = {"n_filters": 4, "ratios": [4, 2], "true_skip": True}
# Settings of the package, and what transformers calls them.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reflect": ({}, {}),
    "constant": ({"pad_mode": "constant"}, {"pad_mode": "constant"}),
    "shortcut": ({"true_skip": False}, {"use_conv_shortcut": True}),
    "dilated": (
        {"n_residual_layers": 3, "residual_kernel_size": 4, "dilation_base": 3},
        {"num_residual_layers": 3, "residual_kernel_size": 4, "dilation_growth_rate": 3},
    ),
    "one recurrent layer": ({"lstm": 1, "ratios": [5, 3, 1]}, {"num_lstm_layers": 1, "upsampling_ratios": [5, 3, 1]}),
    "not causal": ({"causal": False}, {"use_causal_conv": False}),
    "group norm": (
        {"causal": False, "norm": "time_group_norm"},
        {"use_causal_conv": False, "norm_type": "time_group_norm"},
    ),
}


def draw_weights(seanet: dict[str, Any], channels: int = 1, bins: int = CODES, codebooks: int = CODEBOOKS) -> Any:
    """The package's own model with random weights that are heard."""
    encodec = import_encodec()
    torch.manual_seed(0)
    settings = {"dimension": WIDTH, "channels": channels, **seanet}
    model = encodec.EncodecModel(
        encodec.modules.SEANetEncoder(**settings),
        encodec.modules.SEANetDecoder(**settings),
        encodec.quantization.ResidualVectorQuantizer(WIDTH, n_q=codebooks, bins=bins),
        [1.0],
        RATE,
        channels,
    )
    for name, tensor in model.state_dict().items():
        if name.endswith("bias"):
            tensor.normal_(std=0.3)
    with torch.no_grad():
        embeddings = model.encoder(torch.randn(1, channels, 8 * bins * int(model.encoder.hop_length)))[0]
        for layer in model.quantizer.vq.layers:  # every code is the nearest to some embedding
            layer._codebook.embed.copy_(embeddings[:, torch.randperm(embeddings.shape[1])[:bins]].T)
            embeddings = embeddings - layer.decode(layer.encode(embeddings[None]))[0]
    return model.eval()


def in_transformers(name: str) -> str:
    """What transformers calls a tensor of the package."""
    name = name.replace("quantizer.vq.", "quantizer.").replace("._codebook.", ".codebook.")
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.(conv|convtr)\.\1\.", ".conv.", name)
    name = re.sub(r"\.(conv|convtr)\.norm\.", ".norm.", name)
    return name.replace(".weight_g", ".parametrizations.weight.original0").replace(
        ".weight_v", ".parametrizations.weight.original1"
    )


def write_both(folder: Path, name: str) -> tuple[Any, EncodecPackageCodec, EncodecCodec]:
    """The package's model, and both codecs with its weights."""
    changes, config = NETWORKS[name]
    seanet = {**SEANET, **changes}
    frames = ceil(RATE / prod(seanet["ratios"]))  # a second
    model = draw_weights({"causal": True, **seanet})
    torch.save(model.state_dict(), folder / "model.th")
    twin = EncodecModel(
        EncodecConfig(
            **{
                "sampling_rate": RATE,
                "target_bandwidths": [(CODEBOOKS + 0.5) * frames * log2(CODES) / 1000],
                "hidden_size": WIDTH,
                "codebook_size": CODES,
                "num_filters": 4,
                "upsampling_ratios": [4, 2],
                "use_conv_shortcut": False,
                **config,
            }
        )
    )
    twin.load_state_dict({in_transformers(key): tensor for key, tensor in model.state_dict().items()})
    twin.save_pretrained(folder / "twin")
    own = EncodecPackageCodec(str(folder / "model.th"), sample_rate=RATE, seanet=seanet)
    return model, own, EncodecCodec(str(folder / "twin"))


def spoken(seconds: float) -> Tensor:
    return torch.randn(2, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_codec_of_transformers(tmp_path: Path, name: str) -> None:
    _, own, twin = write_both(tmp_path, name)
    for fact in ("sample_rate", "frame_rate", "num_codebooks", "codebook_size", "causal", "pad_mode"):
        assert getattr(own, fact) == getattr(twin, fact), fact
    for seconds in (0.05, 0.5, 1.001):
        audio = spoken(seconds)
        codes = own.encode(audio, RATE)
        assert codes.shape[:2] == (2, CODEBOOKS)
        assert torch.equal(codes, twin.encode(audio, RATE))
        assert len(codes.unique()) > min(codes.shape[2], CODES) // 2, "the codes differ"
        heard = own.decode(codes)
        assert heard.std() > 0.003
        assert torch.allclose(heard, twin.decode(codes), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_model_of_the_package(tmp_path: Path, name: str) -> None:
    model, own, _ = write_both(tmp_path, name)
    with torch.no_grad():
        ((codes, scale),) = model.encode(spoken(0.7))
        assert scale is None
        assert torch.equal(own.encode(spoken(0.7), RATE), codes)
        assert torch.equal(own.decode(codes), model.decode([(codes, None)]))


@pytest.mark.parametrize("name", NETWORKS)
def test_chunks_are_the_whole(tmp_path: Path, name: str) -> None:
    """Causal networks have a stream with state, exact; others are decoded in context."""
    _, own, _ = write_both(tmp_path, name)
    codes = draw_codes(own, 60)
    whole = own.decode(codes[None])[0, 0]
    assert isinstance(own.stream(), EncodecStream if own.causal else ContextStream)
    for sizes in ([1] * 59, [7] * 8, [50], []):
        streamed = play(own.stream(), cut(codes, sizes))
        assert same(streamed, whole) if own.causal else streamed.shape == whole.shape


def test_fewer_codebooks_are_the_first(tmp_path: Path) -> None:
    _, own, _ = write_both(tmp_path, "reflect")
    fewer = EncodecPackageCodec(own.weights, 2, RATE, own.seanet)
    assert torch.equal(fewer.encode(spoken(1), RATE), own.encode(spoken(1), RATE)[:, :2])
    assert fewer.fingerprint != own.fingerprint
    with pytest.raises(ValueError, match=r"model\.th' has 3 codebooks, 4 were asked for"):
        EncodecPackageCodec(own.weights, 4, RATE, own.seanet)


def test_it_goes_to_other_processes(tmp_path: Path) -> None:
    _, own, _ = write_both(tmp_path, "not causal")
    other = pickle.loads(pickle.dumps(own))
    assert (other.fingerprint, other.causal) == (own.fingerprint, False)
    assert torch.equal(other.encode(spoken(1), RATE), own.encode(spoken(1), RATE))


def test_opening_draws_no_random_numbers(tmp_path: Path) -> None:
    _, own, _ = write_both(tmp_path, "reflect")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    EncodecPackageCodec(own.weights, None, RATE, own.seanet)
    assert torch.equal(torch.rand(4), expected)


def test_the_settings_of_the_24_khz_model_are_the_default(tmp_path: Path) -> None:
    encodec = import_encodec()
    model = encodec.EncodecModel._get_model([1.5, 3.0, 6.0, 12.0, 24.0], causal=True)
    torch.save({"best_state": model.state_dict()}, tmp_path / "encodec_24khz.th")
    codec = EncodecPackageCodec(str(tmp_path / "encodec_24khz.th"))
    assert (codec.sample_rate, codec.frame_rate, codec.num_codebooks, codec.codebook_size) == (24_000, 75, 32, 1024)
    assert codec.causal
    assert repr(codec.model) == repr(model)


@pytest.mark.parametrize("norm", ["time_group_norm", "weight_norm"])
def test_the_48_khz_model_is_refused(tmp_path: Path, norm: str) -> None:
    network = {**SEANET, "causal": False, "norm": norm}
    torch.save(draw_weights(network, channels=2).state_dict(), tmp_path / "encodec_48khz.th")
    with pytest.raises(
        ValueError, match=r"encodec_48khz\.th' codes stereo, or segments.*use the 24 kHz model"
    ) as error:
        EncodecPackageCodec(str(tmp_path / "encodec_48khz.th"), sample_rate=48_000, seanet=network)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"audio_channels": 2}, {"normalize": True}, {"chunk_length_s": 1.0, "overlap": 0.01}]
)
def test_transformers_48_khz_model_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"codes stereo, or segments with a scale each.*use the 24 kHz model") as error:
        make_codec(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.th"
    with pytest.raises(ValueError, match=r"no weights at .*model\.th"):
        EncodecPackageCodec(str(path))
    torch.save({"run": main}, path)
    with pytest.raises(ValueError, match="contains code, which is never run"):
        EncodecPackageCodec(str(path))
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"does not hold weights of encodec\.EncodecModel"):
        EncodecPackageCodec(str(path))
    torch.save(draw_weights({**SEANET, "causal": True}).state_dict(), path)
    with pytest.raises(ValueError, match="holds a model of another size: 'encoder"):
        EncodecPackageCodec(str(path), seanet={**SEANET, "n_filters": 6})
    with pytest.raises(ValueError, match=r"seanet .*'ratio': 2.*unexpected keyword argument 'ratio'"):
        EncodecPackageCodec(str(path), seanet={**SEANET, "ratio": 2})
    with pytest.raises(ValueError, match="GroupNorm doesn't support causal"):
        EncodecPackageCodec(str(path), seanet={**SEANET, "norm": "time_group_norm"})


IMPORTS = """
import importlib.util, sys
from wand.codecs.encodec_package import import_encodec
first = sys.modules["transformers"]
import_encodec().EncodecModel
assert "torchaudio" not in sys.modules
if importlib.util.find_spec("torchaudio") is None:
    try:
        sys.modules["encodec.utils"].torchaudio.save
    except ModuleNotFoundError as error:
        assert error.name == "torchaudio"
    else:
        raise AssertionError("the stand-in has no functions of its own")
for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
    del sys.modules[name]
import transformers
assert transformers is not first
transformers.utils.is_torchaudio_available(), transformers.AutoFeatureExtractor, transformers.WhisperModel
"""


def test_transformers_is_imported_before_and_after() -> None:
    answer = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("missing", ["encodec", "einops"])
def test_a_missing_package_is_named_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_encodec()
    for name in [name for name in sys.modules if name.split(".")[0] == "encodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match="is not installed") as error:
        EncodecPackageCodec("model.th")
    assert str(error.value) == f"{missing} is not installed: {INSTALL}"


def test_one_command_installs_it_everywhere() -> None:
    extra, _, alone = INSTALL.partition(" && ")
    assert extra == 'pip install "wand-tts[encodec]"'
    assert alone in (ROOT / "Makefile").read_text()
    assert INSTALL in (ROOT / "docs" / "data.md").read_text()
    assert f"\n{alone.split()[-1]}\n" in (ROOT / "constraints.txt").read_text()
    assert "torchaudio" not in re.sub(r"#.*", "", (ROOT / "constraints.txt").read_text())


def test_the_config_of_the_page_on_data(workplace: Workplace) -> None:
    """On weights of a network with the embedded model's frames and codebooks."""
    (config,) = re.findall(r"```yaml\n(data:\n  codec:\n    class_path: \S+EncodecPackageCodec\n.*?)```",
                           (ROOT / "docs" / "data.md").read_text(), re.DOTALL)  # fmt: skip
    path = Path(yaml.safe_load(config)["data"]["codec"]["init_args"]["weights"])
    seanet = {"n_filters": 2, "ratios": [8, 8, 5]}
    path.parent.mkdir(parents=True)
    torch.save(draw_weights({**seanet, "causal": True}, bins=256, codebooks=8).state_dict(), path)
    Path("encodec.yaml").write_text(config)
    workplace.run(
        *("prepare", "--config", "quickstart", "--config", "encodec.yaml", *ESPEAK, *workplace.data),
        *("--data.codec.init_args.num_codebooks=8", "--data.codec.init_args.sample_rate=16000"),
        f"--data.codec.init_args.seanet={seanet}",
    )
