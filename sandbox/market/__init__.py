"""Prices of the sample servers: recorded, generated or from a file. Not part of the image."""
