"""What can go wrong between a client and a server, beside the errors of the standard library."""


class Refused(ValueError):
    """The server has understood and does not take the request; asking again changes nothing."""


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
