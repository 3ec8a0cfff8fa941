"""The GPU path: camera bytes go to the device once, labels come back once."""
