"""Polygon, now Massive."""
