"""Tuning: a search for better values of the recipe's section `train`."""
