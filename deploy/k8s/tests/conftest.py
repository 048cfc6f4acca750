"""Options of these tests."""


def pytest_addoption(parser):
    parser.addoption("--metrics-of", action="append", default=[], metavar="N=URL or P=URL", help="a running node's or proxy's /metrics")
