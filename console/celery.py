"""The Celery application: two queues, ``loop`` (one long-lived task) and ``jobs``."""

from celery import Celery

from console.settings.env import use_default_profile

use_default_profile()

app = Celery("llumdeck")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
