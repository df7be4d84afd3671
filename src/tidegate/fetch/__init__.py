"""Objects that are brought to this device and kept as the bucket has them."""
