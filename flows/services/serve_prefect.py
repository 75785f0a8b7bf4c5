"""The process of a Prefect server that kdflow starts: `python -m flows.services.serve_prefect DESCRIPTOR MODE`."""

import base64
import gc
import os
import socket
import sys

from flows.services.prefect_settings import prefect_home
from kdmodels.garbage_collection import gc_paused
from tasks.same_origin import same_origin_only

with gc_paused():
    import httpx
    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app

    from flows.services.prefect_internals.database import create_database


class LockedStartServer(uvicorn.Server):
    """A Prefect server that locks its database during migrations, so that no other server migrates it too."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Create the database, start the server, and build the server's routes."""
        with FileLock(prefect_home() / "kdflow-server.lock"):
            create_database()
            await super().startup(sockets)
        await self._build_routes()

    async def _build_routes(self) -> None:
        """Request an unknown path. The first request makes the server build all routes, which takes half a second."""
        transport = httpx.ASGITransport(self.config.loaded_app, raise_app_exceptions=False)
        token = base64.b64encode(os.environ["PREFECT_SERVER_API_AUTH_STRING"].encode()).decode()
        async with httpx.AsyncClient(transport=transport, headers={"Authorization": f"Basic {token}"}) as client:
            await client.get("http://127.0.0.1:4200/api/none")


def serve(descriptor: int, *, ephemeral: bool) -> None:
    """Serve Prefect's API until SIGINT or SIGTERM.

    Args:
        descriptor: File descriptor of a bound socket.
        ephemeral: Whether the server is temporary. A temporary server has no UI and no scheduler.
    """
    gc.freeze()
    os.umask(0o077)  # only the owner may read the database
    application = same_origin_only(create_app(ephemeral=ephemeral, final=True), json_below="/api")
    config = uvicorn.Config(application, log_level="error", lifespan="on")
    LockedStartServer(config).run([socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    serve(int(sys.argv[1]), ephemeral=sys.argv[2] == "ephemeral")
