//! What do people see of the app? Pages of the year 2009, plain and decent, with everything inline.

use std::fmt::Write;

use super::transfer::Received;
use super::{LOG_OUT_URL, Visitor, staff};

const STYLE: &str = "
body { margin: 0; font: 15px/1.45 Verdana, Tahoma, sans-serif; color: #222; background: #e9e9e2; }
header { background: #33526e; color: #fff; padding: 10px 20px; }
header strong { font-size: 18px; } header span { float: right; } header a { color: #fff; }
nav { background: #d5d9cf; padding: 7px 20px; border-bottom: 1px solid #a9ae9f; }
nav a { color: #1c3c5a; margin-right: 14px; line-height: 24px; display: inline-block; }
main { max-width: 820px; margin: 18px auto; background: #fff; border: 1px solid #bdbdb0; padding: 8px 22px 22px; }
h1 { font-size: 20px; color: #33526e; } h2 { font-size: 16px; }
table { border-collapse: collapse; width: 100%; } th, td { border: 1px solid #bdbdb0; padding: 4px 8px; text-align: left; overflow-wrap: anywhere; }
th { background: #eef0ea; } label { display: inline-block; min-width: 70px; }
input, button { font: inherit; padding: 4px 6px; margin: 3px 0; max-width: 100%; } pre { background: #f4f4ee; padding: 8px; overflow: auto; }
footer { text-align: center; color: #555; font-size: 12px; padding: 0 0 20px; }
";

const MENU: [(&str, &str); 9] = [
    ("/", "Home"),
    ("/staff", "Staff list"),
    ("/upload", "Upload"),
    ("/download", "Archive (200 MB)"),
    ("/live", "Live clock"),
    ("/chat", "Echo"),
    ("/reports", "Reports"),
    ("/admin", "Administration"),
    ("/headers", "Headers"),
];

fn layout(visitor: &Visitor, title: &str, main: &str) -> String {
    let mut menu = String::new();
    for (href, name) in MENU {
        write(&mut menu, format_args!("<a href=\"{href}\">{name}</a> "));
    }
    let user = escape(visitor.user.as_deref().unwrap_or("guest"));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Staff Directory</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style></head>\n<body><header><span id=\"user\">{user} | <a href=\"{LOG_OUT_URL}\">Log out</a></span>\
         <strong>Staff Directory</strong></header>\n<nav>{menu}</nav>\n<main><h1>{title}</h1>\n{main}\n</main>\n\
         <footer>Staff Directory 2.3 - since 2009</footer></body></html>\n"
    )
}

pub(super) fn home(visitor: &Visitor) -> String {
    let mut rows = String::new();
    for (name, value) in &visitor.remote {
        write(&mut rows, format_args!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value)));
    }
    if rows.is_empty() {
        rows.push_str("<tr><td>None. Anyone could be reading this.</td></tr>");
    }
    let user = escape(visitor.user.as_deref().unwrap_or("stranger"));
    let visits = visitor.visits;
    let main = format!(
        "<p id=\"greeting\">Hello, {user}</p>\n<p>You opened <span id=\"visits\">{visits}</span> page(s) with this browser.</p>\n\
         <h2>How this app knows you</h2>\n<p>It has no sign-in of its own. It believes these request headers:</p>\n\
         <table>{rows}</table>\n<h2>Things to try</h2>\n<ul>\
         <li><a href=\"/reports\">Reports</a> want a fresh code, even when you are signed in.</li>\
         <li><a href=\"/admin\">Administration</a> is for few.</li>\
         <li><a href=\"/live\">Live clock</a> and <a href=\"/chat\">Echo</a> stay open: sign out in another tab and watch them.</li>\
         <li><a href=\"/staff\">Staff list</a> takes a form, <a href=\"/upload\">Upload</a> a file.</li></ul>"
    );
    layout(visitor, "Welcome", &main)
}

pub(super) fn staff(visitor: &Visitor, rows: &[staff::Row]) -> String {
    let mut table = String::new();
    for row in rows {
        write(
            &mut table,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&row.name),
                escape(&row.room),
                escape(&row.phone),
                escape(&row.added_by)
            ),
        );
    }
    let main = format!(
        "<table id=\"staff\"><tr><th scope=\"col\">Name</th><th scope=\"col\">Room</th><th scope=\"col\">Phone</th><th scope=\"col\">Added by</th></tr>{table}</table>\n\
         <h2>Add a person</h2>\n<form method=\"post\" action=\"/staff\">\
         <p><label for=\"name\">Name</label> <input id=\"name\" name=\"name\" required maxlength=\"80\"></p>\
         <p><label for=\"room\">Room</label> <input id=\"room\" name=\"room\" maxlength=\"80\"></p>\
         <p><label for=\"phone\">Phone</label> <input id=\"phone\" name=\"phone\" maxlength=\"80\"></p>\
         <p><button>Add</button></p></form>"
    );
    layout(visitor, "Staff list", &main)
}

pub(super) fn upload(visitor: &Visitor, received: Option<&Received>) -> String {
    let result = received.map_or_else(String::new, |file| {
        format!(
            "<h2>Received</h2>\n<table id=\"received\"><tr><th scope=\"row\">Name</th><td>{}</td></tr>\
             <tr><th scope=\"row\">Bytes</th><td>{}</td></tr><tr><th scope=\"row\">SHA-256</th><td>{}</td></tr></table>",
            escape(&file.name),
            file.size,
            file.sha256
        )
    });
    let main = format!(
        "<form method=\"post\" action=\"/upload\" enctype=\"multipart/form-data\">\
         <p><label for=\"file\">File</label> <input id=\"file\" type=\"file\" name=\"file\" required></p>\
         <p><button>Upload</button></p></form>\n<p>The file is measured and thrown away.</p>\n{result}"
    );
    layout(visitor, "Upload", &main)
}

pub(super) fn live(visitor: &Visitor) -> String {
    let main = "<p>The time at the server: <strong id=\"clock\">waiting</strong></p>\n<p id=\"state\">connecting</p>\n\
         <script>\nvar source = new EventSource('/live/events');\nvar state = document.getElementById('state');\n\
         source.onopen = function () { state.textContent = 'connected'; };\n\
         source.onerror = function () { state.textContent = 'disconnected'; };\n\
         source.onmessage = function (e) { document.getElementById('clock').textContent = JSON.parse(e.data).time; };\n</script>\n\
         <noscript><p>This page needs JavaScript.</p></noscript>";
    layout(visitor, "Live clock", main)
}

pub(super) fn chat(visitor: &Visitor) -> String {
    let main = "<form id=\"say\"><p><label for=\"words\">Words</label> <input id=\"words\" autocomplete=\"off\"> <button>Send</button></p></form>\n\
         <p id=\"state\">connecting</p>\n<pre id=\"log\" tabindex=\"0\" aria-label=\"What came back\"></pre>\n<script>\n\
         var scheme = location.protocol === 'https:' ? 'wss://' : 'ws://';\n\
         var socket = new WebSocket(scheme + location.host + '/chat/socket');\nvar state = document.getElementById('state');\n\
         socket.onopen = function () { state.textContent = 'connected'; };\n\
         socket.onclose = function () { state.textContent = 'disconnected'; };\n\
         socket.onmessage = function (e) { document.getElementById('log').textContent += e.data + '\\n'; };\n\
         document.getElementById('say').onsubmit = function () {\n  var words = document.getElementById('words');\n  \
         socket.send(words.value);\n  words.value = '';\n  return false;\n};\n</script>\n\
         <noscript><p>This page needs JavaScript.</p></noscript>";
    layout(visitor, "Echo", main)
}

pub(super) fn reports(visitor: &Visitor) -> String {
    let main = "<p>Salary totals by department. Handle with care.</p>\n<table id=\"reports\">\
         <tr><th scope=\"col\">Department</th><th scope=\"col\">People</th><th scope=\"col\">Total</th></tr>\
         <tr><td>Workshop</td><td>14</td><td>61 300</td></tr><tr><td>Sales</td><td>9</td><td>47 150</td></tr>\
         <tr><td>Office</td><td>6</td><td>24 900</td></tr></table>";
    layout(visitor, "Reports", main)
}

pub(super) fn admin(visitor: &Visitor) -> String {
    layout(visitor, "Administration", "<p>Rebuild the index. Empty the bin. Old apps trust whoever gets this far.</p>")
}

pub(super) fn missing(visitor: &Visitor) -> String {
    layout(visitor, "Not found", "<p>There is no such page. <a href=\"/\">Home</a></p>")
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
