"""Which variant of an experiment a unit (a seller, say) belongs to. Pure and sticky.

The one copy: the service's ``split`` and ``platehide experiment assign`` both call it, so a
log can be checked against the plan afterwards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from platehide.errors import UsageError

_SHARE_TOLERANCE = 1e-6


def check_variants(variants: Mapping[str, float]) -> dict[str, float]:
    """Return ``variants`` (name → share) as floats.

    Raises:
        UsageError: fewer than two names, an empty name, a share outside 0…1 or a sum that is
            not 1.
    """
    if len(variants) < 2:
        raise UsageError(f"an experiment needs two or more variants, got {list(variants)}")
    shares: dict[str, float] = {}
    for name, share in variants.items():
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"a variant needs a name, got {name!r}")
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise UsageError(f"variant {name}: the share is a number, got {share!r}")
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"variant {name}: the share lies in 0…1, got {share}")
        shares[name] = float(share)
    total = math.fsum(shares.values())
    if abs(total - 1.0) > _SHARE_TOLERANCE:
        raise UsageError(f"the variants' shares add up to {total:g}, not 1")
    return shares


def uniform(*parts: str) -> float:
    """A number in the open interval (0, 1) that depends on ``parts`` alone.

    SHA-256 over the length-prefixed parts, so that ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    # 52 bits and a half: exactly representable, never 0 and never 1.
    return ((int.from_bytes(digest.digest()[:8], "big") >> 12) + 0.5) / 2.0**52


def assign(
    experiment: str,
    unit: str,
    variants: Mapping[str, float],
    *,
    salt: str = "",
    traffic: float = 1.0,
) -> str | None:
    """The variant of ``unit``, or ``None`` where the unit takes no part.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and
    Schomaker 2005): each variant draws an exponential waiting time with its share as rate, the
    first one wins. The answer does not depend on the variants' order, and when shares change a
    unit moves only towards a variant whose share has grown, so a ramp 5 → 25 → 50 % is sticky.

    Args:
        experiment: name of the experiment; another name is an independent draw.
        unit: id of the unit, exactly as it is logged.
        variants: name → share; the shares add up to 1.
        salt: makes the draw unpredictable for outsiders, or a re-run independent.
        traffic: share (0…1) of units that take part; raising it moves nobody.

    Raises:
        UsageError: the unit or the experiment is empty, or shares or traffic make no sense.
    """
    shares = check_variants(variants)
    if not unit:
        raise UsageError("the unit's id is empty")
    if not experiment:
        raise UsageError("the experiment's name is empty")
    if not 0.0 <= traffic <= 1.0:
        raise UsageError(f"traffic lies in 0…1, got {traffic}")
    if uniform("traffic", salt, experiment, unit) >= traffic:
        return None
    waits = {
        name: -math.log(uniform("variant", salt, experiment, name, unit)) / share
        for name, share in shares.items()
        if share > 0.0
    }
    return min(waits, key=lambda name: (waits[name], name))
