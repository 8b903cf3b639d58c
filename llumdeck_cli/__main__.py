"""``python -m llumdeck_cli``."""

from llumdeck_cli.commands import main

if __name__ == "__main__":
    main(prog_name="llumdeck")
