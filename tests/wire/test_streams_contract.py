"""The Streams carrier keeps the contract of every carrier."""

from __future__ import annotations

import pytest

from tests.contract_carrier import CarrierContract, odd_names_arrive


class TestStreams(CarrierContract):
    """On a Stream Manager that reports errors and goes on, and takes file names as they are."""


@pytest.mark.rig(percent_decode=True)
def test_files_of_odd_names_arrive_also_when_stream_manager_decodes_percent_signs(depot):
    odd_names_arrive(depot)


def test_links_are_kept_for_what_is_under_way_and_for_nothing_else(depot):
    links = depot.root / "links"
    depot.rig.hold()
    waiting = depot.send("under way.csv")
    depot.hand_over()
    (links / ("ab" * 16)).symlink_to(depot.files)  # of one who died before it could remove it
    depot.restart()
    assert [link.name for link in links.iterdir()] == [waiting.id.hex()]
    depot.rig.let_go()
    depot.settle()
    assert list(links.iterdir()) == []
    assert depot.content(waiting) == b"content"
