"""Processing baselines of Sentinel-2, and the radiometric offset that each brings.

From baseline 04.00 on, in force since 2022-01-25, digital numbers carry an offset of 1000, so that dark pixels need no
negative numbers. Collection 1 (05.00) brought it to scenes of 2015 to 2021 too, so the date of a scene does not decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from sar1m.store.errors import SourceError

OFFSET_DN: Final = -1000
_WRITTEN: Final = re.compile(r"(\d{1,2})\.(\d{2}|0)|N(\d{2})(\d{2})", re.IGNORECASE)


class Baseline(NamedTuple):
    """A processing baseline as two numbers, compared as numbers: 05.09 is (5, 9) and older than 05.10."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major:02d}.{self.minor:02d}"


OFFSET_BASELINE: Final = Baseline(4, 0)
# To 05.11 by ESA's technical guide "Sentinel-2 processing baseline" and by the Copernicus Data Space's pages on the
# baselines of L1C and L2A; 05.12 and 05.13 by the names of its products (S2B_MSIL2A_20260225T095029_N0512_R079_T33TVF,
# S2C_MSIL2A_20260927T133931_N0513_R067_T28WDE).
KNOWN: Final = frozenset(
    [
        *(Baseline(2, minor) for minor in range(15)),
        *(Baseline(3, minor) for minor in (0, 1)),
        Baseline(4, 0),
        *(Baseline(5, minor) for minor in (0, 9, 10, 11, 12, 13)),
    ]
)
KNOWN_WORDS: Final = "02.00 to 02.14, 03.00, 03.01, 04.00, 05.00, 05.09 to 05.13"


def parse_baseline(text: str) -> Baseline | None:
    """The baseline of a text such as 05.09, 5.09, 4.0 or N0509; None for any other text.

    One digit after the point stands for no number but 0: 5.1 may be 05.01 or 05.10.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        return None
    return Baseline(int(match[1] or match[3]), int(match[2] or match[4]))


def known_baseline(text: str | None, where: str, remedy: str) -> Baseline:
    """The baseline of a text, of which it is known whether its digital numbers carry the offset.

    where: names the item in messages. remedy: how the user states the offset there.
    Raises SourceError where there is none, where the text is no baseline, and where it is not one of KNOWN: 99.99
    (N9999) and other numbers from 90 on mark products that were processed locally, for which nobody else can answer.
    """
    if text is None:
        raise SourceError(
            f"{where}: states no processing baseline, and its date does not decide (baseline 05.00 brought the offset "
            f"of 1000 to scenes of all years). Do its digital numbers carry the offset? {remedy}"
        )
    found = parse_baseline(text)
    if found is None:
        raise SourceError(f"{where}: processing baseline {text[:40]!r}; expected a form such as 04.00. {remedy}")
    if found not in KNOWN:
        fact = "marks a product processed locally" if found.major >= 90 else f"is not one of {KNOWN_WORDS}"
        raise SourceError(
            f"{where}: processing baseline {found} {fact}. Do its digital numbers carry the offset of 1000 that "
            f"baselines from 04.00 on have? {remedy}"
        )
    return found


def radiometric_offset_dn(baseline: Baseline) -> int:
    """The number to add to Sentinel-2 DN before division by 10000: -1000 from baseline 04.00 on, else 0.

    Source: Sentinel-2 products specification, S2-PDGS-TAS-DI-PSD 14.9, BOA_ADD_OFFSET and RADIO_ADD_OFFSET.
    """
    return OFFSET_DN if baseline >= OFFSET_BASELINE else 0


@dataclass(frozen=True, kw_only=True)
class StatedOffset:
    """What a description says of the radiometric offset of a product's digital numbers.

    where, remedy: as known_baseline takes them.
    baseline: as it is written; None where absent. named: that in the product's own name.
    offset_dn: the offset that is stated as such, in DN. harmonised: whether it is said to be applied already.
    """

    where: str
    remedy: str
    baseline: str | None = None
    named: str | None = None
    offset_dn: float | None = None
    harmonised: bool | None = None

    def to_add_dn(self) -> float:
        """What is still to be added to the digital numbers as they are stored.

        An offset that is stated counts before the baseline, and 0 where the numbers are said to be harmonised. Raises
        SourceError where two of the facts contradict each other, and as known_baseline does where it is needed.
        """
        if self.harmonised:
            if self.offset_dn not in (None, 0.0, float(OFFSET_DN)):
                raise self._contradiction(f"an offset of {self.offset_dn:g} DN", "an offset that is already applied")
            return 0.0
        if self.offset_dn is None:
            return float(radiometric_offset_dn(self._agreed()))
        found = None if self.baseline is None else parse_baseline(self.baseline)
        if found in KNOWN:
            rule = radiometric_offset_dn(found)
            if self.offset_dn != rule and (rule == 0 or self.harmonised is False):
                raise self._contradiction(f"an offset of {self.offset_dn:g} DN", f"baseline {found} ({rule} DN)")
        return self.offset_dn

    def _agreed(self) -> Baseline:
        """The baseline, which the product's name must not contradict."""
        found = known_baseline(self.baseline or self.named, self.where, self.remedy)
        named = None if self.named is None else parse_baseline(self.named)
        if named is not None and named != found:
            raise self._contradiction(f"baseline {found}", f"baseline {named} in the product's name")
        return found

    def _contradiction(self, one: str, other: str) -> SourceError:
        return SourceError(f"{self.where}: states {one} and {other}. {self.remedy}")
