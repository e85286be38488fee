import asyncio
from collections.abc import Callable
from typing import final

from picows import WSListener

from _codec.wire import Wire

@final
class Handshake(WSListener):
    def __init__(self, wire: Wire, on_open: Callable[[asyncio.Transport], None]) -> None: ...
