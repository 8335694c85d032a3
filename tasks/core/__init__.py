"""What every package builds on: errors, settings, a stage's entry point."""
