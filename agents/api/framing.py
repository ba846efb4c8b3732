"""Where a request's body ends: said once, in one way, or the request is refused.

A server in front may go by the other of two lengths, and take for another request what is the body
of this one here (request smuggling). RFC 9112, 6.1: a request with Content-Length and Transfer-
Encoding may be refused, and the connection must be closed. h11 goes by Transfer-Encoding and keeps
the connection, and makes one of a Content-Length that is given twice.
"""

import h11


class Connection(h11.Connection):
    """The server's side of a connection. What `misframed` names is answered 400, and closed."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As h11's; `h11.RemoteProtocolError` for a head that is misframed."""
        before = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        event = super().next_event()
        if isinstance(event, h11.Request):
            head = before[: len(before) - len(self.trailing_data[0])]
            if why := misframed(head, event.http_version):
                raise h11.RemoteProtocolError(why, error_status_hint=400)
        return event


def misframed(head: bytes, version: bytes) -> str:
    """What is wrong with a head's Content-Length and Transfer-Encoding; empty: nothing."""
    fields = [line.partition(b":") for line in head.split(b"\n")[1:]]
    lengths = [value for name, _, value in fields if name.strip().lower() == b"content-length"]
    coded = any(name.strip().lower() == b"transfer-encoding" for name, _, _ in fields)
    if len(lengths) > 1 or any(b"," in value for value in lengths):
        return "Content-Length is given twice"
    if coded and lengths:
        return "both Content-Length and Transfer-Encoding are given"
    if coded and version != b"1.1":
        return "HTTP/1.0 has no Transfer-Encoding"
    return ""
