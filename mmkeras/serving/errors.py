"""What can go wrong between a client and a server, beside the errors of the standard library."""

from collections.abc import Iterable, Mapping
from typing import Any


class Refused(ValueError):
    """The server has understood and does not take the request; asking again changes nothing."""


class Outdated(RuntimeError):
    """The server's model has other inputs or outputs than the metadata promised."""


def expected(answer: Mapping[str, Any], outputs: Iterable[str]) -> Mapping[str, Any]:
    """Returns the answer, or raises `Outdated` where an output is missing."""
    missing = sorted(set(outputs) - set(answer))
    if missing:
        raise Outdated(
            "The answer must hold the outputs of the model's metadata. Received: "
            f"{sorted(answer)}, without {missing}. The server may be changing the version: ask "
            "again, or name one by `version`."
        )
    return answer


def wrong(kind: str, where: str, text: str) -> Exception:
    """Returns the error for an answer of the server.

    Args:
        kind: "refused", "unknown" (no such model or version), "busy" (asking again may help),
            "late", or "broken" (an error inside the server).
        where: URL or address, for the message.
        text: the server's own message.
    """
    make, hint = {
        "refused": (Refused, "The request does not fit the model."),
        "unknown": (LookupError, "Check name and version, and the server's log."),
        "busy": (ConnectionError, "Is the server up, and the port right?"),
        "late": (TimeoutError, "Give the client more `timeout`, or a smaller `batch_size`."),
        "broken": (RuntimeError, "See the server's log."),
    }[kind]
    return make(f"{where} answered: {text.strip().rstrip('.') or kind}. {hint}")
