//! What a spreadsheet says about people, each value with its place. Spreadsheets differ: a byte-order mark, UTF-16,
//! `;` or a tab between the cells, CRLF, empty rows at the end, `sep=;` in front.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::super::user::email;
use crate::auth::users::Draft;
use crate::config::{Fault, did_you_mean};
use crate::domain::user::{GroupName, UserName, display_text};

/// One person of the sheet who can be had.
pub struct Row {
    pub draft: Draft,
    pub cells: Cells,
}

/// Where each value stands, for what only the accounts that are there can tell.
#[derive(Clone, Copy)]
pub struct Cells {
    pub name: Spot,
    pub email: Option<Spot>,
    pub groups: Option<Spot>,
}

/// A line and a column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    line: u32,
    column: u32,
}

/// All that a sheet holds, and all that is wrong with it.
#[derive(Default)]
pub struct Sheet {
    pub rows: Vec<Row>,
    pub faults: Vec<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Name,
    Display,
    Email,
    Groups,
}

const NAMES: [(&str, Column); 11] = [
    ("name", Column::Name),
    ("username", Column::Name),
    ("user", Column::Name),
    ("login", Column::Name),
    ("display", Column::Display),
    ("display_name", Column::Display),
    ("full_name", Column::Display),
    ("email", Column::Email),
    ("mail", Column::Email),
    ("groups", Column::Groups),
    ("group", Column::Groups),
];

/// What names of columns are told, whatever else is known.
const KNOWN: [&str; 4] = ["name", "display", "email", "groups"];

/// Reads bytes as a spreadsheet wrote them.
#[must_use]
pub fn read(file: &str, bytes: &[u8]) -> Sheet {
    let mut sheet = Sheet::default();
    match text_of(bytes) {
        Ok(text) => Reading { file: file.into(), text: &text, sheet: &mut sheet }.read(),
        Err((before, message)) => {
            let spot = spot_at(&before, before.len());
            let hint = "save it as \"CSV UTF-8\"".to_owned();
            sheet.faults.push(fault(&file.into(), spot, message, Some(hint)));
        }
    }
    sheet
}

/// The text; else what can be read of it, and what is wrong behind that.
fn text_of(bytes: &[u8]) -> Result<String, (String, String)> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).filter_map(|two| Some(unit(two.try_into().ok()?))).collect();
        String::from_utf16(&units).map_err(|_| (String::new(), "this is no UTF-16".to_owned()))
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
                let (good, _) = bytes.split_at(error.valid_up_to());
                (String::from_utf8_lossy(good).into_owned(), "this is no UTF-8".to_owned())
            })
        }
    }
}

struct Reading<'a> {
    file: Arc<str>,
    text: &'a str,
    sheet: &'a mut Sheet,
}

impl Reading<'_> {
    fn fault(&mut self, spot: Spot, message: String, hint: Option<String>) {
        self.sheet.faults.push(fault(&self.file, spot, message, hint));
    }

    fn read(mut self) {
        let (skipped, delimiter) = delimiter_of(self.text);
        let text = self.text.get(skipped..).unwrap_or_default();
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(text.as_bytes());
        let mut records = reader.records().filter_map(Result::ok).filter(|record| record.iter().any(|c| !c.is_empty()));
        let Some(header) = records.next() else {
            let hint = "its first line names the columns: name, display, email, groups".to_owned();
            return self.fault(Spot { line: 1, column: 1 }, "there is nobody in it".to_owned(), Some(hint));
        };
        let places = Places { text: self.text, skipped, delimiter };
        let columns = self.columns(&header, &places);
        if !columns.contains(&Some(Column::Name)) {
            let hint = "the first line names the columns: name, display, email, groups".to_owned();
            return self.fault(places.of(&header, 0), "no column is called name".to_owned(), Some(hint));
        }
        let mut names: HashMap<String, Spot> = HashMap::new();
        let mut addresses: HashMap<String, Spot> = HashMap::new();
        let mut count = 0;
        for record in records {
            count += 1;
            self.row(&record, &columns, &places, &mut names, &mut addresses);
        }
        if count == 0 {
            self.fault(places.of(&header, 0), "there is nobody below the line that names the columns".to_owned(), None);
        }
    }

    fn columns(&mut self, header: &StringRecord, places: &Places<'_>) -> Vec<Option<Column>> {
        let mut columns = Vec::with_capacity(header.len());
        for (at, title) in header.iter().enumerate() {
            let word = title.to_lowercase().replace([' ', '-'], "_");
            let found = NAMES.iter().find(|(name, _)| *name == word).map(|(_, column)| *column);
            match found {
                Some(column) if columns.contains(&Some(column)) => {
                    self.fault(places.of(header, at), format!("the column {title:?} stands twice"), None);
                }
                // A column without a title and without values is what spreadsheets leave behind.
                None if word.is_empty() => {}
                None => {
                    let hint = match word.as_str() {
                        "password" | "passwort" | "mot_de_passe" => {
                            "passwords do not belong in a file: people choose theirs behind the link".to_owned()
                        }
                        _ => did_you_mean(&word, KNOWN)
                            .unwrap_or_else(|| "columns are name, display, email, groups".to_owned()),
                    };
                    self.fault(places.of(header, at), format!("no column is called {title:?}"), Some(hint));
                }
                Some(_) => {}
            }
            columns.push(found);
        }
        columns
    }

    fn row(
        &mut self,
        record: &StringRecord,
        columns: &[Option<Column>],
        places: &Places<'_>,
        names: &mut HashMap<String, Spot>,
        addresses: &mut HashMap<String, Spot>,
    ) {
        let before = self.sheet.faults.len();
        if let Some((at, extra)) = record.iter().enumerate().skip(columns.len()).find(|(_, cell)| !cell.is_empty()) {
            let message = format!("{extra:?} stands in a column that has no name");
            let hint = "several groups stand in one cell, with a blank-free separator such as | between them";
            self.fault(places.of(record, at), message, Some(hint.to_owned()));
        }
        let spot = |column| columns.iter().position(|c| *c == Some(column)).map(|at| (at, places.of(record, at)));
        let cell = |column| spot(column).map_or("", |(at, _)| record.get(at).unwrap_or_default());
        let place = |column| spot(column).map(|(_, place)| place);
        let start = places.of(record, 0);
        let name_at = place(Column::Name).unwrap_or(start);

        let name = match UserName::parse(cell(Column::Name)) {
            Ok(name) => Some(name),
            Err(why) => {
                self.fault(name_at, why.to_string(), None);
                None
            }
        };
        if let Some(name) = &name {
            // Apps fold letter case: two such names would be one person there.
            if let Some(first) = names.insert(name.as_str().to_lowercase(), name_at) {
                self.fault(name_at, format!("{name} stands at line {} already", first.line), None);
                names.insert(name.as_str().to_lowercase(), first);
            }
        }
        let display = display_text(cell(Column::Display)).unwrap_or_else(|why| {
            self.fault(place(Column::Display).unwrap_or(start), format!("the display name: {why}"), None);
            String::new()
        });
        let mut address = None;
        if !cell(Column::Email).is_empty() {
            let at = place(Column::Email).unwrap_or(start);
            match email(cell(Column::Email)) {
                Ok(good) => {
                    // Under two names somebody is there twice; a mailbox for several people says so.
                    if let Some(first) = addresses.insert(good.to_lowercase(), at) {
                        let message = format!("{good} stands at line {} already", first.line);
                        self.fault(
                            at,
                            message,
                            Some("one person, two names? leave one address empty if not".to_owned()),
                        );
                        addresses.insert(good.to_lowercase(), first);
                    }
                    address = Some(good);
                }
                Err(why) => self.fault(at, format!("{why}"), None),
            }
        }
        let groups = self.groups(cell(Column::Groups), place(Column::Groups).unwrap_or(start));
        let cells =
            Cells { name: name_at, email: address.as_ref().and(place(Column::Email)), groups: place(Column::Groups) };
        if let (Some(name), true) = (name, self.sheet.faults.len() == before) {
            self.sheet.rows.push(Row { draft: Draft { name, display, email: address, groups }, cells });
        }
    }

    fn groups(&mut self, cell: &str, at: Spot) -> Vec<GroupName> {
        let mut groups = Vec::new();
        let mut seen = HashSet::new();
        // No name of a group holds one of these.
        for text in cell.split(['|', ',', ';']).map(str::trim).filter(|text| !text.is_empty()) {
            match GroupName::parse(text) {
                Ok(group) if seen.insert(group.clone()) => groups.push(group),
                Ok(_) => {}
                Err(why) => self.fault(at, format!("the group {text:?}: {why}"), None),
            }
        }
        groups.sort();
        groups
    }
}

/// What parts the cells, and how much stands before the first line: Excel reads and writes `sep=;`.
fn delimiter_of(text: &str) -> (usize, u8) {
    let end = text.find(['\r', '\n']).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    if let Some(&[delimiter]) = first.strip_prefix("sep=").map(str::as_bytes)
        && b",;\t|".contains(&delimiter)
    {
        let line_end = if rest.starts_with("\r\n") { 2 } else { usize::from(!rest.is_empty()) };
        return (end + line_end, delimiter);
    }
    let count = |delimiter: u8| first.bytes().filter(|b| *b == delimiter).count();
    // In countries with a decimal comma spreadsheets write `;`.
    let best = [b',', b';', b'\t'].into_iter().max_by_key(|d| (count(*d), *d == b',')).unwrap_or(b',');
    (0, best)
}

/// Finds the place of a cell again: the reader knows where a row begins, and hands its cells on without quotes.
struct Places<'a> {
    text: &'a str,
    skipped: usize,
    delimiter: u8,
}

impl Places<'_> {
    fn of(&self, record: &StringRecord, cell: usize) -> Spot {
        let start = record.position().map_or(0, |at| usize::try_from(at.byte()).unwrap_or(usize::MAX));
        let mut at = start.saturating_add(self.skipped);
        let bytes = self.text.as_bytes();
        // The line feed of a CRLF and empty lines belong to no row, but the reader stands before them.
        while matches!(bytes.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        let (mut passed, mut quoted, mut fresh) = (0, false, true);
        while passed < cell {
            match bytes.get(at) {
                None => break,
                Some(b'"') if quoted && bytes.get(at + 1) == Some(&b'"') => at += 1,
                Some(b'"') if quoted || fresh => {
                    quoted = !quoted;
                    fresh = false;
                }
                Some(b'\r' | b'\n') if !quoted => break,
                Some(byte) if *byte == self.delimiter && !quoted => {
                    passed += 1;
                    fresh = true;
                }
                Some(b' ') => {}
                Some(_) => fresh = false,
            }
            at += 1;
        }
        spot_at(self.text, at)
    }
}

fn spot_at(text: &str, at: usize) -> Spot {
    let before = text.get(..at).unwrap_or(text);
    let mut lines = 0;
    let mut rest = before;
    while let Some(end) = rest.find(['\r', '\n']) {
        lines += 1;
        let (_, from) = rest.split_at(end);
        rest = from.strip_prefix("\r\n").or_else(|| from.get(1..)).unwrap_or_default();
    }
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    Spot { line: number(lines), column: number(rest.chars().count()) }
}

pub fn fault(file: &Arc<str>, spot: Spot, message: String, hint: Option<String>) -> Fault {
    Fault { file: Arc::clone(file), line: spot.line, column: spot.column, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        read("p.csv", text.as_bytes()).faults.iter().map(ToString::to_string).collect()
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let sheet = read("p.csv", bytes);
        assert!(sheet.faults.is_empty(), "{:?}", sheet.faults);
        let groups = |row: &Row| row.draft.groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(" ");
        sheet.rows.iter().map(|row| format!("{}: {}", row.draft.name, groups(row))).collect()
    }

    #[test]
    fn a_sheet_is_read_as_the_program_that_wrote_it_means_it() {
        let expected = ["ann: ops staff", "lee: "];
        let wide: Vec<u8> =
            "\u{feff}name\tgroups\r\nann\tops|staff\r\nlee\t\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [
            &b"name,groups\nann,staff|ops\nlee,\n"[..],
            b"\xef\xbb\xbfname;groups\r\nann;\"staff;ops\"\r\nlee;\r\n;\r\n\r\n",
            b"sep=;\r\nName;Groups\r\nann;staff,ops,staff\r\nlee",
            b"groups,user\r\"staff, ops\",ann\r,lee",
            &wide,
        ] {
            assert_eq!(names(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_column_all_at_once() {
        let text = "name;display;email;groups\r\n\r\nann;\"Ann \"\"A\"\"\r\nLee\";ann@corp.example;\r\n\
                    mia;\u{e9}t\u{e9};no address;staff\r\nAnn;;;\r\nbo b;;ann@corp.example;a\\b;more\r\n";
        assert_eq!(
            told(text),
            [
                "p.csv:3:5: the display name: a name cannot hold U+000D",
                "p.csv:5:9: \"no address\" is no e-mail address: Missing domain or user",
                "p.csv:6:1: Ann stands at line 3 already",
                "p.csv:7:28: \"more\" stands in a column that has no name - several groups stand in one cell, with a \
             blank-free separator such as | between them",
                "p.csv:7:1: a name cannot hold U+0020",
                "p.csv:7:7: ann@corp.example stands at line 4 already - one person, two names? leave one address empty if not",
                "p.csv:7:24: the group \"a\\\\b\": a name cannot hold U+005C",
            ]
        );
    }

    #[test]
    fn a_sheet_without_names_and_one_with_passwords_are_told_apart_from_mistakes() {
        assert!(told("")[0].starts_with("p.csv:1:1: there is nobody in it"));
        assert!(told("name\n")[0].contains("nobody below"));
        assert!(told("nmae,email\nann,\n")[0].contains("did you mean \"name\"?"));
        assert!(
            told("name,password\nann,x\n")[0]
                .starts_with("p.csv:1:6: no column is called \"password\" - passwords do not")
        );
        let latin = read("p.csv", b"name,display\nann,\xe9t\xe9\n").faults;
        assert_eq!(latin[0].to_string(), "p.csv:2:5: this is no UTF-8 - save it as \"CSV UTF-8\"");
    }
}
