"""The explorer's page with a million images, in Chromium without a GPU: how long to the first drawing, and to a frame.

python benchmarks/explore_page.py --collection million.scape [--chromium /usr/bin/chromium]

Make the collection with `benchmarks/explore.py --keep`. The server runs in a process of its own, as
`imagescape explore` starts it; it is asked once before, so that the page is measured and not the first reading of the
table. Frames are times between two drawings of the browser while the map is dragged a step at each, with points,
density, images and names on it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from measure import hardware
from playwright.sync_api import CDPSession, Page, sync_playwright

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--enable-precise-memory-info"]
_STEPS = 120
# Drags the map by one step a drawing, so that every drawing shows another part, and gives the times between them.
_DRAG = """async steps => {
    const map = document.querySelector('.map')
    map.setPointerCapture = () => {} // which takes pointers of a hand only
    const { x, y, width, height } = map.getBoundingClientRect()
    const send = (kind, dx, dy) => map.dispatchEvent(new PointerEvent(kind, {
        pointerId: 7, button: 0, clientX: x + width / 2 + dx, clientY: y + height / 2 + dy, bubbles: true }))
    const drawn = () => new Promise(requestAnimationFrame)
    send('pointerdown', 0, 0)
    await drawn()
    const times = []
    let last = performance.now()
    for (let step = 0; step < steps; step++) {
        send('pointermove', 90 * Math.sin(step / 8), step)
        await drawn()
        const now = performance.now()
        times.push(now - last)
        last = now
    }
    send('pointerup', 0, steps)
    return times
}"""


def start_server(collection: Path) -> tuple[subprocess.Popen[str], str]:
    """The server and its address, once it answers."""
    command = [sys.executable, "-m", "imagescape", "explore", str(collection), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    about = None
    while about is None:
        try:
            about = urllib.request.urlopen(f"{url}api/about").read()
        except OSError:
            time.sleep(0.1)
    return server, url


def first_drawing(page: Page, url: str) -> dict[str, float]:
    """Seconds from the click to the first whole drawing."""
    page.goto(url)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    seconds = page.evaluate(
        """() => new Promise(done => {
            const ready = performance.getEntriesByName('imagescape-ready')[0].startTime
            const drawn = () => done([ready / 1000, performance.now() / 1000])
            requestAnimationFrame(() => requestAnimationFrame(drawn))
        })"""
    )
    return {"ready_seconds": seconds[0], "drawn_seconds": seconds[1]}


def dragged(page: Page) -> dict[str, float]:
    """Milliseconds of a frame while the map is dragged."""
    ordered = sorted(page.evaluate(_DRAG, _STEPS))
    own = page.evaluate("imagescape.map.frameTimes.slice(-30)")
    return {
        "median_ms": statistics.median(ordered),
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))],
        "own_ms": statistics.median(own),
    }


def memory_bytes(session: CDPSession, root: int) -> dict[str, float]:
    """What the page holds: its scripts' heap, and all of the processes that draw it (their share of what is shared)."""
    heap = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {"heap_mb": heap["JSHeapUsedSize"] / 1e6, "processes_mb": _proportional(root) / 1e6}


def _proportional(root: int) -> int:
    """Proportional set size of the renderer and GPU processes below `root`."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    total = 0
    for process in parents:
        above = process
        while above in parents and above != root:
            above = parents[above]
        if above != root:
            continue
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"--type=renderer" in command or b"--type=gpu-process" in command:
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        except OSError:
            continue
    return total


def measure(browser: Any, url: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    drawing = first_drawing(page, url)
    print(f"first drawing: ready after {drawing['ready_seconds']:.2f} s, drawn after {drawing['drawn_seconds']:.2f} s")
    print(f"{'':24}{'median ms':>11}{'p95 ms':>9}{'own ms':>9}")
    for title, zoom in (("all of the map", 1.0), ("4 times nearer", 4.0), ("16 times nearer", 4.0), ("128 times", 8.0)):
        page.evaluate("factor => imagescape.map.camera.zoom(factor)", zoom)
        page.wait_for_timeout(2500)
        frames = dragged(page)
        print(f"{title:24}{frames['median_ms']:11.1f}{frames['p95_ms']:9.1f}{frames['own_ms']:9.1f}")
    memory = memory_bytes(session, os.getpid())
    print(f"memory: heap {memory['heap_mb']:.0f} MB, renderer and GPU processes {memory['processes_mb']:.0f} MB")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, required=True, help="made by benchmarks/explore.py --keep")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    parser.add_argument("--runs", type=int, default=3, help="pages opened, one after another (default: 3)")
    options = parser.parse_args()
    print(hardware())
    server, url = start_server(options.collection)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=_ARGUMENTS)
            print(f"Chromium {browser.version}, without a GPU; {options.collection.name}")
            for _ in range(options.runs):
                measure(browser, url)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
