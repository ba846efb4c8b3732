"""Numbers and times out of JSON's text, to the bit as Python reads them, compiled.

What is rare isn't read: more than 19 digits, results too small or too large, times that aren't
`2026-01-31T12:00:00Z` or nearly so. Then the position is -1, and Python has the word. All positions
are within b, below e.

Decimal to binary: D. Lemire, "Number Parsing at a Gigabyte per Second", 2021, with the table of
powers of five and the rounding of its library, fast_float.
"""

import numpy as np

from topics.compiled import entry, kernel
from topics.layout import U8, Num

DIGITS_MAX = 19  # so many always fit 64 bits
EXACT = 22  # 10 ** 22 is the last power of ten that a double holds
_EXPONENT_DIGITS = 4
_FIRST, _LAST = -342, 308  # exponents of ten: what lies outside is 0 or infinite
_WHOLE_MAX = 2**63 - 1
_DAY_US = 86_400_000_000
_MONTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
FLOAT_END = 2.0**128 - 2.0**103  # from here on a double is infinite as a float
_TENS = np.array([10.0**k for k in range(EXACT + 1)])


def _fifth_power(q: int) -> int:
    """The first 128 bits of 5 ** q; rounded up where that is a fraction."""
    power: int = 5 ** abs(q)
    if q >= 0:
        spare = 128 - power.bit_length()
        return power << spare if spare >= 0 else power >> -spare
    bits = (power - 1).bit_length()
    found = (1 << (bits + 127 if q >= -27 else 2 * bits + 128)) // power + 1
    return found >> max(0, found.bit_length() - 128)


_POWERS = [_fifth_power(q) for q in range(_FIRST, _LAST + 1)]
_HIGH = np.array([power >> 64 for power in _POWERS], np.uint64)
_LOW = np.array([power & (1 << 64) - 1 for power in _POWERS], np.uint64)


@kernel
def is_digit(c: Num) -> Num:
    """Whether a byte is 0-9."""
    return 48 <= c <= 57


@kernel
def _exponent(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """From behind an E: (position behind, exponent), or -1."""
    down = p < e and b[p] == 45
    p += p < e and (b[p] == 45 or b[p] == 43)
    v, first = np.int64(0), p
    while p < e and is_digit(b[p]) and p - first <= _EXPONENT_DIGITS:
        v = v * 10 + np.int64(b[p]) - 48
        p += 1
    if p == first or p - first > _EXPONENT_DIGITS:
        return np.int64(-1), np.int64(0)
    return p, -v if down else v


@entry
def number(b: U8, p: Num, e: Num) -> tuple[Num, Num, Num, Num, Num]:
    """A number by JSON's grammar: (position behind, negative, digits, exponent of ten, whole).

    Its value is digits * 10 ** exponent; `whole`: it has neither point nor exponent.
    """
    none = np.int64(-1), False, np.uint64(0), np.int64(0), False
    negative = p < e and b[p] == 45
    p += negative
    w, many, point, behind, first = np.uint64(0), np.int64(0), np.int64(-1), np.int64(0), p
    while p < e and (is_digit(b[p]) or (b[p] == 46 and point < 0)):
        if b[p] == 46:
            point = p
        else:
            if many == DIGITS_MAX:
                return none
            w = w * np.uint64(10) + np.uint64(b[p] - 48)
            many += np.int64(w > np.uint64(0))
            behind -= point >= 0
        p += 1
    before = (p if point < 0 else point) - first
    if before == 0 or (before > 1 and b[first] == 48) or point == p - 1:
        return none
    if p == e or (b[p] | 32) != 101:
        return p, negative, w, behind, point < 0
    p, exponent = _exponent(b, p + 1, e)
    return p, negative, w, behind + exponent, False


@kernel
def _times(x: Num, y: Num) -> tuple[Num, Num]:
    """The 128 bits of a product of two numbers of 64, as (high, low)."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    p00, p01, p10 = x0 * y0, x0 * y1, x1 * y0
    middle = (p00 >> half) + (p01 & low) + (p10 & low)
    high = x1 * y1 + (p01 >> half) + (p10 >> half) + (middle >> half)
    return high, (middle << half) | (p00 & low)


@kernel
def _normal(w: Num) -> tuple[Num, Num]:
    """w shifted until its highest bit is set, and by how many bits. w isn't 0."""
    shifted = np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        if w >> np.uint64(64 - step) == np.uint64(0):
            w <<= np.uint64(step)
            shifted += step
    return w, shifted


@entry
def _nearest(w: Num, q: Num) -> tuple[Num, Num]:
    """(whether it was found, the double nearest to w * 10 ** q). w isn't 0."""
    nothing = False, np.float64(0.0)
    if q < _FIRST or q > _LAST:
        return nothing
    w, zeros = _normal(w)
    high, low = _times(w, _HIGH[q - _FIRST])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more, _ = _times(w, _LOW[q - _FIRST])
        room = np.uint64(0xFFFFFFFFFFFFFFFF) - low
        if more > room:
            high, low = high + np.uint64(1), more - room - np.uint64(1)
        else:
            low += more
    if low == np.uint64(0xFFFFFFFFFFFFFFFF):
        return nothing  # the next bits, which the table lacks, would decide
    upper = np.int64(high >> np.uint64(63))
    shift = np.uint64(upper + 9)
    mantissa = high >> shift
    power = ((217_706 * q) >> 16) + 63 + upper - zeros + 1023
    if power <= 0:
        return nothing  # as small as to have fewer bits
    half_way = low <= np.uint64(1) and -4 <= q <= 23 and mantissa & np.uint64(3) == np.uint64(1)
    if half_way and mantissa << shift == high:
        mantissa &= ~np.uint64(1)  # between two: to the even one
    mantissa = (mantissa + (mantissa & np.uint64(1))) >> np.uint64(1)
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        power += 1
    if power >= 2047:
        return nothing
    bits = (mantissa & np.uint64((1 << 52) - 1)) | np.uint64(power) << np.uint64(52)
    return True, np.uint64(bits).view(np.float64)


@entry
def real(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """A finite number as a double: (position behind, value)."""
    p, negative, w, q, whole = number(b, p, e)
    if p < 0:
        return p, np.float64(0.0)
    if w == np.uint64(0):
        # Python's whole numbers have no negative zero.
        return p, np.float64(-0.0) if negative and not whole else np.float64(0.0)
    if w <= np.uint64(1 << 53) and -EXACT <= q <= EXACT:
        x = np.float64(w)
        x = np.float64(x * _TENS[q] if q >= 0 else x / _TENS[-q])
    else:
        found, x = _nearest(w, q)
        if not found:
            return np.int64(-1), np.float64(0.0)
    return p, -x if negative else x


@entry
def whole(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """A whole number, written as one, but for the least of 64 bits: (position behind, value)."""
    p, negative, w, _, is_whole = number(b, p, e)
    if p < 0 or not is_whole or w > np.uint64(_WHOLE_MAX):
        return np.int64(-1), np.int64(0)
    v = np.int64(w)
    return p, -v if negative else v


@kernel
def _digits(b: U8, p: Num, n: Num) -> Num:
    """The n digits at p, which the caller knows to be there, as a number; -1: others are there."""
    v = np.int64(0)
    for j in range(p, p + n):
        if not is_digit(b[j]):
            return np.int64(-1)
        v = v * 10 + np.int64(b[j]) - 48
    return v


@entry
def _date(b: U8, p: Num) -> Num:
    """Days since 1970 of the YYYY-MM-DD at p, ten bytes that are there; below -800,000: none.

    H. Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    """
    none = np.int64(-1_000_000)
    year, month, day = _digits(b, p, 4), _digits(b, p + 5, 2), _digits(b, p + 8, 2)
    if b[p + 4] != 45 or b[p + 7] != 45 or year < 2 or year > 9998:
        return none
    if month < 1 or month > 12 or day < 1:
        return none
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _MONTHS[month] + leap:
        return none
    y = year - (month <= 2)
    era = y // 400
    yoe = y - era * 400
    doy = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719_468


@entry
def _zone(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """(whether b[p:e] is a time zone: Z, or +HH:MM; minutes before UTC)."""
    if e - p == 1:
        return b[p] == 90, np.int64(0)
    if e - p != 6 or b[p + 3] != 58 or (b[p] != 43 and b[p] != 45):
        return False, np.int64(0)
    hours, minutes = _digits(b, p + 1, 2), _digits(b, p + 4, 2)
    off = hours * 60 + minutes
    return 0 <= hours <= 23 and 0 <= minutes <= 59, -off if b[p] == 45 else off


@entry
def time(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """(whether b[p:e] is a date, T or a blank, a time and its zone; microseconds since 1970)."""
    none = False, np.int64(0)
    if e - p < 20 or (b[p + 10] != 84 and b[p + 10] != 32) or b[p + 13] != 58 or b[p + 16] != 58:
        return none
    days = _date(b, p)
    hour, minute, second = _digits(b, p + 11, 2), _digits(b, p + 14, 2), _digits(b, p + 17, 2)
    if days < -800_000 or not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return none
    p += 19
    micros, unit = np.int64(0), np.int64(100_000)
    if b[p] == 46:
        p += 1
        first = p
        while p < e and is_digit(b[p]) and unit > 0:
            micros += unit * (np.int64(b[p]) - 48)
            unit //= 10
            p += 1
        if p == first or p >= e:
            return none
    good, ahead = _zone(b, p, e)
    seconds = (hour * 60 + minute - ahead) * 60 + second
    return good, days * _DAY_US + seconds * 1_000_000 + micros
