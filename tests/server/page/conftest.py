"""One Chromium for all tests of the page."""

import pytest
from chromium import chromium


@pytest.fixture(scope="package")
def browser(tmp_path_factory):
    """The URL of a Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium")) as url:
        yield url
