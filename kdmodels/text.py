"""Names from elsewhere as text that a terminal shows and does not obey."""

import unicodedata

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (also direction), half characters, line separators


def escaped(text: str, keep: str = "") -> str:
    """Return a text with every control character written as Python writes it, but for those to keep.

    >>> escaped("kd\\x1b[2J\\n"), escaped("two\\nlines", keep="\\n"), escaped("Füße 猫")
    ('kd\\\\x1b[2J\\\\n', 'two\\nlines', 'Füße 猫')
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _OBEYED and character not in keep
        else character
        for character in text
    )
