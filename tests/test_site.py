"""The rendered book, read as a reader does: in a browser, without a network."""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup

SITE = Path(__file__).parents[1] / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
FLAGS += " --disable-component-update --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"


def unavailable(what):
    """Skip on a reader's machine, fail where CI promised to have it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def pages():
    soups = {path: BeautifulSoup(path.read_text(), "html.parser") for path in sorted(SITE.glob("*/*.html"))}
    if not any(path.parent.name == "notebooks" for path in soups):
        unavailable(f"{SITE}: no rendered book; call 'make book' first")
    return {path: soup for path, soup in soups.items() if path.parent.name in ("book", "notebooks")}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        unavailable("no Chromium on this machine; install it to test the rendered book")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


def test_every_internal_link_resolves(pages):
    anchors = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in pages.items()}
    broken = []
    for path, soup in pages.items():
        for tag in soup.find_all("a", href=True):
            address, anchor = urldefrag(unquote(tag["href"]))
            if address.startswith(("http:", "https:", "mailto:", "javascript:")):
                continue
            target = (path.parent / address).resolve() if address else path
            if not target.exists() or (anchor and target in anchors and anchor not in anchors[target]):
                broken.append(f"{path.name}: {tag['href']}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(pages):
    for path, soup in pages.items():
        sources = [
            tag[name] for name in ("src", "href") for tag in soup.select(f"script[{name}], link[{name}], img[{name}]")
        ]
        assert [s for s in sources if s.startswith(("http:", "https:", "//"))] == [], path.name


def test_figures_have_captions_and_images_alternatives(pages):
    n_figures = 0
    for path, soup in pages.items():
        for figure in soup.select("article figure"):
            n_figures += 1
            assert len(figure.find("figcaption").get_text(strip=True)) > 40, path.name
        for image in soup.select("article img"):
            assert image.get("alt"), f"{path.name}: {image.get('src')}"
        for image in soup.select("article div.cell_output img"):
            assert image.find_parent("figure"), f"{path.name}: a picture without a caption"
    assert n_figures > 10


def test_chapters_show_equations_and_the_first_an_event(pages):
    chapters = {path.stem: soup for path, soup in pages.items() if path.parent.name == "notebooks"}
    for name, soup in chapters.items():
        assert soup.select("article span.math, article div.math"), name
    assert len(chapters["01_forward_chain"].select("article .plotly-graph-div")) == 1


def test_chapters_have_one_number_in_side_bar_title_and_heading(pages):
    side_bar = {}
    for tag in pages[SITE / "book" / "index.html"].select("nav.bd-links a[href]"):
        side_bar[(SITE / "book" / tag["href"]).resolve()] = tag.get_text(strip=True)
    for path, soup in pages.items():
        if path.parent.name == "notebooks":
            heading = soup.select_one("article h1").find(string=True).strip()
            assert heading.startswith(f"{int(path.stem[:2])}. ")
            assert side_bar[path.resolve()] == heading
            assert soup.title.get_text().startswith(heading)


def test_no_warning_boxes_or_unresolved_roles(pages):
    for path, soup in pages.items():
        assert not soup.select("article .system-message, article .problematic"), path.name
        assert not soup.select("article .traceback, article .stderr"), path.name
        prose = " ".join(tag.get_text() for tag in soup.select("article p"))
        assert "{term}" not in prose
        assert "{numref}" not in prose


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_errors_and_without_a_network(pages, browser, scheme):
    context = browser.new_context(color_scheme=scheme, offline=True, viewport={"width": 1300, "height": 900})
    for path, soup in pages.items():
        said, asked = [], []
        page = context.new_page()
        page.on("console", lambda message, said=said: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.as_uri(), wait_until="load")
        page.wait_for_function("window.MathJax === undefined || MathJax.startup?.promise !== undefined")
        page.evaluate("window.MathJax?.startup?.promise")
        n_equations = len(soup.select("span.math, div.math"))
        assert page.locator("mjx-container").count() >= n_equations
        assert page.locator("mjx-merror").count() == 0
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        wide = "Math.max(...[...document.querySelectorAll('article mjx-container[display=true]')].map("
        wide += "e => e.scrollWidth - e.clientWidth), 0)"
        assert page.evaluate(wide) <= 2, f"{path.name}: an equation is wider than the page"
        scrolled = "[...document.querySelectorAll('article div.cell_input pre')].filter("
        scrolled += "e => e.scrollWidth > e.clientWidth).map(e => e.textContent.slice(0, 60))"
        assert page.evaluate(scrolled) == [], f"{path.name}: code is wider than the page"
        for display in page.locator(".plotly-graph-div").all():
            assert display.locator("canvas, .main-svg").count() > 0
        assert said == [], path.name
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == [], path.name
        page.close()
    context.close()


@pytest.mark.slow
def test_search_finds_a_term_offline(pages, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((SITE / "search.html").as_uri() + "?q=posterior")
    page.locator("ul.search", has_text="robot arm").wait_for(timeout=20_000)  # results come one by one
    context.close()
