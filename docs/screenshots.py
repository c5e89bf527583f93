"""Photographs a report for the README and docs/: `python docs/screenshots.py runs/demo`, after `speechtune demo`.

Needs the package playwright and a chromium of the system; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
WIDTH = 1180  # of the window, in CSS pixels
# file: section, height in CSS pixels
PICTURES = {"report.png": ("summary", 700), "report-worst.png": ("samples", 690)}


def photograph(report: Path) -> None:
    """Write the pictures of docs/images from a report."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light", device_scale_factor=1)
        page.goto(report.resolve().as_uri())
        for name, (section, height) in PICTURES.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            page.evaluate("id => document.getElementById(id).scrollIntoView()", section)
            page.screenshot(path=IMAGES / name)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="output folder of a run, such as runs/demo")
    photograph(parser.parse_args().folder / "report.html")
