"""Several instances of an application in one thread, with faults: one event loop per instance, in virtual time."""
