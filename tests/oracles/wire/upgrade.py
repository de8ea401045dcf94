"""Passes a WebSocket through the proxy: heads are read, frames are not."""

import socket
import threading

HEAD_BYTES = 1 << 16
PART_BYTES = 1 << 16


def tunnel(client, request, upstream, change_head):
    """`change_head(request, head)` gives the head of the answer as the client is to see it."""
    host, _, port = upstream.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as cloud:
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{key}: {value}" for key, value in request.headers)]
        cloud.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        head, rest = _head(cloud)
        client.sendall(change_head(request, head) + rest)
        cloud.settimeout(None)
        back = threading.Thread(target=_pump, args=(cloud, client), daemon=True)
        back.start()
        _pump(client, cloud)
        back.join()


def _head(cloud):
    read = b""
    while b"\r\n\r\n" not in read and len(read) < HEAD_BYTES:
        part = cloud.recv(PART_BYTES)
        if not part:
            break
        read += part
    head, end, rest = read.partition(b"\r\n\r\n")
    return head + end, rest


def _pump(source, target):
    try:
        while part := source.recv(PART_BYTES):
            target.sendall(part)
    except OSError:
        pass
    for each in (source, target):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def with_protocol(request, head):
    """The head with the first protocol that the client offered, if there is a socket and the head has none."""
    offered = (request.header("sec-websocket-protocol") or "").partition(",")[0].strip()
    if not offered or not head.startswith(b"HTTP/1.1 101") or b"sec-websocket-protocol:" in head.lower():
        return head
    return head.removesuffix(b"\r\n") + f"Sec-WebSocket-Protocol: {offered}\r\n\r\n".encode()
