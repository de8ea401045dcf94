"""Chats through the websockets package: handshake, subprotocol, refusals, messages, close codes.

    python websockets_chat.py http://127.0.0.1:4620 ws://127.0.0.1:4620/API/local
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

URL = sys.argv[2]
SECONDS = 20


class Client:
    def __init__(self, socket):
        self.socket = socket
        self.number = 0
        self.kept = []

    async def ask(self, **frame):
        self.number += 1
        frame.setdefault("id", str(self.number))
        await self.socket.send(json.dumps(frame))
        return await self.expect(lambda answer: answer.get("id") == frame["id"])

    async def expect(self, wanted):
        for at, frame in enumerate(self.kept):
            if wanted(frame):
                return self.kept.pop(at)
        while True:
            frame = json.loads(await asyncio.wait_for(self.socket.recv(), SECONDS))
            if wanted(frame):
                return frame
            self.kept.append(frame)


def open_as(user, **options):
    return connect(f"{URL}?user={user}", subprotocols=["chat.v1"], open_timeout=SECONDS, **options)


async def chat():
    async with open_as("py.alice") as one, open_as("py.bob") as other:
        assert one.subprotocol == "chat.v1"
        alice, bob = Client(one), Client(other)
        for client in (alice, bob):
            assert (await client.ask(action="hello"))["type"] == "welcome"
            assert (await client.ask(action="join", room="py"))["type"] == "ack"
        for number in range(1, 21):
            ack = await alice.ask(action="send", room="py", body={"text": f"hi {number}"})
            assert (ack["seq"], ack["dup"]) == (number, False), ack
        for number in range(1, 21):
            message = await bob.expect(lambda frame: frame["type"] == "message")
            assert (message["seq"], message["body"]["text"]) == (number, f"hi {number}"), message
        ack = await alice.ask(action="send", to="py.bob", body={"text": "psst"})
        assert ack["room"] == "@py.alice,py.bob", ack
        await bob.expect(lambda frame: frame.get("room") == "@py.alice,py.bob")
        assert (await bob.ask(action="who", room="py"))["users"] == ["py.alice", "py.bob"]


async def refused_upgrades():
    for url in (URL, f"{URL}?user=a%23b", URL.rsplit("/", 1)[0] + "/nothing?user=a"):
        try:
            async with connect(url, open_timeout=SECONDS):
                raise AssertionError(f"{url} was let in")
        except InvalidStatus as refusal:
            assert refusal.response.status_code in (401, 403, 404), refusal


async def close_codes():
    for data, code in ((b"\0", 1003), ("x" * 33 * 1024, 1009)):
        async with open_as("py.mallory") as socket:
            await socket.send(data)
            try:
                while True:
                    await asyncio.wait_for(socket.recv(), SECONDS)
            except ConnectionClosed as closed:
                assert closed.rcvd and closed.rcvd.code == code, closed
    async with open_as("py.alice") as socket:
        # Pings of the protocol are answered below the application.
        await asyncio.wait_for(await socket.ping(), SECONDS)
        await socket.close(1000, "done")
        assert socket.close_code == 1000


async def main():
    for check in (chat, refused_upgrades, close_codes):
        await check()
        print(f"ok {check.__name__}")


asyncio.run(main())
