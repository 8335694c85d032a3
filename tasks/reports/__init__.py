"""Documents for people and other programs: pages, the model card, the bill of materials."""
