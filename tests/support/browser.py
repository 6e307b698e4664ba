"""A page in a real browser: what it shows, what it says on its console, what it asks for."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)


@dataclass(frozen=True)
class Browser:
    """An open browser."""

    driver: Chrome

    def open(self, page: Path) -> None:
        """Open a page, and wait until its pictures are drawn."""
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.resolve().as_uri())
        empty = "#layers figure:not([hidden]) .chart:not(:has(svg))"
        WebDriverWait(self.driver, 20).until(lambda _: not self.all(empty))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return an element's text, shown or not."""
        return str(self.one(selector).get_property("textContent"))

    def table(self, selector: str) -> list[list[str]]:
        """Return the cells of a table's body, row by row; hidden rows are left out."""
        script = (
            "return [...document.querySelectorAll(arguments[0] + ' tbody tr')]"
            ".filter((row) => !row.hidden)"
            ".map((row) => [...row.children].map((cell) => cell.textContent))"
        )
        rows: list[list[str]] = self.driver.execute_script(script, selector)
        return rows

    def slide(self, percent: str) -> None:
        """Move the slider to a percent, as the arrow keys do."""
        script = (
            "const slider = document.getElementById('percent');"
            "const shown = () => document.getElementById('percent-shown').textContent;"
            "for (let stop = 0; stop <= slider.max; stop++) {"
            "  slider.value = stop; slider.dispatchEvent(new Event('input'));"
            "  if (shown() === arguments[0]) return true;"
            "} return false;"
        )
        assert self.driver.execute_script(script, f"{percent} %")

    def complaints(self) -> list[str]:
        """Return what the console says: errors, warnings, breaches of the page's policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return what was asked for since ``open``, besides the page itself."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        page = self.driver.current_url
        asked = [
            message["params"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        # The browser's own first tab asks for its parts meanwhile.
        urls = [str(one["request"]["url"]) for one in asked if one["documentURL"] == page]
        assert page in urls
        return [url for url in urls if url != page]

    def emulate(self, command: str, **parameters: Any) -> None:
        self.driver.execute_cdp_cmd(f"Emulation.{command}", parameters)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser; skip, and say why, where none is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(f"no {'chromium' if program is None else 'chromedriver'} is installed")
    with tempfile.TemporaryDirectory(prefix="shardrestore-test-browser-") as profile:
        options = ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        opened = Chrome(options=options, service=Service(driver))
        try:
            yield Browser(opened)
        finally:
            opened.quit()
