"""``python -m twin_actors.cli``: the command line where the script is not on the path."""

from twin_actors.cli import main

if __name__ == "__main__":
    main()
