"""Kernels of processors that this worker doesn't run: compiled before a job folds, and told.

Workers compile those of their own processors before they are ready. One that runs `replay` alone
may be asked for any: on a machine (or in an image) where `soma warm` has never run that takes
minutes once, in a process of its own, so that nothing else in this one waits.
"""

import asyncio
from collections.abc import AsyncGenerator

from agents.engine.compiling import Compiling, CompilingError, missing
from agents.replay.modes import JobFailedError
from topics.connection import heard

TELL_S = 0.5  # between two words of how far it is


async def compiled_first(name: str) -> AsyncGenerator[str, None]:
    """Compile what lacks of a processor; gives what is to be said meanwhile, and at last nothing.

    JobFailedError.
    """
    lacking = await asyncio.to_thread(missing, [name])
    if not lacking:
        return
    compiling = Compiling(lacking, 1)  # live traffic needs the other cores
    task = asyncio.ensure_future(asyncio.to_thread(compiling.wait, lambda *_: None, TELL_S))
    task.add_done_callback(heard)
    try:
        while not (await asyncio.wait({task}, timeout=TELL_S))[0]:
            done, known = compiling.progress
            yield (
                f"compiling the kernels of {name} first, {done} of {known}: nobody has here; "
                "`soma warm` does it ahead"
            )
        task.result()
        yield ""
    except CompilingError as error:
        raise JobFailedError(str(error)) from error
    finally:
        compiling.close()
