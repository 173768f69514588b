"""Several instances: which of them runs a tick, and for how long it may."""
