//! How results reach the terminal: JSON when asked for, otherwise lines and tables for a person.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// `--json` was given.
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or what `text` makes for a person.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let mut json = serde_json::to_string_pretty(value)
                .map_err(|error| Failure::Refused(format!("cannot print the answer: {error}")))?;
            json.push('\n');
            raw(json.as_bytes())
        } else {
            raw(text().as_bytes())
        }
    }
}

/// Writes bytes to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Refused(format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// A table of JSON objects: a column for each `(heading, key)`; what an object lacks is a dash.
pub(crate) fn table(rows: &[Value], columns: &[(&str, &str)]) -> String {
    let mut lines = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|(_, key)| cell(&row[*key])).collect::<Vec<String>>()),
    );
    align(&lines)
}

/// Lines of cells, each column as wide as its widest cell; the last column is not padded.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            padded.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

/// A JSON value as a person wants to read it in a table.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_aligns_and_shows_what_is_missing_as_a_dash() {
        let rows = [json!({"name": "node-0", "ready": true}), json!({"name": "n"})];
        assert_eq!(
            table(&rows, &[("NAME", "name"), ("READY", "ready")]),
            "NAME    READY\nnode-0  yes\nn       -\n"
        );
    }
}
