"""Energy, progress and training curves: what people watch. Nothing here changes an output."""
