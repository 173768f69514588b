"""The base of every wing: the clock, public values, checks of arguments, text."""
