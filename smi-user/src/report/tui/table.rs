//! The table of CPUs.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
};

use super::{
    Column, State, Theme,
    draw::panel,
    rows::{Row, count},
};

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State) {
    let rows = state.rows();
    let cursor = state.cursor_in(&rows);
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    let first = first_shown(cursor, rows.len(), room);
    state.page = room;
    state.columns = columns(area.width.into());
    if !state.columns.contains(&state.sort) {
        state.columns.push(state.sort);
        state
            .columns
            .sort_by_key(|column| Column::ALL.iter().position(|other| other == column));
        // It takes the place of another.
        while width(&state.columns) > area.width.into() {
            let Some(least) = state
                .columns
                .iter()
                .filter(|column| **column != state.sort)
                .min_by_key(|column| column.importance())
                .copied()
            else {
                break;
            };
            state.columns.retain(|column| *column != least);
        }
    }
    let beside = if rows.len() > room {
        format!("{}-{} of {}", first + 1, first + room, rows.len())
    } else {
        String::new()
    };
    let title = format!(
        "{} by {}",
        match rows.len() {
            1 => "1 CPU".to_owned(),
            n => format!("{} CPUs", count(n as u64)),
        },
        state.sort.name(),
    );
    let inner = panel(frame, area, state.theme, &title, &beside);
    let spare = (usize::from(area.width) - width(&state.columns)) / state.columns.len().max(1);
    // Wide terminals: columns further apart, within reason.
    let spare = spare.min(4);
    let mut lines = vec![heading(state, spare)];
    for (place, row) in rows.iter().enumerate().skip(first).take(room) {
        lines.push(line(state, row, spare, place == cursor, inner.width));
    }
    frame.render_widget(Text::from(lines), inner);
}

/// The columns that fit into `room`, the most important first, in their order.
fn columns(room: usize) -> Vec<Column> {
    let mut columns = Column::ALL.to_vec();
    while width(&columns) > room {
        let Some(least) = columns
            .iter()
            .min_by_key(|column| column.importance())
            .copied()
        else {
            break;
        };
        columns.retain(|column| *column != least);
    }
    columns
}

fn width(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width()).sum()
}

/// The first row that is shown, so that the cursor is, in the middle where it can be.
fn first_shown(cursor: usize, rows: usize, room: usize) -> usize {
    cursor
        .saturating_sub(room / 2)
        .min(rows.saturating_sub(room))
}

fn heading(state: &State, spare: usize) -> Line<'static> {
    let cells = state.columns.iter().map(|column| {
        let width = column.width() + spare;
        let style = Theme::heading();
        if *column == state.sort {
            let name = format!("{}{}", column.name(), state.theme.order(state.descending));
            Span::styled(format!("{name:>width$}"), style.underlined())
        } else {
            Span::styled(format!("{:>width$}", column.name()), style)
        }
    });
    cells.collect()
}

fn line(state: &State, row: &Row, spare: usize, cursor: bool, width: u16) -> Line<'static> {
    let cells: Vec<String> = state
        .columns
        .iter()
        .map(|column| {
            let width = column.width() + spare;
            format!("{:>width$}", row.text(*column))
        })
        .collect();
    let mut text = cells.concat();
    if cursor {
        text = format!("{text:<width$}", width = usize::from(width));
        return Line::styled(text, Theme::chosen());
    }
    Line::raw(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_always_shown() {
        for cursor in 0..256 {
            let first = first_shown(cursor, 256, 7);
            assert!((first..first + 7).contains(&cursor), "{cursor}: {first}");
            assert!(first + 7 <= 256);
        }
        assert_eq!(first_shown(1, 2, 7), 0);
    }

    #[test]
    fn narrow_terminals_keep_what_matters_most() {
        let wide = columns(200);
        assert_eq!(wide, Column::ALL);
        assert_eq!(columns(80).len(), 10);
        let narrow = columns(60);
        assert!(narrow.contains(&Column::Cpu) && narrow.contains(&Column::Max));
        assert!(!narrow.contains(&Column::Exposure));
        assert!(width(&narrow) <= 60);
    }
}
