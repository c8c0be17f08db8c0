"""Building the site: same database, same bytes; no network; a failed build changes nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import html5lib
import pytest
import synthetic
from sites import BOARD, build, make_place
from sqlalchemy import select

from benchmark.errors import InputError
from db.migrate import upgrade
from db.schema import Protocol
from db.session import Database
from sitegen import BrokenLinkError
from sitegen.links import Links, check


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database, evidence and a built site."""
    return make_place(tmp_path_factory.mktemp("site"))


def files_of(site: Path) -> dict[str, bytes]:
    return {str(p.relative_to(site)): p.read_bytes() for p in sorted(site.rglob("*")) if p.is_file()}


def pages(place: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((place / "public").rglob("*.html")):
        yield str(path.relative_to(place / "public")), path.read_text(encoding="utf-8")


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(place, tmp_path / "copy"))


# Bytes


def test_the_same_database_gives_the_same_bytes(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "board.db", tmp_path)
    shutil.copytree(place / "artifacts", tmp_path / "artifacts")
    report = build(tmp_path)
    assert report.built == 6
    assert files_of(tmp_path / "public") == files_of(place / "public")


def test_processes_of_their_own_build_the_same_rows(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["sitegen.build"], "ALONE", 1)
    shutil.copy(place / "board.db", tmp_path)
    shutil.copytree(place / "artifacts", tmp_path / "artifacts")
    build(tmp_path, jobs=2)
    assert files_of(tmp_path / "public") == files_of(place / "public")


def test_nothing_is_built_again_when_nothing_changed_and_one_row_when_one_model_joined(copied: Path) -> None:
    before = files_of(copied / "public")
    assert build(copied).built == 0
    assert files_of(copied / "public") == before
    database = Database(f"sqlite:///{copied / 'board.db'}")
    with database.read() as session:
        newest = session.scalars(select(Protocol).order_by(Protocol.version.desc())).first()
        assert newest is not None
    made = synthetic.Board(1, newest.id, 40, {str(k): k for k in range(6)})
    slug = synthetic.add_model(database, made)
    database.engine.dispose()
    report = build(copied)
    assert report.built == 1
    assert slug in (copied / "public" / BOARD / "board.csv").read_text()


def test_a_page_edited_in_the_site_is_made_again(copied: Path) -> None:
    shutil.rmtree(copied / ".public-cache")
    build(copied)
    before = files_of(copied / "public")
    page = next((copied / "public" / BOARD / "models").glob("*/index.html"))
    page.write_text("edited in place")
    assert build(copied).built >= 1
    assert files_of(copied / "public") == before


def test_pictures_come_back_with_their_evidence(copied: Path) -> None:
    before = files_of(copied / "public")
    shutil.rmtree(copied / ".public-cache")
    (copied / "artifacts").rename(copied / "elsewhere")
    build(copied)
    assert not list((copied / "public").rglob("sample-linf-*.png"))
    (copied / "elsewhere").rename(copied / "artifacts")
    assert build(copied).built == 6
    assert files_of(copied / "public") == before


def test_a_file_lost_from_the_site_is_there_again_after_two_builds(copied: Path) -> None:
    before = files_of(copied / "public")
    for page in (copied / "public" / BOARD / "models").iterdir():
        (page / "samples.csv").unlink()
    build(copied)
    assert files_of(copied / "public") == before
    build(copied)
    assert files_of(copied / "public") == before


def test_what_a_killed_build_left_is_not_believed(copied: Path) -> None:
    before = files_of(copied / "public")
    build(copied)
    spare = copied / ".public-spare"
    (spare / ".curveboard-site").unlink()
    page = next((spare / BOARD / "models").iterdir()) / "index.html"
    page.unlink()
    page.write_text("half a page")
    (spare / "stray.html").write_text("stray")
    build(copied)
    assert files_of(copied / "public") == before


# Failing


def test_a_failed_build_leaves_the_old_site(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(copied / "public")
    monkeypatch.setattr(sys.modules["sitegen.build"], "all_pages", lambda _: {})
    with pytest.raises(BrokenLinkError, match="internal links lead nowhere, so the old site was kept"):
        build(copied)
    assert files_of(copied / "public") == before
    assert sorted(p.name for p in copied.iterdir()) == [
        ".public-cache",
        ".public.lock",
        "artifacts",
        "board.db",
        "public",
    ]


def test_a_folder_that_is_no_site_is_left_alone(copied: Path) -> None:
    (copied / "public" / ".curveboard-site").unlink()
    with pytest.raises(InputError, match="is no built site; it is left alone"):
        build(copied)


@pytest.mark.parametrize("target", ["missing.html", "../outside.html", "/absolute.html", "b.html#nowhere", "#nowhere"])
def test_a_broken_internal_link_is_found(target: str) -> None:
    found = {"x/a.html": Links({target}), "x/b.html": Links(set(), {"there"})}
    with pytest.raises(BrokenLinkError, match=re.escape(f"x/a.html -> {target}")):
        check(found, ["x/a.html", "x/b.html"])


def test_good_links_are_not_complained_about() -> None:
    links = {"b.html", "b.html#there", "../c.csv", "https://example.org/x", "?norm=l2", "#top"}
    check({"x/a.html": Links(links, {"top"}), "x/b.html": Links(set(), {"there"})}, ["x/a.html", "x/b.html", "c.csv"])


# Pages


def test_every_page_is_valid_html(place: Path) -> None:
    for name, text in pages(place):
        parser = html5lib.HTMLParser(strict=True)
        try:
            parser.parse(text)
        except html5lib.html5parser.ParseError as error:
            pytest.fail(f"{name}: {error} at {parser.tokenizer.stream.position()}")
        ids = re.findall(r'\sid="([^"]*)"', text)
        assert len(ids) == len(set(ids)), f"{name} has an id twice"
        assert len(re.findall("<h1", text)) == 1, name
        assert '<html lang="en">' in text


def test_hostile_texts_are_only_text(place: Path) -> None:
    for name, text in pages(place):
        assert "<script>alert" not in text, name
    for path in (place / "public").rglob("*.svg"):
        ET.fromstring(path.read_text(encoding="utf-8"))
        assert "<script>" not in path.read_text(encoding="utf-8")
    board = (place / "public" / BOARD / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in board


def test_nothing_is_asked_of_another_host(place: Path) -> None:
    for name, text in pages(place):
        loaded = re.findall(r'<(?:script|link|img|iframe|source)[^>]*\s(?:src|href)="([^"]+)"', text)
        assert not [url for url in loaded if "//" in url], name
    for path in (place / "public" / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), path.name


def test_rows_that_cannot_be_ranked_stand_apart_with_the_reason(place: Path) -> None:
    board = (place / "public" / BOARD / "index.html").read_text(encoding="utf-8")
    ranked, _, apart = board.partition('<section id="apart">')
    assert "stale: evaluated by version 2, the board has 3" in apart
    assert "incomplete: failed: clever linf, clever l2 and clever l1" in apart
    assert ranked.count('<td class="rank">') == 4
    failed = next(text for name, text in pages(place) if "the logits of image 3 are NaN" in text)
    assert "Not ranked" in failed


def test_flags_are_explained_in_plain_words(place: Path) -> None:
    text = next(text for name, text in pages(place) if "12 % of the gradients are zero" in text)
    assert "What it means: The gradient is exactly zero on some images." in text


def test_the_changelog_tells_the_story(place: Path) -> None:
    text = (place / "public" / "changes" / "index.html").read_text(encoding="utf-8")
    assert "challenge: Eve was accepted against standard-training-a" in text
    assert "3 samples have a nearer example, 1 of them had none before" in text
    assert "50.0 → 42.5 %, rank 1 → 2" in text


def test_the_feed_is_atom_and_dated_by_its_newest_entry(place: Path) -> None:
    atom = "{http://www.w3.org/2005/Atom}"
    feed = ET.parse(place / "public" / "changes" / "atom.xml").getroot()
    assert feed.tag == f"{atom}feed"
    entries = feed.findall(f"{atom}entry")
    assert len(entries) == 7
    assert feed.findtext(f"{atom}updated") == entries[0].findtext(f"{atom}updated") == "2026-03-03T12:00:00+00:00"
    assert len({entry.findtext(f"{atom}id") for entry in entries}) == 7


def test_pages_stay_small(place: Path) -> None:
    for name, text in pages(place):
        assert len(text.encode()) < 300_000, name


def test_the_board_as_of_a_day(copied: Path) -> None:
    moment = synthetic.START + timedelta(hours=2, minutes=59)
    report = build(copied, as_of=moment)
    assert report.rows == 3
    board = (copied / "public" / "index.html").read_text(encoding="utf-8")
    assert "as it stood on 2026-03-01" in board


# Files


def test_the_files_say_what_the_pages_say(place: Path) -> None:
    site = place / "public"
    rows = list(csv.DictReader(io.StringIO((site / BOARD / "board.csv").read_text(encoding="utf-8"))))
    value = json.loads((site / BOARD / "board.json").read_text(encoding="utf-8"))
    assert len(rows) == len(value["models"]) == 6
    connection = sqlite3.connect(site / "curveboard.sqlite")
    try:
        for row in rows:
            (share,) = connection.execute(
                "SELECT value FROM robust_accuracy WHERE slug = ? AND threat = 'l2' AND eps = 0.5", (row["slug"],)
            ).fetchone()
            assert share == pytest.approx(float(row["l2_0.5"]))
    finally:
        connection.close()
    ranked = [row for row in rows if row["status"] == "complete"]
    at = {entry["eps"]: entry["models"] for entry in value["ranks"]["l2"]}[0.5]
    for row in ranked:
        better = sum(float(other["l2_0.5"]) > float(row["l2_0.5"]) for other in ranked)
        rank, low, high = at[row["slug"]]
        assert rank == better + 1
        assert low <= rank <= high


def test_the_samples_of_a_model_are_its_ledger(place: Path) -> None:
    site = place / "public" / BOARD / "models" / "dropout-e"
    rows = list(csv.DictReader(io.StringIO((site / "samples.csv").read_text(encoding="utf-8"))))
    value = json.loads((site / "model.json").read_text(encoding="utf-8"))
    distances = [float(row["distance_l1"]) for row in rows]
    point = value["threats"]["l1"]["published"][1]
    assert point["robust_accuracy"]["value"] == pytest.approx(sum(d > point["eps"] for d in distances) / len(rows))


def test_the_description_for_machines_has_the_checksums_of_its_files(place: Path) -> None:
    import hashlib

    site = place / "public"
    value = json.loads((site / "croissant.json").read_text(encoding="utf-8"))
    assert value["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for entry in value["distribution"]:
        assert hashlib.sha256((site / entry["contentUrl"]).read_bytes()).hexdigest() == entry["sha256"]
    columns = {field["source"]["extract"]["column"] for field in value["recordSet"][0]["field"]}
    assert columns == set(next(csv.reader(io.StringIO((site / BOARD / "board.csv").read_text(encoding="utf-8")))))


def test_pictures_are_there_for_samples_with_evidence(place: Path) -> None:
    folder = place / "public" / BOARD / "models" / "dropout-e"
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert len(list(folder.glob("sample-*.png"))) == len(set(re.findall(r'src="(sample-[^"]+)"', text))) > 10
    assert re.search(r'alt="Sample \d+, a \d: clean image, adversarial example at linf distance', text)


def test_an_empty_database_makes_a_site_that_says_so(tmp_path: Path) -> None:
    upgrade(Database(f"sqlite:///{tmp_path / 'board.db'}"))
    report = build(tmp_path)
    assert report.boards == 0
    assert "There is no board yet" in (tmp_path / "public" / "index.html").read_text(encoding="utf-8")


def test_the_site_is_built_without_torch() -> None:
    code = "import sys, sitegen, sitegen.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_feed_of_a_site_whose_address_is_known_has_whole_links(copied: Path) -> None:
    build(copied, address="https://example.org/board")
    atom = "{http://www.w3.org/2005/Atom}"
    feed = ET.parse(copied / "public" / "changes" / "atom.xml").getroot()
    links = [str(link.get("href")) for link in feed.iter(f"{atom}link")]
    assert "https://example.org/board/changes/atom.xml" in links
    assert all(link.startswith("https://example.org/board/changes/") for link in links)
