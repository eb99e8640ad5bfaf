"""An S3 server at a port of this machine: `python s3_server.py PORT [careless]`."""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


def careless(app):
    "A server that knows no conditions, as older ones do: it drops their headers."
    def without(environ, start_response):
        for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
            environ.pop(name, None)
        return app(environ, start_response)
    return without


if __name__ == "__main__":
    app = DomainDispatcherApplication(create_backend_app)
    # One request at a time: in threads, moto looks whether an object exists and writes it afterwards.
    run_simple("127.0.0.1", int(sys.argv[1]), careless(app) if "careless" in sys.argv else app, threaded=False)
