"""A small server that devices call outside Greengrass: the extra `tidegate[mothership]`.

The agent imports nothing of this.
"""
