"""Radicale behind the gate: a calendar program with other methods and XML bodies."""

from __future__ import annotations

import pytest
from apps.radicale import Radicale

EVENT = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//stepgate//tests//EN\r
BEGIN:VEVENT\r
UID:boat-1\r
DTSTAMP:20261124T120000Z\r
DTSTART:20261201T090000Z\r
DTEND:20261201T100000Z\r
SUMMARY:Boat to the island\r
END:VEVENT\r
END:VCALENDAR\r
"""
WHO_AM_I = '<propfind xmlns="DAV:"><prop><current-user-principal/><owner/></prop></propfind>'
DECEMBER = """<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">
<D:prop><D:getetag/><C:calendar-data/></D:prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">
<C:time-range start="20261201T000000Z" end="20270101T000000Z"/></C:comp-filter></C:comp-filter></C:filter>
</C:calendar-query>"""


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = Radicale(home / "app")
    yield gate_for([{"app": "calendar", "hosts": ["calendar"], "upstream": {"urls": [app.url]}, **app.gate}])
    app.stop()


def test_radicale_takes_the_principal_from_the_gate(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("calendar", "/.web/"))
    answer = ann.http.request(
        "PROPFIND", gate.url("calendar"), content=WHO_AM_I, headers={"Depth": "0", "Content-Type": "application/xml"}
    )
    assert answer.status_code == 207, answer.text
    assert f"<href>/{ann.account.name}/</href>" in answer.text.replace("\n", ""), answer.text


def test_a_calendar_is_made_filled_asked_moved_and_emptied(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("calendar", "/.web/"))
    name = ann.account.name
    calendar = gate.url("calendar", f"/{name}/work/")
    assert ann.http.request("MKCALENDAR", calendar).status_code == 201
    put = ann.http.put(calendar + "boat@island.ics", content=EVENT, headers={"Content-Type": "text/calendar"})
    assert put.status_code == 201, put.text
    assert put.headers["etag"]
    report = ann.http.request("REPORT", calendar, content=DECEMBER, headers={"Depth": "1"})
    assert report.status_code == 207 and "Boat to the island" in report.text, report.text
    unchanged = ann.http.get(calendar + "boat@island.ics", headers={"If-None-Match": put.headers["etag"]})
    assert unchanged.status_code in (200, 304)
    twice = ann.http.put(calendar + "boat@island.ics", content=EVENT, headers={"If-None-Match": "*"})
    assert twice.status_code == 412, "the app's own refusals arrive as they are"
    moved = ann.http.request("MOVE", calendar + "boat@island.ics", headers={"Destination": calendar + "ferry.ics"})
    assert moved.status_code == 201, moved.text
    assert ann.http.delete(calendar + "ferry.ics").status_code == 200
    assert ann.http.get(calendar + "ferry.ics").status_code == 404


def test_nobody_becomes_ann_by_saying_so(gate, person_of):
    ann, lee = person_of(gate), person_of(gate)
    ann.sign_in(gate.url("calendar", "/.web/"))
    assert ann.http.request("MKCALENDAR", gate.url("calendar", f"/{ann.account.name}/private/")).status_code == 201
    lee.sign_in(gate.url("calendar", "/.web/"))
    for spelling in ("X-Remote-User", "X_Remote_User", "x-remote.user", "Remote-User"):
        forged = lee.http.request(
            "PROPFIND", gate.url("calendar"), content=WHO_AM_I, headers={"Depth": "0", spelling: ann.account.name}
        )
        assert f"/{ann.account.name}/" not in forged.text, (spelling, forged.text)
    assert lee.http.get(gate.url("calendar", f"/{ann.account.name}/private/")).status_code == 403


def test_a_program_without_a_session_is_told_where_to_sign_in(gate, person_of):
    nobody = person_of(gate)
    answer = nobody.http.request("PROPFIND", gate.url("calendar"), headers={"X-Remote-User": "ann"})
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["login_url"].startswith(gate.url("login"))
