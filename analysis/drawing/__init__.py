"""Drawing: what a figure shows, and how it looks."""
