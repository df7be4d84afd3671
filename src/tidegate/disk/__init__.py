"""Files on this machine: finding them, knowing who writes them, letting them go."""
