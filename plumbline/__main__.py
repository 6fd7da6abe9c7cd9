"""``python -m plumbline``: the command line."""

from plumbline.analysis.cli import main

if __name__ == "__main__":
    main()
