"""An SMTP server on port 25. While the file that its argument names exists, it has no room for mail."""

import os
import sys
import threading

from aiosmtpd.controller import Controller


class Handler:
    async def handle_HELO(self, server, session, envelope, hostname):
        session.host_name = hostname
        return "452 no room for mail" if os.path.exists(sys.argv[1]) else "250 mail"


Controller(Handler(), hostname="0.0.0.0", port=25, server_hostname="mail").start()
threading.Event().wait()
