"""The only modules that speak to stores. They know nothing of agents."""

import os

# Python's TLS contexts (of httpx, aiohttp, redis) would write the keys of their sessions there.
os.environ.pop("SSLKEYLOGFILE", None)
