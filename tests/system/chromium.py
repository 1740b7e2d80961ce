"""Drives a headless Chromium over the DevTools protocol. The pipe needs no WebSocket client."""

import base64
import itertools
import json
import os
import subprocess


class Chromium:
    def __init__(self, profile):
        to_read, self.to_write = os.pipe()
        self.to_read, to_write = os.pipe()

        def descriptors():  # Chromium reads from 3 and writes to 4.
            first, second = os.dup(to_read), os.dup(to_write)
            os.dup2(first, 3)
            os.dup2(second, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        # In a container, or as root, there is no sandbox. The only page is ours.
        arguments = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
                     f"--user-data-dir={profile}", "about:blank"]
        program = os.environ.get("CHROMIUM", "chromium")
        self.process = subprocess.Popen([program, *arguments], preexec_fn=descriptors, close_fds=False,
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.numbers, self.buffer, self.session = itertools.count(1), b"", None
        self.errors, self.loaded = [], set()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def receive(self):
        while b"\0" not in self.buffer:
            received = os.read(self.to_read, 1 << 16)
            if not received:
                raise EOFError("Chromium has ended")
            self.buffer += received
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(message["params"])
        if message.get("method") == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self.loaded.add(message["params"]["loaderId"])
        return message

    def send(self, method, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive()
            if reply.get("id") == number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]

    def open(self, url):
        page = self.send("Page.navigate", url=url)["loaderId"]
        while page not in self.loaded:
            self.receive()

    def evaluate(self, expression):
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait_for(self, condition, seconds=20):
        """Waits until the condition holds in the page. It is checked whenever the page changes."""
        self.evaluate(f"""new Promise((done, failed) => {{
            const holds = () => {condition};
            if (holds()) return done();
            const watch = new MutationObserver(() => {{ if (holds()) {{ watch.disconnect(); done(); }} }});
            watch.observe(document, {{subtree: true, childList: true, attributes: true, characterData: true}});
            setTimeout(() => failed(Error({json.dumps(condition)} + " does not hold: " + document.querySelector("main").innerText)),
                {seconds * 1000});
        }})""")

    def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r", " ": " "}.get(key, "")
            code = {"Tab": 9, "Enter": 13, " ": 32}.get(key, 0)
            for kind in ("keyDown", "keyUp"):
                typed = {"text": text} if text and kind == "keyDown" else {}
                self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def resize(self, width, height, scale=1):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 600)

    def color_scheme(self, scheme):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        picture = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture))
