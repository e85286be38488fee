import asyncio

import aiofastnet

def give_back(transport: asyncio.Transport | aiofastnet.Transport) -> None: ...
