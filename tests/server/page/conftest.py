"""One Chromium for all tests of the page."""

import pytest
from chromium import chromium
from recording import write_wav


@pytest.fixture(scope="package")
def browser(tmp_path_factory):
    """The URL of a Chromium whose microphone plays a recording, and which takes voice.example.com for this machine."""
    folder = tmp_path_factory.mktemp("chromium")
    write_wav(folder / "microphone.wav")
    with chromium(
        folder,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder}/microphone.wav",
        "--host-resolver-rules=MAP voice.example.com 127.0.0.1",
    ) as url:
        yield url
