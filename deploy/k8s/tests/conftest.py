"""Options of these tests, and what they all look at."""

import pytest

from manifests import VARIANTS, build


def pytest_addoption(parser):
    parser.addoption("--metrics-of", action="append", default=[], metavar="N=URL or P=URL", help="a running node's or proxy's /metrics")


@pytest.fixture(params=VARIANTS)
def m(request):
    """The manifests, in each variant."""
    return build(request.param)
