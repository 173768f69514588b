"""One process: when a tick is due, whether it runs, and how it ends."""
