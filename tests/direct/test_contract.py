"""The Direct carrier keeps the contract of every carrier."""

from __future__ import annotations

from tests.contract_carrier import CarrierContract


class TestDirect(CarrierContract):
    """On moto, which knows checksums and versions."""
