"""What a program shows of its scheduler to those who watch it: fields of log lines, metrics, traces.

Each module needs only what it is named after, and nothing here is imported unless the program does it.
"""
