"""The times of a series' points as a picture's axis needs them."""

from agents.tools.envelope import Envelope
from agents.tools.pictures import Axis
from agents.tools.seriesfile import Series

UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # microseconds
FIRST_YEAR, LAST_YEAR = 946_684_800, 4_102_444_800  # 2000 and 2100, seconds since 1970


class Clock:
    """Collects the times, at a picture's resolution."""

    def __init__(self) -> None:
        self._times = Envelope()

    def push(self, ts: int) -> None:
        """The time of the next point, in microseconds."""
        self._times.push(ts / 1e6)

    def axis(self, series: Series) -> Axis | None:
        """None where the file has no times, or some that an axis can't have: words, going back.

        Numbers that aren't times between 2000 and 2100 stay numbers.
        """
        seen = series.seen
        if not series.time_column or seen.words or seen.backwards or not seen.points:
            return None
        x, _, _, at = self._times.curves()
        if not series.unit or FIRST_YEAR <= at[0] <= LAST_YEAR:
            return Axis(f"{series.time_column}, UTC", x, at, dated=True)
        scale = 1e6 / UNITS[series.unit]
        return Axis(f"{series.time_column} ({series.unit})", x, at * scale, dated=False)
