"""TLS with its own authority, in front of a server on this machine.

    relay.py AUTHORITY PORT

Writes the authority's certificate to the file AUTHORITY, and prints its own port.
"""

import asyncio
import contextlib
import ssl
import sys

import trustme


async def copy(reader, writer):
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(authority, port):
    own = trustme.CA()
    own.cert_pem.write_to_path(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.issue_cert("localhost").configure_cert(context)

    async def serve(reader, writer):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
