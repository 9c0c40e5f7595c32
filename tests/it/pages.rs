//! Every page in every state: it renders, says what it should, and goes out with its headers.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use stepgate::pages::{Pages, Site, Words, samples};

fn all() -> Vec<(String, http::Response<bytes::Bytes>)> {
    let pages = Pages::with(Words::english(), TimeZone::UTC);
    samples().into_iter().map(|(name, page)| (name, pages.render(&Site::sample(), &page))).collect()
}

#[test]
fn every_page_renders_in_every_state() {
    let pages = Pages::with(Words::english(), TimeZone::UTC);
    for (name, page) in samples() {
        if let Err(error) = pages.html(&Site::sample(), &page) {
            panic!("{name}: {error:#}");
        }
    }
}

/// `STEPGATE_DUMP_PAGES=dir cargo test --test it pages::` writes every page for looking at.
#[test]
fn pages_can_be_written_out_for_looking_at() {
    let Some(dir) = std::env::var_os("STEPGATE_DUMP_PAGES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&dir).expect("a directory");
    for (name, answer) in all() {
        std::fs::write(dir.join(format!("{name}.html")), answer.body()).expect("written");
    }
}
