"""A small server of OpenAI's POST /v1/embeddings on 127.0.0.1, which can fail as real ones do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agents.recall.embedding import HashedNgrams
from agents.recall.remote import PLAIN

LIMIT_S = 30.0
DRIP_S = 0.01
UNFIT = "no vector"  # in a text: refused
SECRET = "Bearer sk-1 said: a secret of another tenant"  # in answers


class EmbeddingServer:
    """Vectors of hashed n-grams, `scale` times as long, under whatever name a model is asked by."""

    def __init__(self, dimension: int) -> None:
        self.made = HashedNgrams(dimension)
        self.status, self.raw = 200, b""  # answered instead
        self.breaks: Callable[[str], bool] = lambda text: False  # a 500 of all that is asked with
        self.most = 10**9  # characters of a call, else likewise
        self.drips = ""  # "headers" or "body": a byte of them every DRIP_S, without an end
        self.held: threading.Event | None = None  # until which no text but PLAIN is answered
        self.asked: list[list[str]] = []
        self.told: list[dict[str, Any]] = []  # headers and model of each call
        self.url = ""

    def answer(self, body: dict[str, Any], headers: Any) -> tuple[int, bytes]:
        texts = body["input"]
        self.asked.append(texts)
        self.told.append({"model": body["model"], "authorization": headers["authorization"]})
        if self.status != 200 or self.raw:
            return self.status, self.raw or SECRET.encode()
        if self.held is not None and texts != [PLAIN]:
            assert self.held.wait(LIMIT_S), "nobody let go"
        if any(map(self.breaks, texts)) or sum(map(len, texts)) > self.most:
            return 500, SECRET.encode()
        if any(UNFIT in text for text in texts):
            return 400, SECRET.encode()
        rows = [
            {"object": "embedding", "index": k, "embedding": (3 * self.made.embed(one)).tolist()}
            for k, one in enumerate(texts)
        ]
        whole = {"object": "list", "data": rows[::-1], "model": body["model"]}
        return 200, json.dumps(whole).encode()


@contextmanager
def serving(dimension: int = 64) -> Iterator[EmbeddingServer]:
    """The server, until the block ends."""
    own, ended = EmbeddingServer(dimension), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found = self.path == "/v1/embeddings"
            status, text = own.answer(json.loads(body), self.headers) if found else (404, b"{}")
            if own.drips:
                self.drip()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def drip(self) -> None:
            """Until the client has enough, or the test."""
            self.close_connection = True
            head = b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if own.drips == "body" else b"X: ")
            with suppress(OSError):
                self.wfile.write(head)
                while not ended.wait(DRIP_S):
                    self.wfile.write(b" ")

        def log_message(self, *args: Any) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        own.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield own
        finally:
            ended.set()
            server.shutdown()
            thread.join(LIMIT_S)
