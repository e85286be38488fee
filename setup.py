"""Builds the native core. BRIDGE_SANITIZE=1 adds ASan and UBSan, BRIDGE_ANNOTATE=1 writes Cython's HTML."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = os.environ.get("BRIDGE_SANITIZE") == "1"
COMPILE_ARGS = ["-O3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-ffp-contract=off"]
LINK_ARGS = []
# Its loop looks bytes up in tables: as a vector, it moves them about for longer than that takes.
ARGS_OF = {"speech_meter": ["-fno-tree-vectorize"]}
if SANITIZE:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    COMPILE_ARGS += [*flags, "-O1", "-g", "-fno-omit-frame-pointer"]
    LINK_ARGS += flags

extensions = [
    Extension(
        f"_codec.{name}",
        [f"_codec/{name}.pyx"],
        extra_compile_args=[*COMPILE_ARGS, *ARGS_OF.get(name, [])],
        extra_link_args=LINK_ARGS,
    )
    for name in (
        "g711",
        "resample",
        "transcode",
        "held_budget",
        "scratch",
        "frame_ring",
        "media_json",
        "base64_text",
        "speech_meter",
        "call_audio",
        "loudness",
        "recorder",
        "frame_writer",
        "socket_set",
        "socket_reader",
        "peer",
        "websocket",
        "audio_writer",
        "wire",
        "playout",
        "handshake",
        "tls_memory",
    )
]

setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions,
        annotate=os.environ.get("BRIDGE_ANNOTATE") == "1",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
        },
    ),
)
