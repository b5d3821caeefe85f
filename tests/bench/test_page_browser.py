"""The page in a real browser: somebody sorts, filters, plots, compares, goes back; on a phone, with the keyboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from bench import registry
from bench.page.write import write_pages
from bench.records.archive import Record, write
from bench.run.results import write_predictions
from tests.bench.test_page import HOSTILE, folder_of
from tests.bench.test_page_runs import predictions
from tests.bench.test_published import method, row
from tests.bench.test_tables import record

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")]

PATIENCE = 200
"""Seconds; a busy machine may need many of them, a page that works needs none."""
MANY = 230
ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--window-size=1280,3000",
]
ROUTES = ("#/", "#/board/vggsound", "#/board/esc50", "#/methods", "#/method/mavil", "#/compare/mavil/mbt", "#/nothing")


def made(runs: Path) -> dict[str, Record]:
    """Name -> record: three on VGGSound, of which one was run here and one is hostile."""
    board = registry.board("vggsound")
    folder = runs / "mavil" / "finetune-ab12"
    sha = write_predictions(predictions(), folder / "predictions.parquet")
    (folder / "metrics.csv").write_text(
        f"step,lr,loss/loss,val/{board.main}\n2,0.1,2.5,0.31\n4,0.05,1.5,0.55\n5,0.02,1.4,\n6,0.01,1.2,0.5\n"
    )
    validated = record(board, clips=40, official=40).data.model_copy(update={"split": "train"})
    validation = {"stage": "finetune", "data": validated, "metric": board.main, "keep": "best", "n": 40}
    validation |= {"epoch": 2, "value": 0.55, "epochs": 3}
    evidence = {"predictions_sha256": sha, "validations": (validation,)}
    cost = {"parameters": 86_000_000, "total_device_hours": 12.0}
    hostile: dict[str, Any] = {
        "notes": {"remark": HOSTILE, "long": "y" * 1900},
        "hardware": {"cpu": HOSTILE},
        "config": {"model": {HOSTILE: HOSTILE}},
        "dirty": True,
        "clips": 270,
        "cost": cost | {"parameters": 5_000_000, "total_device_hours": 100.0},
    }
    return {
        "mavil": record(board, value=0.6, cost=cost, config={"model": {"dim": 768}}, **evidence),
        "mbt": record(board, value=0.7, method="mbt", modality="a", stage="scratch", **hostile),
        "uavm": record(board, value=0.5, method="uavm", cost=cost | {"parameters": 26_000_000}),
    }


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The records' ids, and where their page is."""
    folder = tmp_path_factory.mktemp("page")
    some = made(folder / "runs")
    paper = method(
        row(note=HOSTILE, parameters=87_000_000, pretraining="AudioSet"), row(board=None, benchmark="another")
    )
    folder_of(folder, *some.values(), papers=[paper, method(name="lava", arxiv="2207.08024")])
    esc50 = registry.board("esc50")
    for index in range(MANY):
        write(record(esc50, method=f"m{index}", value=0.1 + index / 1000), folder / "results")
    (page,) = write_pages(folder, folder / "runs", folder / "page.html")
    return {name: each.id for name, each in some.items()} | {"url": page.as_uri()}


def start(options: Any) -> Any:
    """A browser; on a busy machine one may need a second try to come up."""
    for _ in range(3):
        try:
            return webdriver.Chrome(options=options, service=Service(DRIVER))
        except WebDriverException as error:
            reason = error
    pytest.skip(f"chromium does not start here: {reason}")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = start(options)
        browser.set_page_load_timeout(PATIENCE)
        yield browser
        browser.quit()


@pytest.fixture
def browser(started: Any) -> Iterator[Any]:
    """A window of a desk, by day; after each test nothing has been complained of."""
    started.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    look(started, "light")
    yield started
    assert started.get_log("browser") == []


@pytest.fixture
def visit(browser: Any, records: dict[str, Any]) -> Callable[[str], None]:
    def go(route: str) -> None:
        browser.get("about:blank")  # the next is a new page, not a step within the last one
        browser.get(records["url"] + route)

    return go


def look(browser: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def texts(browser: Any, css: str) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", css)


def wait(browser: Any, true: Callable[[], Any]) -> None:
    WebDriverWait(browser, PATIENCE, poll_frequency=0.05).until(lambda _: true())


def click(browser: Any, css: str) -> None:
    browser.find_element("css selector", css).click()


def methods(browser: Any) -> list[str]:
    """Of the board's rows, from above."""
    return texts(browser, "table.board tbody th.method a")


def heading(browser: Any) -> str:
    return texts(browser, "h1")[0]


def address(browser: Any) -> str:
    return browser.execute_script("return location.hash")


def focused(browser: Any) -> Any:
    return browser.switch_to.active_element


def tab_to(browser: Any, css: str, presses: int = 80) -> Any:
    """Presses the tab key until an element like that has the focus."""
    for _ in range(presses):
        focused(browser).send_keys(Keys.TAB)
        if browser.execute_script("return document.activeElement.matches(arguments[0])", css):
            return focused(browser)
    raise AssertionError(f"the tab key never comes to {css}")


def test_a_board_is_sorted_by_its_main_metric_and_by_any_column(browser: Any, visit: Callable[[str], None]):
    visit("#/board/vggsound")
    assert methods(browser) == ["mbt", "mavil", "mavil", "uavm"]
    assert texts(browser, "th[aria-sort=descending]")[0].startswith("top-1")
    click(browser, "button[data-key=top1]")
    assert methods(browser) == ["uavm", "mavil", "mavil", "mbt"]
    assert texts(browser, "tr.published td.number")[0] == "–" and "67.1" in texts(browser, "tbody tr")[2]
    assert len(texts(browser, "th[aria-sort=ascending]")) == 1
    click(browser, "button[data-key=method]")
    assert methods(browser) == ["mavil", "mavil", "mbt", "uavm"]
    click(browser, "button[data-key=parameters]")
    assert methods(browser) == ["mavil", "mavil", "uavm", "mbt"]


def test_filters_leave_the_rows_that_fit_and_stand_in_the_address(browser: Any, visit: Callable[[str], None]):
    visit("#/board/vggsound")
    Select(browser.find_element("name", "kind")).select_by_value("published")
    assert set(texts(browser, "tbody tr .tag.published")) == {"published"} and not texts(browser, "tr.measured")
    Select(browser.find_element("name", "kind")).select_by_value("measured")
    assert methods(browser) == ["mbt", "mavil", "uavm"] and not texts(browser, "tr.published")
    Select(browser.find_element("name", "modality")).select_by_value("a")
    assert methods(browser) == ["mbt"]
    assert "modality=a" in address(browser) and "kind=measured" in address(browser)
    browser.refresh()
    assert methods(browser) == ["mbt"]
    Select(browser.find_element("name", "modality")).select_by_value("")
    Select(browser.find_element("name", "kind")).select_by_value("")
    Select(browser.find_element("name", "pretraining")).select_by_value("AudioSet")
    assert methods(browser) == ["mavil"] and texts(browser, "tr.published")
    Select(browser.find_element("name", "pretraining")).select_by_value("")
    browser.find_element("name", "q").send_keys("UAVM finetune")
    assert methods(browser) == ["uavm"] and texts(browser, "p.count")[0].startswith("1 of ")
    browser.find_element("name", "q").send_keys(" nobody")
    assert methods(browser) == [] and "No row" in texts(browser, ".results .empty")[0]


def test_what_stands_between_a_row_and_a_comparison_is_in_it(browser: Any, visit: Callable[[str], None]):
    visit("#/board/vggsound")
    (text,) = [text for text in texts(browser, "tr.measured") if text.count("scratch")]
    assert "uncommitted changes" in text and "90.0 % of the clips" in text
    for text in texts(browser, "tr.published"):
        assert "published" in text and "abstract · arXiv" in text and "[" not in text
    assert "[55.0, 64.0]" in "".join(texts(browser, "tr.measured"))


def test_many_rows_come_a_part_at_a_time(browser: Any, visit: Callable[[str], None]):
    visit("#/board/esc50")
    assert len(methods(browser)) == 100 and methods(browser)[0] == f"m{MANY - 1}"
    click(browser, "button.more")
    assert len(methods(browser)) == 200
    click(browser, "button.more")
    assert len(methods(browser)) == MANY and not browser.find_element("css selector", "button.more").is_displayed()


def test_the_plot_has_points_with_intervals_across_what_is_chosen(browser: Any, visit: Callable[[str], None]):
    visit("#/board/vggsound")
    points = texts(browser, ".plot a.measured"), texts(browser, ".plot a.published")
    assert [len(each) for each in points] == [3, 1]
    assert len(texts(browser, ".plot a.measured path.bar")) == 3 and not texts(browser, ".plot a.published path.bar")
    places = "return [...document.querySelectorAll('.plot a.measured circle')].map((c) => c.getBoundingClientRect().x)"
    by_size = browser.execute_script(places)  # drawn from the last row to the first: uavm, mavil, mbt
    assert by_size[2] < by_size[0] < by_size[1]
    Select(browser.find_element("name", "x")).select_by_value("hours")
    assert "device-hours (log)" in texts(browser, ".plot text.axis")
    by_hours = browser.execute_script(places)
    assert by_hours[2] > max(by_hours[:2]) and not texts(browser, ".plot a.published")
    assert "without device-hours" in "".join(texts(browser, ".plot .sub"))


def test_a_run_shows_its_evidence(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    visit(f"#/run/{records['mavil']}")
    assert heading(browser) == "mavil · finetune"
    page = texts(browser, "main")[0]
    for text in (
        "60.0[55.0, 64.0]",
        "300 of 300 (100 %)",
        "86 M",
        "git checkout 3f2a9c1d",
        "python -m bench run mavil",
    ):
        assert text in page, text
    validated, *others = texts(browser, "figcaption")
    assert validated.endswith(" (%) ↑ on train") and others == ["lr", "loss/loss"]
    assert len(texts(browser, "figure path.line")) == 3
    assert texts(browser, "figure text.axis") == ["epoch", "", "step", "", "step", ""]
    assert texts(browser, "figure:first-of-type text.tick")[-3:] == ["1", "2", "3"]
    assert len(texts(browser, "circle.kept-dot")) == 1 and "epoch 2 is kept: 55.0, the best by" in page
    assert "40 clips of vggsound train, which keeps the best epoch, 2 of 3" in page
    assert len(texts(browser, ".matrix tbody tr")) == 5 and "class 4" in page
    click(browser, "details summary")
    assert texts(browser, "details[open] dd") == ["768"]


def test_the_back_button_goes_the_way_one_came(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    visit("#/")
    click(browser, "a[href='#/board/vggsound']")
    wait(browser, lambda: heading(browser) == "vggsound")
    click(browser, f"td.number a[href='#/run/{records['mavil']}']")
    wait(browser, lambda: heading(browser) == "mavil · finetune")
    click(browser, ".crumbs a[href='#/method/mavil']")
    wait(browser, lambda: heading(browser) == "mavil")
    for expected in ("mavil · finetune", "vggsound", "Boards"):
        browser.back()
        wait(browser, lambda expected=expected: heading(browser) == expected)


def test_a_method_shows_its_rows_and_what_its_paper_says(browser: Any, visit: Callable[[str], None]):
    visit("#/method/mavil")
    assert "2 of 3" in "".join(texts(browser, "main tbody")) and "Masked" in texts(browser, ".lead")[0]
    assert len(texts(browser, "main .tag.published")) == 2
    visit("#/method/lava")
    assert "No verified published row." in texts(browser, ".empty")
    visit("#/methods")
    assert "no verified published row" in "".join(texts(browser, "main"))
    visit("#/method/nobody")
    assert heading(browser) == "Not here"


def test_two_methods_side_by_side(browser: Any, visit: Callable[[str], None]):
    visit("#/compare")
    Select(browser.find_element("name", "one")).select_by_value("mavil")
    wait(browser, lambda: address(browser) == "#/compare/mavil/")
    Select(browser.find_element("name", "two")).select_by_value("uavm")
    wait(browser, lambda: heading(browser) == "mavil and uavm")
    shown = "".join(texts(browser, "main tbody")[:1])
    assert "vggsound" in shown and "+10.0" in shown and "mavil is ahead" in shown
    assert "python -m bench compare mavil uavm" in texts(browser, "main")[0]


def test_the_keyboard_does_all_of_it(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    visit("#/board/vggsound")
    tab_to(browser, "button[data-key=n]").send_keys(Keys.ENTER)
    assert texts(browser, "th[aria-sort]")[0].startswith("n")
    active = "const e = document.activeElement; return [e.dataset.key, getComputedStyle(e).outlineStyle]"
    assert browser.execute_script(active) == ["n", "solid"]
    tab_to(browser, "select[name=x]")
    point = tab_to(browser, ".plot a.measured")
    said = point.get_attribute("aria-label")
    assert texts(browser, ".readout") == [said] and "top-1" in said
    point.send_keys(Keys.ENTER)
    wait(browser, lambda: address(browser).startswith("#/run/"))
    wait(browser, lambda: browser.execute_script("return document.activeElement.id") == "main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(browser: Any, visit: Callable[[str], None], scheme: str):
    look(browser, scheme)
    visit("#/board/vggsound")
    measure = """
        const light = (c) => {
          const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = (e) => {
          const c = getComputedStyle(e).backgroundColor;
          return c === "rgba(0, 0, 0, 0)" && e.parentElement ? behind(e.parentElement) : c;
        };
        return arguments[0].map((css) => {
          const e = document.querySelector(css);
          const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
          return [css, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        });"""
    parts = [
        *("h1", ".lead", ".count", "th.method a", ".remark", "td .value", "td .spread", "thead th button"),
        *(".published .sub", ".tag.published", "select", ".readout", "nav a", "footer p"),
    ]
    assert {css: ratio for css, ratio in browser.execute_script(measure, parts) if ratio < 4.5} == {}
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_on_a_phone_only_tables_scroll_sideways(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for route in (*ROUTES, f"#/run/{records['mavil']}", f"#/run/{records['mbt']}"):
        visit(route)
        browser.execute_script("document.querySelectorAll('details').forEach((e) => e.setAttribute('open', ''))")
        assert browser.execute_script("return innerWidth") == 390
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, route
    visit("#/board/vggsound")
    box = "const b = document.querySelector('.results .scroll'); return [b.scrollWidth > b.clientWidth, b.clientWidth]"
    scrolls, width = browser.execute_script(box)
    assert scrolls and width <= 390


def test_markup_in_a_record_is_text_and_never_runs(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    for route in (
        *ROUTES,
        f"#/run/{records['mbt']}",
        "#/method/" + "%3Cimg%20src=x%20onerror=hacked()%3E",
        "#/run/%E0%A4%A",
    ):
        visit(route)
        browser.execute_script("document.querySelectorAll('details').forEach((e) => e.setAttribute('open', ''))")
        assert browser.execute_script("return typeof window.hacked") == "undefined", route
        assert browser.execute_script("return document.querySelectorAll('img, iframe, object').length") == 0, route
        assert browser.execute_script("return document.scripts.length") == 3, route
    visit(f"#/run/{records['mbt']}")
    page = texts(browser, "main")[0]
    assert page.count(HOSTILE) >= 4 and f"remark: {HOSTILE}" in page and "y" * 1900 in page
    visit("#/board/vggsound")
    assert HOSTILE in "".join(texts(browser, "td.source"))


def test_the_policy_stops_scripts_that_are_not_the_pages(browser: Any, visit: Callable[[str], None]):
    visit("#/")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">');"
    )
    complaints = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "Content Security Policy" in complaints
    assert browser.execute_script("return typeof window.hacked") == "undefined"


def test_nothing_is_fetched(browser: Any, visit: Callable[[str], None], records: dict[str, Any]):
    browser.get_log("performance")
    for route in (*ROUTES, f"#/run/{records['mavil']}"):
        visit(route)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert records["url"] in {url.partition("#")[0] for url in asked}
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {records["url"]}
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
