"""``python -m kaiju_app``: the command line."""

from kaiju_app.cli import main

if __name__ == "__main__":
    main()
