"""A small server that devices call outside Greengrass: the extra `mothership`.

The agent imports nothing of this.
"""
