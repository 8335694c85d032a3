"""Labelling: labels from people, the source and labelling functions; errors; the review queue."""
