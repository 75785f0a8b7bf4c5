"""Safe printing of untrusted text on a terminal."""

import unicodedata

_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (such as text direction), surrogates, line separators


def escaped(text: str, keep: str = "") -> str:
    """Replace characters that are unsafe on a terminal, such as control characters, with Python's escape sequences.

    Characters in `keep` are not replaced.

    >>> escaped("kd\\x1b[2J\\n"), escaped("two\\nlines", keep="\\n"), escaped("Füße 猫")
    ('kd\\\\x1b[2J\\\\n', 'two\\nlines', 'Füße 猫')
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSAFE and character not in keep
        else character
        for character in text
    )
