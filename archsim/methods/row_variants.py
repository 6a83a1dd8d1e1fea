"""What the published direct-sparse code ran, and when: the variants of the ``row`` schedule.

Source: history of the SkimCaffe repository (IntelLabs/SkimCaffe, kernels in sconv.hpp), the
code behind Park et al., ICLR 2017.  The block rule and the place of the partial sums changed
several times in 2016; a measured figure can only be modelled with the variant that it ran.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from archsim.errors import input_error
from archsim.plan import Target


@dataclass(frozen=True, slots=True)
class RowVariant:
    """One period of the published code.

    Attributes
    ----------
    rule : {"fixed", "nonzeros"}
        Width of a column block: so many input channels, or channels for about so many nonzeros
        per output channel.
    size : int
        Channels (fixed) or nonzeros per output channel.
    spill : {"scratch", "output"}
        Where partial sums wait between column blocks: an aligned scratch of the thread, or the
        output array itself, unaligned.
    core_shares_image : bool
        The hardware threads of a core share one image and split its output-channel blocks.
    period : str
        Commits between which the code was so.
    """

    rule: Literal["fixed", "nonzeros"]
    size: int
    spill: Literal["scratch", "output"]
    core_shares_image: bool
    period: str

    def channel_block(self, group_channels: int, nonzeros_per_row: float) -> int:
        """Return the input channels of a column block."""
        if self.rule == "fixed":
            return min(self.size, group_channels)
        if nonzeros_per_row <= 0:
            return group_channels
        # a row with few nonzeros wants more channels than there are
        wanted = group_channels * min(1.0, self.size / max(nonzeros_per_row, 1e-9))
        block = 1 << round(math.log2(max(wanted, 1.0)))
        limit = group_channels if self.size >= 32 else max(1, group_channels // 2)
        block = max(min(8, group_channels), min(block, limit))
        while group_channels % block:
            block += 1
        return block


VARIANTS: Final[Mapping[str, RowVariant]] = {
    "row:fixed32": RowVariant(
        "fixed", 32, "scratch", False, "AVX2: 7b7e6380 (2016-05-23) to 37aec70d (2016-10-07)"
    ),
    "row:fixed32-output": RowVariant(
        "fixed", 32, "output", False, "SSE: 7b7e6380 (2016-05-23) to 37aec70d (2016-10-07)"
    ),
    "row:dyn8": RowVariant(
        "nonzeros", 8, "scratch", False, "37aec70d, 0515a4e9 (2016-10-07) to 97f4b403"
    ),
    "row:dyn32": RowVariant(
        "nonzeros", 32, "scratch", False, "since 97f4b403, a7a1b5aa (2016-10-09)"
    ),
    "row:dyn32-shared": RowVariant(
        "nonzeros", 32, "scratch", True,
        "AVX-512: 97f4b403 (2016-10-09) to 1c794baf (2017-01-23), four threads a core on one image",
    ),
}  # fmt: skip

#: Bare ``row``, by SIMD lanes: the variant that the published figure most likely ran on that
#: kind of machine.  4 lanes (Atom) and 8 lanes (Xeon) were in the first arXiv versions, of the
#: fixed-32 period; measured cost per nonzero on the Xeon stays flat up to density 0.42, which
#: the later rule would not give.  16 lanes (Xeon Phi) came with the November 2016 version.
LIKELY_PUBLISHED: Final[Mapping[int, str]] = {
    4: "row:fixed32-output",
    8: "row:fixed32",
    16: "row:dyn32-shared",
}


def row_variant(schedule: str, target: Target) -> tuple[str, RowVariant]:
    """Resolve ``auto``, ``row`` or a variant's full name; return (full name, variant).

    Raises
    ------
    InputError
        Unknown schedule.
    """
    if schedule in ("auto", "row"):
        lanes = max((n for n in LIKELY_PUBLISHED if n <= target.lanes), default=4)
        schedule = LIKELY_PUBLISHED[lanes]
    try:
        return schedule, VARIANTS[schedule]
    except KeyError:
        raise input_error(
            "schedule of direct_sparse",
            "unknown schedule",
            found=schedule,
            allowed=", ".join(["auto", "row", *VARIANTS]),
            near=(schedule, VARIANTS),
        ) from None
