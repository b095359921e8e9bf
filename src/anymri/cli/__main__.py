"""``python -m anymri.cli``: the command where its script is not on the path."""

from anymri.cli.app import main

if __name__ == "__main__":
    main()
