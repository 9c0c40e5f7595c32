"""A person with a plain HTTP client: keeps cookies, copies hidden fields, runs no script."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
from gate import Account, Gate

PAGE = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@dataclass
class Form:
    action: str = ""
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.inside = False
        self.title = ""
        self.in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(a.get("action", ""), a.get("method", "get").lower()))
            self.inside = True
        elif tag == "title":
            self.in_title = True
        elif self.inside and tag in ("input", "textarea") and "name" in a:
            kind = a.get("type", "text").lower()
            if kind in ("checkbox", "radio") and "checked" not in a and "required" not in a:
                return
            if kind == "submit":
                return
            self.forms[-1].fields[a["name"]] = a.get("value", "")
        elif self.inside and tag == "button" and a.get("name"):
            self.forms[-1].buttons[a["name"]] = a.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False
        elif tag == "title":
            self.in_title = False

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title += data


class Page:
    """What came back, and the forms on it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.url = str(response.url)
        self.text = response.text
        parser = _Forms()
        parser.feed(self.text)
        self.forms, self.title = parser.forms, parser.title

    def form_with(self, name: str) -> Form | None:
        return next((form for form in self.forms if name in form.fields), None)

    def __repr__(self) -> str:
        return f"<{self.status} {self.url} {self.title!r}>"


class Person:
    """One browser without scripts, in the hands of the owner of an account."""

    def __init__(self, gate: Gate, account: Account) -> None:
        self.gate, self.account = gate, account
        self.http = httpx.Client(verify=gate.tls, follow_redirects=True, timeout=60)

    def visit(self, url: str) -> Page:
        return Page(self.http.get(url, headers=PAGE))

    def submit(self, page: Page, form: Form, **values: str) -> Page:
        data = form.fields | values
        url = urljoin(page.url, form.action or page.url)
        origin = "/".join(url.split("/")[:3])
        headers = PAGE | {"Origin": origin}
        if form.method == "get":
            return Page(self.http.get(url, params=data, headers=headers))
        return Page(self.http.post(url, data=data, headers=headers))

    def answer(self, page: Page) -> Page:
        """Answers what the gate asks for, until it asks no more."""
        for _ in range(6):
            if form := page.form_with("password"):
                page = self.submit(page, form, username=self.account.name, password=self.account.password)
            elif form := page.form_with("code"):
                page = self.submit(page, form, code=self.account.code())
            else:
                return page
        raise AssertionError(f"the gate asks and asks: {page!r}\n{page.text[:3000]}")

    def sign_in(self, url: str) -> Page:
        """Goes to a page of an app, is asked, answers, and stands on that page."""
        page = self.answer(self.visit(url))
        assert page.status < 400 and page.url == url, f"{page!r}\n{page.text[:3000]}"
        return page

    def cookies(self, host: str) -> str:
        """The `Cookie` header that this browser would send to the host (for WebSockets)."""
        request = httpx.Request("GET", f"https://{host}/")
        self.http.cookies.set_cookie_header(request)
        return request.headers.get("cookie", "")

    def close(self) -> None:
        self.http.close()
