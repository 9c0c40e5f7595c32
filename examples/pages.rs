//! Writes every page in each of its states to a folder, with what they link: to be looked at.
//!
//!     cargo run --example pages DIR [en|fr]

#![expect(clippy::print_stdout, reason = "says where they are")]

use std::fs;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use stepgate::pages::{Language, Pages, Site, Words, assets, samples};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("give a folder")?);
    let files = dir.join(".stepgate/static");
    fs::create_dir_all(&files)?;
    let wish = std::env::args().nth(2).unwrap_or_else(|| "en".to_owned());
    let language = Language::ALL.into_iter().find(|one| one.tag() == wish).ok_or("there is no such language")?;
    let site = Site { language, ..Site::sample() };
    let pages = Pages::with(Words::of, &TimeZone::UTC);
    let mut links = String::new();
    for (name, page) in samples() {
        let answer = pages.render(&site, &page);
        let html = std::str::from_utf8(answer.body())?;
        for file in html.split("/.stepgate/static/").skip(1).filter_map(|rest| rest.split('"').next()) {
            let asset = assets::get(file).ok_or("a page links a file that is not there")?;
            fs::write(files.join(file), asset.bytes)?;
        }
        fs::write(dir.join(format!("{name}.html")), html)?;
        links.push_str(&format!("<li><a href=\"{name}.html\">{name}</a>\n"));
    }
    let index = format!("<!doctype html><title>Pages</title><h1>Pages</h1><ul>{links}</ul>");
    fs::write(dir.join("index.html"), index)?;
    println!("{}", dir.join("index.html").display());
    Ok(())
}
