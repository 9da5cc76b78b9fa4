"""The short form of `make faults`: a few of each kind of fault, zero failures, and the fault was met."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import disks
import kills
import photographs
import sessions
import study as studies

import pages


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    before = studies.prepare()
    yield studies.make(tmp_path_factory.mktemp("faults"), patients=36)
    before()


def test_kills(study):
    for step in ("ingest", "train"):
        row = kills.kills(study, step, 3)
        assert row.good, row


def test_full_disk_and_limit(study):
    if disks.can_mount():
        for row in disks.full_disk(study, (0.3,), ("embed",)):
            assert row.good, row
    for row in disks.size_limit(study, (0.3,), ("score",)):
        assert row.good, row


def test_flips_and_cuts(study, monkeypatch):
    for row in pages.damage(study, 30, pages_every=10):
        assert row.good, row


def test_readers_while_artifacts_come_and_go(study):
    for row in sessions.readers(study, n=6, seconds=2.0):
        assert row.good, row


def test_bad_pictures(study):
    for row in photographs.bad(1):
        assert row.good, row
