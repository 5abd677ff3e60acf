"""Fixtures of several test files."""

import sys

import pytest
from hypothesis import HealthCheck, settings

from imagescape.cli import app as cli

# How long an example takes is not what a test is about, and says nothing on a machine that is busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def run(monkeypatch, capfd):
    """Call the program in this process: run("info", folder) -> (exit code, stdout, stderr)."""
    monkeypatch.delenv("IMAGESCAPE_DEBUG", raising=False)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["imagescape", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def fails(run):
    """The one line on stderr of a call that must end with 2 and print nothing else."""

    def call(*arguments):
        code, out, err = run(*arguments)
        lines = [line for line in err.splitlines() if ": 0/" not in line and "images/s" not in line]
        lines = [line for line in lines if line.startswith("imagescape:") or "/s" not in line]  # but for progress
        assert (code, out) == (2, ""), err
        assert len(lines) == 1, err
        assert lines[0].startswith("imagescape: ")
        assert "Traceback" not in err
        return lines[0]

    return call
