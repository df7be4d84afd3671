"""Tests of decisions and values: what they check needs no clock, no network and no agent."""
