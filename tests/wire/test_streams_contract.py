"""The Streams carrier keeps the contract of every carrier."""

from __future__ import annotations

import pytest

from tests.contract_carrier import CarrierContract, odd_names_arrive


class TestStreams(CarrierContract):
    """On a Stream Manager that reports errors and goes on, and takes file names as they are."""


@pytest.mark.rig(percent_decode=True)
def test_files_of_odd_names_arrive_also_when_stream_manager_decodes_percent_signs(depot):
    odd_names_arrive(depot)
