"""Roman numerals."""

_PAIRS = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
          (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


def roman(n: int) -> str:
    """Return n as a Roman numeral; n must be 1 to 3999."""
    if not 1 <= n <= 3999:
        raise ValueError(f"{n} has no Roman numeral")
    out = ""
    for value, letters in _PAIRS:
        count, n = divmod(n, value)
        out += letters * count
    return out
