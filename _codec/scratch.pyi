"""Room for the conversions of the native core; used from Cython only."""

from typing import final

@final
class Scratch: ...
