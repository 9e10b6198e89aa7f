"""An OpenAI-compatible server that answers by rule, does wrong on demand, and counts what it was paid for.

In a test: `with Server(faults=[...]) as server:`. As a process of its own: `python answering_server.py --latency 0.2` prints its port and
serves until its standard input is closed; `GET /counts` tells what it has answered.

A fault is taken by the next request: `429:0.5` (with Retry-After, seconds), `429 date:2` (as a date), `429`, `500`, `503`, `401`, `400`, `402`,
`quota`, `slow:1.5`, `drip:0.2`, `drop` (no answer), `cut` (the connection ends within the answer), `truncated` (half of the JSON), `malformed`,
`empty`, `no counts`, `wrong counts`, `ok`; of embeddings `few`, `odd`, `ragged`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email.utils
import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

STATES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


def answer_to(prompt: str, seed: Any = None) -> str:
    """What the server says to a prompt, so that tests can say it, too."""
    return f"answer {hashlib.sha256(f'{prompt}|{seed}'.encode()).hexdigest()[:12]} to {prompt[-40:]}"


def vector_of(text: str, width: int = 5) -> list[float]:
    """What the server embeds a text as."""
    return [byte / 255 - 0.4 for byte in hashlib.sha256(text.encode()).digest()[:width]]


def pieces(text: str) -> list[str]:
    """Its tokens."""
    return re.findall(r"\s?\w{1,4}|\s|[^\w\s]", text)


def logprob(before: str, token: str) -> float:
    """Log-probability of a token after a text; a pure function, negative."""
    return -0.1 - int.from_bytes(hashlib.sha256(f"{before}|{token}".encode()).digest()[:2], "big") / 10_000


class Server:
    """Serves in a thread."""

    def __init__(self, faults: list[str] | None = None, latency: float = 0.0, key: str = "", repeats: bool = True, mark: str = "") -> None:
        self.faults = list(faults or [])
        self.latency = latency
        self.key = key
        self.repeats = repeats  # whether it gives echo with logprobs
        self.mark = mark  # a token before each repeated text
        self.seen: list[dict[str, Any]] = []  # every request: when, path, body, headers, fault
        self.paid: Counter[str] = Counter()  # answers that were given whole, by prompt
        self.at_once = self.most_at_once = 0
        self.port = 0
        self.ready = threading.Event()
        self.loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(self.start())
        self.ready.set()
        with contextlib.suppress(RuntimeError):
            self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    async def start(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last: it ends
            while await self._request(reader, writer):
                pass
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1]
        if path == "/counts":
            return await self._send(writer, 200, {"paid": self.paid, "requests": len(self.seen), "most_at_once": self.most_at_once})
        asked = json.loads(body)
        fault, _, how = (self.faults.pop(0) if self.faults else "ok").partition(":")
        self.seen.append({"at": time.monotonic(), "path": path, "body": asked, "headers": headers, "fault": fault})
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(float(how) if fault == "slow" else self.latency)
            if self.key and headers.get("authorization") != f"Bearer {self.key}":
                return await self._send(writer, 401, {"error": {"message": f"wrong key {headers.get('authorization')}"}})
            if fault == "drop":
                return False
            if fault == "429" or fault == "429 date":
                more = {"Retry-After": how} if how else {}
                if fault == "429 date":
                    now = time.time()
                    dates = [email.utils.formatdate(t, usegmt=True) for t in (now, now + float(how))]
                    more = {"Date": dates[0], "Retry-After": dates[1]}
                return await self._send(writer, 429, {"error": {"message": "too many"}}, more)
            if fault == "quota":
                return await self._send(writer, 429, {"error": {"message": "pay first", "code": "insufficient_quota"}})
            if fault.isdigit():
                return await self._send(writer, int(fault), {"error": {"message": f"no: {headers.get('authorization', '')}"}})
            if path not in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
                return await self._send(writer, 404, {"error": {"message": "no such address"}})
            return await self._answer(writer, path, asked, fault, how)
        finally:
            self.at_once -= 1

    async def _answer(self, writer: asyncio.StreamWriter, path: str, asked: dict[str, Any], fault: str, how: str) -> bool:
        said = {"/v1/chat/completions": self.chat, "/v1/completions": self.completions, "/v1/embeddings": self.embeddings}[path](asked)
        if fault in ("few", "odd", "ragged"):  # vectors
            rows = said["data"]
            said["data"] = {
                "few": rows[1:],
                "odd": [{**rows[0], "embedding": ["x"]}, *rows[1:]],
                "ragged": [{**rows[0], "embedding": [1.0]}, *rows[1:]],
            }[fault]
        if fault == "no counts":
            del said["usage"]
        if fault == "wrong counts":
            said["usage"] = {"prompt_tokens": 10**9, "completion_tokens": -3, "total_tokens": "many"}
        content = json.dumps(said).encode()
        if fault in ("truncated", "malformed", "empty"):
            content = {"truncated": content[: len(content) // 2], "malformed": b"<html>busy</html>", "empty": b"{}"}[fault]
            return await self._send(writer, 200, content)
        if fault == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content[: len(content) // 2])
            await writer.drain()
            return False
        if fault == "drip":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
            for place in range(len(content)):
                writer.write(content[place : place + 1])
                await writer.drain()
                await asyncio.sleep(float(how))
            return True
        for paid in asked.get("input", [json.dumps(asked.get("messages", asked.get("prompt")))]):
            self.paid[paid] += 1
        return await self._send(writer, 200, content)

    async def _send(self, writer: asyncio.StreamWriter, state: int, content: Any, headers: dict[str, str] | None = None) -> bool:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {state} {STATES[state]}", "Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await writer.drain()
        return True

    # --- what it says

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = "\n".join(message["content"] for message in asked["messages"])
        text = answer_to(prompt, asked.get("seed"))
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if asked.get("logprobs"):
            letters = [{"token": letter, "logprob": logprob(prompt, letter)} for letter in "ABCDEFG"]
            choice["logprobs"] = {"content": [{"token": "A", "logprob": letters[0]["logprob"], "top_logprobs": letters}]}
            text = choice["message"]["content"] = "A"
        return {"object": "chat.completion", "choices": [choice], "usage": self.usage(len(pieces(prompt)) + 5, len(pieces(text)), 2)}

    def completions(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        choices = []
        for index, prompt in enumerate(prompts):
            choice: dict[str, Any] = {
                "index": index,
                "text": "" if asked.get("echo") else answer_to(prompt, asked.get("seed")),
                "finish_reason": "length",
            }
            if asked.get("echo") and self.repeats:
                tokens = ([self.mark] if self.mark else []) + pieces(prompt)
                offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
                values = [logprob("".join(tokens[:place]), token) if place else None for place, token in enumerate(tokens)]
                choice |= {"text": prompt, "logprobs": {"tokens": tokens, "token_logprobs": values, "text_offset": offsets}}
            choices.append(choice)
        written = 0 if asked.get("echo") else sum(len(pieces(choice["text"])) for choice in choices)
        return {"choices": choices[::-1], "usage": self.usage(sum(len(pieces(prompt)) for prompt in prompts), written, 0)}

    def embeddings(self, asked: dict[str, Any]) -> dict[str, Any]:
        width = asked.get("dimensions", 5)
        rows = [{"object": "embedding", "index": n, "embedding": vector_of(text, width)} for n, text in enumerate(asked["input"])]
        return {"data": rows[::-1], "usage": {"prompt_tokens": sum(len(pieces(text)) for text in asked["input"])}}

    def usage(self, read: int, wrote: int, cached: int) -> dict[str, Any]:
        details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote, **details}


async def _serve(server: Server, port: int) -> None:
    await server.start(port)
    print(server.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=[])
    given = parser.parse_args()
    asyncio.run(_serve(Server(given.faults, given.latency), given.port))
