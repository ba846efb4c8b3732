"""A proxy on loopback before a server: it can go deaf, and keeps its connections open then."""

import asyncio

from ops.prove.between import Between, Ends, Way


class Deaf(Between):
    """While `deaf`, what the server says doesn't arrive; nothing is closed."""

    deaf = False

    def ways(self, client: Ends, server: Ends) -> tuple[Way, Way]:
        return self._carry(client[0], server[1], False), self._carry(server[0], client[1], True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if not (answers and self.deaf):
                writer.write(data)
                await writer.drain()
