#!/usr/bin/env python
"""Django's command line for Llumdeck."""

import sys

from django.core.management import execute_from_command_line

from console.settings.env import use_default_profile

if __name__ == "__main__":
    use_default_profile()
    execute_from_command_line(sys.argv)
