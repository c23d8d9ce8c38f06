"""A local web page on an index: drop a file, see and hear what is near."""
