"""What people and machines get to see of an agent: its state, and why a file has not gone yet."""
