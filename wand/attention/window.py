"""The one definition of the attention window (WAND, section 2: global prefix, local generated tokens)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionWindow:
    """Which generated columns a generated column may attend to.

    A speech query at speech column ``i`` sees every real prefix column and the speech columns ``j`` with
    ``i - size < j <= i``. So `size` counts the query's own column, and prefix columns are never counted.
    Prefix queries are plain causal. While the mask is soft, a causal key outside the window stays visible with
    ``-tau`` added to its attention logit.

    Args:
        size: Speech columns in view, the query's own included; None is full causal attention.
        tau: Strength of the soft mask; None is the hard mask that inference uses.

    Raises:
        ValueError: If `size` is not positive, `tau` is negative, or `tau` is given without a window.
    """

    size: int | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"window {self.size} is not positive: give at least 1, or null for full attention")
        if self.tau is not None and self.tau < 0:
            raise ValueError(f"tau {self.tau} is negative: the soft mask subtracts tau >= 0 from attention logits")
        if self.tau is not None and self.size is None:
            raise ValueError(f"tau {self.tau} has no effect on full attention: give a window as well")

    @property
    def is_full(self) -> bool:
        """Whether this is plain causal attention."""
        return self.size is None

    def hard(self) -> AttentionWindow:
        """The same window with the mask that inference uses."""
        return AttentionWindow(self.size)
