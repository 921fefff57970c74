//! A plain aligned table that fits the terminal: numbers right-aligned, the last column left-aligned.

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::text::{printable, width_of, wrapped};

/// Smallest width of the last column beside the others.
const LEAST_ROOM: usize = 20;

/// Indentation of a cell below its row.
const BELOW: usize = 4;
/// Largest number of lines of a cell in the last column beside the others.
const MOST_LINES: usize = 2;

/// Rows under a header.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).into(), rows: Vec::new() }
    }

    /// Adds columns to the right.
    pub fn columns(&mut self, names: impl IntoIterator<Item = String>) {
        self.header.extend(names);
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }

    /// The table in `width` columns of a terminal. If the table is too wide, the last column is wrapped, or its cells
    /// stand below their rows; if this is still too wide, each row is a paragraph: the last cell, and below it the
    /// others with their headers.
    pub fn in_width(&self, width: usize) -> String {
        let whole = self.aligned(self.header.len());
        if whole.iter().all(|line| width_of(line) <= width) {
            return joined(whole);
        }
        let last = self.header.len().saturating_sub(1);
        let before = self.aligned(last);
        let indent = before.iter().map(|line| width_of(line)).max().unwrap_or(0) + 2;
        if indent.saturating_sub(2) > width {
            return self.paragraphs(width);
        }
        let room = width.saturating_sub(indent);
        let cells =
            || std::iter::once(&self.header).chain(&self.rows).map(|row| row.get(last).map_or("", String::as_str));
        // With little space, or with a long cell, the last cells stand below their rows in the whole width.
        let is_below = room < LEAST_ROOM || cells().any(|cell| wrapped(cell, room).len() > MOST_LINES);
        let lines = before.iter().zip(cells()).enumerate().flat_map(|(at, (line, cell))| {
            let is_header = at == 0;
            let (mut parts, indent) = match (is_below, is_header) {
                (true, true) => (vec![if width_of(cell) <= room { cell.to_owned() } else { String::new() }], indent),
                (true, false) => (std::iter::once(String::new()).chain(wrapped(cell, width - BELOW)).collect(), BELOW),
                (false, _) => (wrapped(cell, room), indent),
            };
            let first = format!("{line}{:1$}{2}", "", indent.saturating_sub(width_of(line)), parts.remove(0));
            let rest = parts.into_iter().map(move |part| format!("{:indent$}{part}", ""));
            std::iter::once(first).chain(rest).map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        });
        joined(lines.collect())
    }

    /// The first columns, aligned.
    fn aligned(&self, columns: usize) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.header[..columns]);
        table.add_rows(self.rows.iter().map(|row| &row[..columns.min(row.len())]));
        let last = self.header.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_cell_alignment(if index == last { CellAlignment::Left } else { CellAlignment::Right });
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn paragraphs(&self, width: usize) -> String {
        let mut lines = Vec::new();
        for row in &self.rows {
            let Some((title, cells)) = row.split_last() else { continue };
            lines.extend(wrapped(title, width));
            let cells = self.header.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
            // A cell stays on one line.
            let whole = |(header, cell): (&String, &String)| format!("{header} {cell}").trim().replace(' ', "\u{a0}");
            let cells = cells.map(whole).collect::<Vec<_>>().join(", ");
            let below = wrapped(&cells, width.saturating_sub(BELOW));
            lines.extend(below.iter().map(|line| format!("{:BELOW$}{line}", "").replace('\u{a0}', " ")));
        }
        joined(lines)
    }
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_width(super::width()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["rank", "p50", "95 % interval"]);
        table.columns(["over default", "over torch", "variant"].map(str::to_owned));
        for (rank, variant) in
            [("1", "TILE_M=128 TILE_N=64 WARPS=8 STAGES=3"), ("2", "TILE_M=64 TILE_N=64 WARPS=4 STAGES=2")]
        {
            let cells = [rank, "15.26 µs", "15.25 µs to 15.27 µs", "1.31x", "2.20x", variant];
            table.row(cells.map(str::to_owned).into());
        }
        table.row(["", "20.00 µs", "19.99 µs to 20.01 µs", "", "", "default"].map(str::to_owned).into());
        table
    }

    #[test]
    fn tables_fit_their_width() {
        insta::assert_snapshot!(table().in_width(120), @r#"
        rank       p50         95 % interval  over default  over torch  variant
           1  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x  TILE_M=128 TILE_N=64 WARPS=8 STAGES=3
           2  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x  TILE_M=64 TILE_N=64 WARPS=4 STAGES=2
              20.00 µs  19.99 µs to 20.01 µs                            default
        "#);
        insta::assert_snapshot!(table().in_width(90), @r#"
        rank       p50         95 % interval  over default  over torch  variant
           1  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x  TILE_M=128 TILE_N=64
                                                                        WARPS=8 STAGES=3
           2  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x  TILE_M=64 TILE_N=64
                                                                        WARPS=4 STAGES=2
              20.00 µs  19.99 µs to 20.01 µs                            default
        "#);
        insta::assert_snapshot!(table().in_width(80), @r#"
        rank       p50         95 % interval  over default  over torch  variant
           1  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x
           TILE_M=128 TILE_N=64 WARPS=8 STAGES=3
           2  15.26 µs  15.25 µs to 15.27 µs         1.31x       2.20x
           TILE_M=64 TILE_N=64 WARPS=4 STAGES=2
              20.00 µs  19.99 µs to 20.01 µs
           default
        "#);
        insta::assert_snapshot!(table().in_width(60), @r#"
        TILE_M=128 TILE_N=64 WARPS=8 STAGES=3
            rank 1, p50 15.26 µs,
            95 % interval 15.25 µs to 15.27 µs, over default 1.31x,
            over torch 2.20x
        TILE_M=64 TILE_N=64 WARPS=4 STAGES=2
            rank 2, p50 15.26 µs,
            95 % interval 15.25 µs to 15.27 µs, over default 1.31x,
            over torch 2.20x
        default
            p50 20.00 µs, 95 % interval 19.99 µs to 20.01 µs
        "#);
        for width in 20..130 {
            let shown = table().in_width(width);
            assert!(shown.lines().all(|line| width_of(line) <= width), "{width}:\n{shown}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert!(words(&shown).iter().filter(|word| word.starts_with("TILE_M=")).count() == 2, "{shown}");
        }
    }
}
