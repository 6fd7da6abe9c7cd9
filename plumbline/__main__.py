"""``python -m plumbline``: the command line."""

from plumbline.analysis.commands.app import main

if __name__ == "__main__":
    main()
