"""A server on this machine, for tests of downloads."""

import threading
from http.server import ThreadingHTTPServer


class LocalServer(ThreadingHTTPServer):
    """Answers from its making to the end of its block, at ``url``."""

    def __init__(self, handler):
        super().__init__(("localhost", 0), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://localhost:{self.server_port}"

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)
