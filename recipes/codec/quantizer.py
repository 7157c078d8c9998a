"""Training of EnCodec's residual codebooks. The model in transformers implements only their inference."""

from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.encodec.modeling_encodec import EncodecEuclideanCodebook as Codebook
from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer as Quantizer

DECAY = 0.99
# A code that is chosen less often than this (average per step) is dead and is reset to a latent of the batch.
DEAD_BELOW = 0.3


def codebooks(quantizer: Quantizer) -> list[Codebook]:
    """The codebooks of a quantiser of transformers, coarse to fine."""
    return [cast(Codebook, layer.codebook) for layer in quantizer.layers]


def whiteness(latents: Tensor) -> Tensor:
    """Distance of latents `[B, D, T]` from zero mean and identity covariance.

    Without this loss, a few directions of the latents grow without bound and dominate the codebooks.
    """
    flat = latents.transpose(1, 2).flatten(0, 1)
    mean = flat.mean(0)
    covariance = (flat - mean).T @ (flat - mean) / len(flat)
    identity = torch.eye(len(covariance))
    return mean.square().mean() + (covariance - identity).square().sum() / len(covariance)


@torch.no_grad()
def kmeans_init(quantizer: Quantizer, latents: Tensor, generator: torch.Generator) -> None:
    """Set every codebook to k-means centres of the residual that the codebooks before it leave.

    Args:
        quantizer: The quantiser of transformers. It is changed in place.
        latents: Encoder outputs `[M, D]`; M must be at least the codebook size.
        generator: Random number generator for the initial centres.
    """
    residual = latents
    for book in codebooks(quantizer):
        size = book.codebook_size
        chosen = torch.randperm(len(residual), generator=generator)[:size]
        book.embed.copy_(residual[chosen])
        for _ in range(12):
            indices = book.quantize(residual)
            counts = torch.bincount(indices, minlength=size).float()
            sums = torch.zeros_like(book.embed).index_add_(0, indices, residual)
            means = sums / counts[:, None].clamp(min=1.0)
            book.embed.copy_(torch.where(counts[:, None] > 0, means, book.embed))
        book.cluster_size.fill_(1.0)
        book.embed_avg.copy_(book.embed)
        residual = residual - nn.functional.embedding(book.quantize(residual), book.embed)


@torch.no_grad()
def _update(book: Codebook, residual: Tensor, indices: Tensor, generator: torch.Generator) -> None:
    """Update the moving averages by one step and reset dead codes."""
    counts = torch.bincount(indices, minlength=book.codebook_size).float()
    sums = torch.zeros_like(book.embed).index_add_(0, indices, residual)
    book.cluster_size.lerp_(counts, 1.0 - DECAY)
    book.embed_avg.lerp_(sums, 1.0 - DECAY)
    dead = torch.nonzero(book.cluster_size < DEAD_BELOW).flatten()
    if len(dead):
        chosen = torch.randint(len(residual), (len(dead),), generator=generator)
        book.embed_avg[dead] = residual[chosen]
        book.cluster_size[dead] = 1.0
    book.embed.copy_(book.embed_avg / book.cluster_size[:, None])


def quantize(quantizer: Quantizer, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise with a straight-through gradient and move the codebooks towards the latents.

    Args:
        quantizer: The quantiser of transformers. Its codebooks are updated in place.
        latents: Encoder outputs `[B, D, T]`.
        generator: Random number generator for the reset of dead codes.

    Returns:
        The quantised latents `[B, D, T]`, the part of the first codebook `[B, D, T]`, and the commitment loss.
    """
    batch, width, frames = latents.shape
    residual = latents.transpose(1, 2).reshape(-1, width)
    parts = []
    commitment = residual.new_zeros(())
    for book in codebooks(quantizer):
        with torch.no_grad():
            indices = book.quantize(residual)
            chosen = nn.functional.embedding(indices, book.embed)
        commitment = commitment + nn.functional.mse_loss(residual, chosen)
        _update(book, residual.detach(), indices, generator)
        parts.append(chosen.view(batch, frames, width).transpose(1, 2))
        residual = residual - chosen
    quantized, first = (latents + (part - latents).detach() for part in (sum(parts, parts[0].new_zeros(())), parts[0]))
    return quantized, first, commitment
