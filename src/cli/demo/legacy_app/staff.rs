//! Who works here? The rows that the form adds to, kept in memory and bounded.

/// Rows beyond this push the oldest added one out: a visitor of the demo cannot fill the memory.
const MOST_ROWS: usize = 200;
/// Characters kept of one field.
const LONGEST: usize = 80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) room: String,
    pub(super) phone: String,
    pub(super) added_by: String,
}

#[derive(Debug)]
pub(super) struct Directory {
    rows: Vec<Row>,
}

impl Directory {
    pub(super) fn with_samples() -> Self {
        let row = |(name, room, phone): (&str, &str, &str)| Row {
            name: name.into(),
            room: room.into(),
            phone: phone.into(),
            added_by: "import 2009".into(),
        };
        Self {
            rows: [("Ann Archer", "2.14", "4014"), ("Lee Lindqvist", "2.16", "4016"), ("Kim Okafor", "1.02", "4102")]
                .map(row)
                .into(),
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds what the form held; a missing field is empty.
    pub(super) fn add(&mut self, fields: &[(String, String)], added_by: &str) {
        let field = |wanted: &str| -> String {
            let value = fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str());
            value.chars().take(LONGEST).collect()
        };
        if self.rows.len() >= MOST_ROWS {
            self.rows.remove(0);
        }
        self.rows.push(Row {
            name: field("name"),
            room: field("room"),
            phone: field("phone"),
            added_by: added_by.chars().take(LONGEST).collect(),
        });
    }
}
