"""`/docs` in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_the_page_works_under_its_policy(
    serve: Callable[..., Any], token_of: Callable[..., str], browser: Any
) -> None:
    """Operations are drawn, the token is out of the address bar, the console is empty."""
    service = serve()
    browser.get(service.url(f"/docs?token={token_of('static')}"))
    WebDriverWait(browser, 30).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")
    )
    paths = browser.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")
    assert "/api/status" in [path.get_attribute("data-path") for path in paths]
    assert browser.current_url == service.url("/docs")
    assert browser.get_log("browser") == []


def test_a_call_from_the_page_is_signed(
    serve: Callable[..., Any], token_of: Callable[..., str], browser: Any
) -> None:
    """`Try it out` sends the token that the page came with."""
    service = serve()
    browser.get(service.url(f"/docs?token={token_of('static')}"))
    wait = WebDriverWait(browser, 30)

    def click(selector: str) -> None:
        css = f"#operations-Accounts-me {selector}"
        wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, css))[0].click()

    click(".opblock-summary-control")
    click(".try-out__btn")
    click(".execute")
    answer = "#operations-Accounts-me .live-responses-table .response-col_status"
    found = wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, f"{answer}"))
    assert "200" in [element.text.split()[0] for element in found if element.text]
