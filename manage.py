#!/usr/bin/env python
"""Django's command line for Llumdeck."""

import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from console.settings.env import use_default_profile

if __name__ == "__main__":
    use_default_profile()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))  # a setting is wrong: its sentence, not Django's whole way there
