"""A speaker model of a few thousand random weights, in the layout that transformers writes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector, WavLMModel

CONFIG = WavLMConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=48,
    conv_dim=(16, 16, 16),
    conv_kernel=(10, 8, 4),
    conv_stride=(10, 8, 4),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
    num_buckets=32,
    tdnn_dim=(32, 32, 48),
    tdnn_kernel=(3, 3, 1),
    tdnn_dilation=(1, 1, 1),
    xvector_output_dim=24,
    use_weighted_layer_sum=True,
)


def write_speaker_model(folder: Path) -> Path:
    torch.manual_seed(0)
    WavLMForXVector(CONFIG).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def write_model_without_x_vectors(folder: Path) -> Path:
    WavLMModel(CONFIG).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
