"""ASGI entry: Django for HTTP, Channels for the live dashboard's WebSocket."""

import warnings

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

from console.settings.env import use_default_profile

use_default_profile()
# WhiteNoise hands out files as synchronous iterators; ours are small and come from the page cache.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

# Django must be set up before anything that imports models.
http_application = get_asgi_application()

from console.dashboard.routing import websocket_urlpatterns  # noqa: E402
from console.dashboard.sign_in import signed_in  # noqa: E402
from controlplane import garbage  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": AllowedHostsOriginValidator(signed_in(URLRouter(websocket_urlpatterns))),
    }
)

garbage.settle(young_objects=garbage.YOUNG_OBJECTS)
