"""One machine, embedded Redis and SQLite: what ``make up`` runs."""

from console.settings import env
from console.settings.base import *  # noqa: F403

DEBUG = env.boolean("LLUMDECK_DEBUG", False)
