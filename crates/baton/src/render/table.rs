//! Columns of text that line up, and fit the terminal.

use std::fmt::Write as _;

use super::{Look, Paint};

/// Spaces between two columns.
const GAP: usize = 2;

/// Narrowest a column gets that gives way to others.
const SHRUNK_MIN: usize = 8;

/// A table with a heading.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    cells: Vec<Cell>,
    notes: Vec<Cell>,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// How it lines up and gives way.
    pub fit: Fit,
}

/// How a column lines up, and whether it gives way when the terminal is narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Left, as wide as its widest cell.
    Left,
    /// Right, for numbers.
    Right,
    /// Left, and cut with an ellipsis when there is no room.
    Cut,
}

/// A cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A cell with a meaning. The text is made safe for terminals.
    pub fn painted(text: impl AsRef<str>, paint: Paint) -> Cell {
        Cell { text: super::safe(text.as_ref()).into_owned(), paint }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::painted(text, Paint::None)
    }
}

impl Table {
    /// A table of these columns.
    pub fn new<const N: usize>(columns: [(&'static str, Fit); N]) -> Table {
        let columns = columns.map(|(heading, fit)| Column { heading, fit });
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(Row { cells: cells.to_vec(), notes: Vec::new() });
    }

    /// Adds a sentence below the last row.
    pub fn note(&mut self, text: impl AsRef<str>, paint: Paint) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push(Cell::painted(text, paint));
        }
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, indented by so many columns.
    pub fn render(&self, look: Look, indent: usize) -> String {
        let widths = self.widths(look.columns.saturating_sub(indent));
        let headings = self.columns.iter();
        let headings = headings.map(|column| Cell::painted(column.heading, Paint::Dim)).collect();
        let headings = Row { cells: headings, notes: Vec::new() };
        let margin = " ".repeat(indent);
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let _ = writeln!(text, "{margin}{}", self.line(&row.cells, &widths, look));
            for note in &row.notes {
                let room = look.columns.saturating_sub(indent + GAP).max(SHRUNK_MIN);
                for line in super::wrapped(&note.text, room) {
                    let _ = writeln!(text, "{margin}  {}", look.paint(note.paint, &line));
                }
            }
        }
        text
    }

    fn line(&self, row: &[Cell], widths: &[usize], look: Look) -> String {
        let mut line = String::new();
        let mut owed = 0;
        for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
            let text = cut(&cell.text, *width);
            let pad = width.saturating_sub(text.chars().count());
            let (before, after) = match column.fit {
                Fit::Right => (pad, 0),
                Fit::Left | Fit::Cut => (0, pad),
            };
            if !text.is_empty() {
                line.push_str(&" ".repeat(owed + before));
                line.push_str(&look.paint(cell.paint, &text));
                owed = after + GAP;
            } else {
                owed += width + GAP;
            }
        }
        line
    }

    /// The widest cell of each column; where that is too much, `Cut` columns give way, the widest
    /// of them first.
    fn widths(&self, room: usize) -> Vec<usize> {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(index));
            let heading = self.columns[index].heading.chars().count();
            cells.map(|cell| cell.text.chars().count()).fold(heading, usize::max)
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let widest = (0..widths.len())
                .filter(|index| self.columns[*index].fit == Fit::Cut)
                .filter(|index| widths[*index] > SHRUNK_MIN)
                .max_by_key(|index| widths[*index]);
            match widest {
                Some(index) => widths[index] -= 1,
                None => break,
            }
        }
        widths
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.push('\u{2026}');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_give_way() {
        let columns = [("NAME", Fit::Left), ("COUNT", Fit::Right), ("ERROR", Fit::Cut)];
        let mut table = Table::new(columns);
        table.row(["a".into(), "7".into(), "".into()]);
        table.row(["longer".into(), "12345678".into(), "x".repeat(80).into()]);
        let text = table.render(Look { columns: 40, colours: false }, 2);
        assert_eq!(
            text,
            "  NAME       COUNT  ERROR\n  a              7\n  longer  12345678  \
             xxxxxxxxxxxxxxxxxxx\u{2026}\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 40));
    }

    #[test]
    fn colours_do_not_count() {
        let mut table = Table::new([("A", Fit::Left), ("B", Fit::Left)]);
        table.row([Cell::painted("up", Paint::Good), "x".into()]);
        table.row([Cell::painted("down", Paint::Bad), "y".into()]);
        let look = Look { columns: 80, colours: true };
        assert_eq!(
            table.render(look, 0),
            "\x1b[2mA\x1b[0m     \x1b[2mB\x1b[0m\n\x1b[32mup\x1b[0m    x\n\x1b[31mdown\x1b[0m  y\n"
        );
    }
}
