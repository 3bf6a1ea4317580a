"""One way to name an extension: a name, a config with overrides, or the thing itself."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any


def nearest(name: str, known: Any) -> str:
    """Returns the sentence that lists `known` and, if there is one, the nearest match."""
    known = sorted(str(k) for k in known)
    match = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {match[0]!r}?" if match else ""
    return f"Known: {', '.join(known) or 'none'}.{hint}"


def resolve(identifier: Any, table: Mapping[str, Any], family: str) -> tuple[Callable, dict]:
    """Returns `(factory, overrides)` for an identifier of a family.

    Args:
        identifier: a key of `table`, or a dict `{"name": key, **overrides}`.
        table: the family's literal dict, name -> class or function.
        family: what to call the family in an error, e.g. "fusion".

    Raises:
        ValueError: the name is unknown; the text lists the known ones and the nearest match.
        TypeError: the identifier is neither a name nor a config.

    >>> resolve({"name": "half", "of": 4}, {"half": lambda of: of / 2}, "maths")[1]
    {'of': 4}
    """
    overrides = {}
    if isinstance(identifier, Mapping) and isinstance(identifier.get("name"), str):
        overrides = {k: v for k, v in identifier.items() if k != "name"}
        identifier = identifier["name"]
    if not isinstance(identifier, str):
        raise TypeError(
            f"A {family} must be a name, a dict {{'name': ..., **arguments}} or an instance. "
            f"Received: {identifier!r} (of type {type(identifier).__name__}). "
            f"{nearest('', table)}"
        )
    if identifier not in table:
        raise ValueError(
            f"Unknown {family} {identifier!r}. {nearest(identifier, table)} "
            "To use your own, pass the instance itself."
        )
    return table[identifier], overrides
