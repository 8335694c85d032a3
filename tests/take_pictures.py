"""Take the pictures of the README: a run in the Prefect UI, and the report of its evaluation.

    millrace run support-desk
    python -m tests.take_pictures support-desk

It starts Prefect's server on the workspace's own database, and needs Debian's `chromium`.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from tasks.storage.layout import StagePaths

PICTURES = Path("docs/images")
WINDOW = (1400, 1000)  # pixels
WIDTH = 900  # of the pictures
COLOURS = 128
START_SECONDS = 120
RENDER_MILLISECONDS = 20_000


def main(recipe: str) -> None:
    """Take both pictures of a recipe's last run."""
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = start_prefect(port)
    try:
        run = wait_for_last_run(port, recipe)
        take(browser, f"http://127.0.0.1:{port}/runs/flow-run/{run}", PICTURES / "run.png")
    finally:
        server.terminate()
        server.wait()
    report = StagePaths.of_recipe(recipe).evaluation.page.absolute()
    take(browser, report.as_uri(), PICTURES / "report.png")


def start_prefect(port: int) -> "subprocess.Popen[bytes]":
    """Start Prefect's server on the database of past runs."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(Path(".millrace/prefect").absolute()),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the other asks an analytics host
        "DO_NOT_TRACK": "1",
    }
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_last_run(port: int, recipe: str) -> str:
    """Return the id of the recipe's last run, once the server answers."""
    deadline = time.monotonic() + START_SECONDS
    query = {"sort": "START_TIME_DESC", "flow_runs": {"name": {"any_": [recipe]}}, "limit": 1}
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/api/flow_runs/filter", json=query)
            return str(answer.json()[0]["id"])
        except httpx.TransportError:
            time.sleep(0.5)
    sys.exit("Prefect's server did not answer.")


def take(browser: str, url: str, path: Path) -> None:
    """Take a picture of a page, and make it small."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={WINDOW[0]},{WINDOW[1]}",
                f"--virtual-time-budget={RENDER_MILLISECONDS}",
                f"--screenshot={picture}",
                url,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        image = Image.open(picture).convert("RGB")
        height = round(image.height * WIDTH / image.width)
        image = image.resize((WIDTH, height)).quantize(COLOURS)
        image.save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.take_pictures RECIPE")
    main(sys.argv[1])
